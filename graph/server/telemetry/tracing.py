"""OpenTelemetry tracing: a span for each operation or event, with loader batches and SQL below it, exported by OTLP.

Imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set, so that tracing costs nothing where it is off. The SDK itself reads its other variables, such as
OTEL_EXPORTER_OTLP_HEADERS and OTEL_TRACES_SAMPLER. Source: the GraphQL working group's names of spans and attributes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from graphql import OperationType
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, StatusCode
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from graph.kit.auth import Caller
from graph.kit.execution.engine import Operation
from graph.kit.instrumentation import ObservedOperation, Phase
from graph.server.asgi.request_headers import RequestHeaders, headers_of
from graph.server.telemetry.logs import OperationLog
from graph.server.telemetry.metrics import Metrics
from graph.server.telemetry.telemetry import OperationRecord, PreparationRecord, ReceivedRequest, Telemetry

# What was done before there was an operation to have a span, with its begin and end in nanoseconds since 1970. Each request has a context of its own.
_steps: ContextVar[list[tuple[Phase, int, int]] | None] = ContextVar("steps", default=None)


class Tracing(Telemetry):
    """Telemetry that makes spans as well."""

    def __init__(self, metrics: Metrics, log: OperationLog, *, endpoint: str, service: str) -> None:
        super().__init__(metrics, log)
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("storegraph")

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        return (Middleware(TraceContext),)

    def preparing(self, request: ReceivedRequest, caller: Caller) -> PreparationRecord:
        _steps.set([])
        return super().preparing(request, caller)

    def phase(self, phase: Phase, operation: ObservedOperation | None = None) -> AbstractContextManager[object]:
        timed = super().phase(phase, operation)
        if phase == "event" and operation:
            return SpanScope(self._operation_span(operation), timed)
        return timed if operation else TracedStep(phase, timed)

    def batch(self, loader: str, keys: int) -> AbstractContextManager[object]:
        attributes = {"graphql.dataloader.name": loader, "graphql.dataloader.batch.size": keys}
        return SpanScope(self._tracer.start_span("dataloader_batch", attributes=attributes), super().batch(loader, keys))

    def operation(self, operation: Operation, request: ReceivedRequest, caller: Caller) -> OperationRecord:
        if operation.kind is OperationType.SUBSCRIPTION:  # It is open for hours: each of its events gets a span.
            return super().operation(operation, request, caller)
        steps = _steps.get() or []
        span = self._operation_span(operation, began=steps[0][1] if steps else None)
        for name, began, ended in steps:
            self._tracer.start_span(name, trace.set_span_in_context(span), start_time=began).end(ended)
        return TracedOperation(self, operation, request, caller, span)

    def statement(self, text: str) -> Callable[[], None]:
        """A `Watch` of the database."""
        return self._tracer.start_span(text.split(maxsplit=1)[0].upper(), attributes={"db.query.text": text}).end

    async def close(self) -> None:
        await asyncio.to_thread(self._provider.shutdown)

    def _operation_span(self, operation: ObservedOperation, *, began: int | None = None) -> Span:
        kind = operation.kind.value
        attributes = {
            "graphql.operation.type": kind,
            "graphql.operation.name": operation.name or "",
            "graphql.document.hash": f"sha256:{hashlib.sha256(operation.source.encode()).hexdigest()}",
        }
        return self._tracer.start_span(f"{kind} {operation.root_field}", attributes=attributes, start_time=began)


class SpanScope:
    """What happens in the block happens within this span."""

    def __init__(self, span: Span, inner: AbstractContextManager[object]) -> None:
        self._span, self._inner = span, inner

    def __enter__(self) -> None:
        self._token = context.attach(trace.set_span_in_context(self._span))
        self._inner.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._inner.__exit__(kind, error, traceback)
        context.detach(self._token)
        if error:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class TracedStep:
    """A step of preparing a document."""

    def __init__(self, phase: Phase, inner: AbstractContextManager[object]) -> None:
        self._phase: Phase = phase
        self._inner = inner

    def __enter__(self) -> None:
        self._began = time.time_ns()
        self._inner.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._inner.__exit__(kind, error, traceback)
        if (steps := _steps.get()) is not None:
            steps.append((self._phase, self._began, time.time_ns()))


class TracedOperation(OperationRecord):
    """An operation whose log line and span know each other."""

    __slots__ = ("_span", "_token")

    def __init__(self, telemetry: Telemetry, operation: Operation, request: ReceivedRequest, caller: Caller, span: Span) -> None:
        super().__init__(telemetry, operation, request, caller)
        self._span = span

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return super().__enter__()

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        super().__exit__(_kind, error, _traceback)
        if error or self.errors:
            self._span.set_attribute("graphql.response.error_count", len(self.errors))
            self._span.set_status(StatusCode.ERROR)
        context.detach(self._token)
        self._span.end()


class TraceContext:
    """Continues the trace that a request says it is part of. Source: W3C Trace Context."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        token = context.attach(propagate.extract(_carrier(headers_of(scope))))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def _carrier(headers: RequestHeaders) -> dict[str, str]:
    """As OpenTelemetry reads them."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
