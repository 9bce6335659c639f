"""The interface of instrumentation: hooks around the phases of an operation. It never sees a caller's values."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from graph.kit.execution.engine import Operation

Phase = Literal["parse", "validate", "execute", "event"]
PlanOutcome = Literal["made", "refused", "failed"]


class Observer(Protocol):
    def phase(self, phase: Phase, operation: Operation | None = None) -> AbstractContextManager[object]:
        """Around one step; `event` is one event of a subscription. A document that is parsed and validated is no operation yet."""
        ...

    def batch(self, loader: str, keys: int) -> AbstractContextManager[object]:
        """Around one batch of a loader."""
        ...

    def plan(self, outcome: PlanOutcome) -> None:
        """A plan was made of a document, or none could be made, or one that was made has failed."""
        ...
