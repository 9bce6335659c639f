"""Records each operation as a log line and metrics. It sees phases and outcomes, never a token, a password or variables."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from graphql import GraphQLError, OperationType
from starlette.middleware import Middleware

from graph.kit.auth import Caller
from graph.kit.errors import INTERNAL, Refused
from graph.kit.execution.engine import Operation
from graph.kit.instrumentation import ObservedOperation, Phase, PlanOutcome
from graph.server.telemetry.logs import OperationLog
from graph.server.telemetry.metric_values import Histogram
from graph.server.telemetry.metrics import Metrics

UNKNOWN_LABEL = "unknown"  # A client that does not say who it is.
NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,99}")


class ReceivedRequest(Protocol):
    """What may be known of a request: `graph.server.graphql.requests.GraphQLRequest`."""

    @property
    def operation_name(self) -> str | None: ...
    @property
    def received(self) -> float: ...


class Telemetry:
    def __init__(self, metrics: Metrics, log: OperationLog) -> None:
        self.metrics, self._log = metrics, log

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        """What each request must pass for this kind of telemetry."""
        return ()

    async def close(self) -> None:
        """Send what is left."""

    def phase(self, phase: Phase, operation: ObservedOperation | None = None) -> AbstractContextManager[object]:
        return TimedStep(self.metrics.phases[phase])

    def batch(self, loader: str, keys: int) -> AbstractContextManager[object]:
        return TimedBatch(self.metrics.batches, loader, keys)

    def plan(self, outcome: PlanOutcome) -> None:
        self.metrics.plans.add(1, outcome)

    def preparing(self, request: ReceivedRequest, caller: Caller) -> PreparationRecord:
        return PreparationRecord(self, request, caller)

    def operation(self, operation: Operation, request: ReceivedRequest, caller: Caller) -> OperationRecord:
        return OperationRecord(self, operation, request, caller)

    def refused(self, refused: Refused, caller: Caller, operation_name: str | None = None) -> None:
        """Nothing ran."""
        codes = self.count(refused.errors)
        name = operation_name if operation_name and NAME.fullmatch(operation_name) else None
        self._log.write(caller, status="refused", codes=codes, name=name)

    def operation_started(self, seen: OperationRecord) -> None:
        if seen.operation.kind is OperationType.SUBSCRIPTION:
            self.metrics.subscriptions.add(1, seen.operation.root_field)
        else:
            self.metrics.active.add(1, seen.operation.kind.value)

    def operation_ended(self, seen: OperationRecord, status: str, seconds: float) -> None:
        operation, kind = seen.operation, seen.operation.kind.value
        if operation.kind is OperationType.SUBSCRIPTION:
            self.metrics.subscriptions.add(-1, operation.root_field)
        else:
            self.metrics.active.add(-1, kind)
            self.metrics.request.observe(seconds, operation.root_field, kind, status)
        if seen.cost is not None:
            self.metrics.cost.observe(seen.cost, operation.root_field, kind)
        for coordinate in operation.deprecated:
            self.metrics.deprecated.add(
                1, coordinate, seen.caller.client_name or UNKNOWN_LABEL, seen.caller.client_version or UNKNOWN_LABEL
            )
        codes = self.count(seen.errors) if seen.errors else ()
        self._log.write(
            seen.caller,
            status=status,
            codes=codes,
            name=operation.name,
            kind=kind,
            seconds=seconds,
            cost=seen.cost,
            events=seen.events or None,
            source=operation.source,
        )

    def count(self, errors: Sequence[GraphQLError]) -> list[str]:
        codes = [code_of(error) for error in errors]
        for code in codes:
            self.metrics.errors.add(1, code)
        return codes


def code_of(error: GraphQLError) -> str:
    return str((error.extensions or {}).get("code", INTERNAL))


class TimedStep:
    """Times a block."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._histogram.observe(time.perf_counter() - self._started)


class TimedBatch:
    """One batch of a loader."""

    __slots__ = ("_histogram", "_keys", "_loader")

    def __init__(self, histogram: Histogram, loader: str, keys: int) -> None:
        self._histogram, self._loader, self._keys = histogram, loader, keys

    def __enter__(self) -> None:
        self._histogram.observe(self._keys, self._loader)

    def __exit__(self, *_: object) -> None:
        pass


class PreparationRecord:
    """From a request to a validated operation."""

    __slots__ = ("_caller", "_request", "_telemetry")

    def __init__(self, telemetry: Telemetry, request: ReceivedRequest, caller: Caller) -> None:
        self._telemetry, self._request, self._caller = telemetry, request, caller

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if isinstance(error, Refused):
            self._telemetry.refused(error, self._caller, self._request.operation_name)


class OperationRecord:
    """The record of one operation, filled in while it runs."""

    __slots__ = ("_received", "_telemetry", "caller", "cost", "errors", "events", "operation")

    def __init__(self, telemetry: Telemetry, operation: Operation, request: ReceivedRequest, caller: Caller) -> None:
        self._telemetry, self.operation, self._received, self.caller = telemetry, operation, request.received, caller
        self.errors: Sequence[GraphQLError] = ()
        self.cost: int | None = None
        self.events = 0

    def event(self, errors: Sequence[GraphQLError]) -> None:
        """One event of a subscription went out."""
        self.events += 1
        if errors:
            self._telemetry.count(errors)

    def __enter__(self) -> Self:
        self._telemetry.operation_started(self)
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._received
        if isinstance(error, Refused):
            self.errors = error.errors
        self._telemetry.operation_ended(self, _status(self, error), seconds)


def _status(seen: OperationRecord, error: BaseException | None) -> str:
    if error is None:
        return "errors" if seen.errors else "ok"
    if isinstance(error, Refused):
        return "refused"
    return "failed" if isinstance(error, Exception) else "cancelled"
