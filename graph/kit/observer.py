"""Who watches operations run: told of their steps, never of a caller's values."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

Phase = Literal["parse", "validate", "execute", "event"]


class Observer(Protocol):
    def phase(self, phase: Phase) -> AbstractContextManager[object]:
        """Around one step of an operation; `event` is one event of a subscription."""
        ...

    def batch(self, loader: str, keys: int) -> AbstractContextManager[object]:
        """Around one batch of a loader."""
        ...
