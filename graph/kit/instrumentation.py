"""The interface of instrumentation: hooks around the phases of an operation. It never sees a caller's values."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

from graphql import OperationType

Phase = Literal["parse", "validate", "execute", "event"]
PlanOutcome = Literal["made", "refused", "failed"]


class ObservedOperation(Protocol):
    """What may be known of an operation: `graph.kit.execution.engine.Operation`."""

    @property
    def kind(self) -> OperationType: ...
    @property
    def name(self) -> str | None: ...
    @property
    def source(self) -> str: ...
    @property
    def root_field(self) -> str: ...


class Observer(Protocol):
    def phase(self, phase: Phase, operation: ObservedOperation | None = None) -> AbstractContextManager[object]:
        """Around one step; `event` is one event of a subscription. A document that is parsed and validated is no operation yet."""
        ...

    def batch(self, loader: str, keys: int) -> AbstractContextManager[object]:
        """Around one batch of a loader."""
        ...

    def plan(self, outcome: PlanOutcome) -> None:
        """A plan was made of a document, or none could be made, or one that was made has failed."""
        ...
