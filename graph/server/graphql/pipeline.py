"""The pipeline: the phases that every GraphQL operation passes, whichever transport it came by.

Transports (`http.py`, `websocket.py`, `sse.py`) differ in framing only. Limits, budgets, masking and caching stand here, so that they hold on
all of them. In order:

    headers      the header fields, read once for all parts              graph/server/asgi/request_headers.py
    caller       token, address and request id of the request           graph/server/auth/callers.py
    replay       a byte-identical public request with a cached response  graph/server/graphql/response_replay.py
    request      the body as a `GraphQLRequest`                          graph/server/graphql/requests.py
    document     the text, or what a hash or the manifest stands for     graph/server/graphql/persisted_documents.py
    parse        parsed and validated once, then remembered              graph/kit/execution/engine.py, graph/kit/execution/validation.py
    size, cost   depth, aliases, selections; points by the cost rules    graph/kit/limits/query_size.py, graph/kit/limits/cost.py
    budget       charged now, what is not used is refunded at the end    graph/server/graphql/budget.py
    cache        a response whose tables have not changed since          graph/server/graphql/response_cache.py
    execute      a planned read, or else the reference executor          graph/kit/planner/planner.py, graph/kit/execution/engine.py
    encode       JSON, with errors masked and cost figures on request    graph/server/graphql/error_masking.py

A mutation passes the same phases; its fields commit before their payloads are resolved. A subscription passes them once up to the budget, and the
last two for each event (graph/kit/execution/shared_execution.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import structlog
from graphql import ExecutionResult

from graph.kit.auth import Caller
from graph.kit.context import Context, Services
from graph.kit.errors import UNAVAILABLE, Refused, unavailable
from graph.kit.execution.engine import Engine, Operation, SubscriptionEvent
from graph.kit.execution.leaf_executor import EdgeReader
from graph.kit.execution.shared_execution import EventResult, Make, SharedExecutions
from graph.kit.execution.subscription_keys import from_now, selection_key, stream_key
from graph.kit.limits.cost_rules import ROOT_WEIGHT
from graph.kit.planner.planner import Planner
from graph.server.asgi.deadline import OPERATION_SECONDS, current
from graph.server.graphql.budget import (
    MALFORMED_POINTS,
    BudgetService,
    Charge,
    EventBudget,
    answer_points,
    receiving_points,
    retry_after,
    wants_cost,
)
from graph.server.graphql.error_masking import MaskErrors
from graph.server.graphql.persisted_documents import PersistedDocuments
from graph.server.graphql.requests import GraphQLRequest, parse_json
from graph.server.graphql.response_cache import CachedResponse, CacheKey, ResponseCache
from graph.server.telemetry.telemetry import OperationRecord, Telemetry
from persistence.kit.database.commits import Outcome
from persistence.kit.database.replica import reading_as

log = structlog.get_logger(__name__)

OFF_LOOP_BYTES = 65_536  # Parsing takes up to 0.25 µs a byte: a longer body is parsed in a thread, so that nobody waits for it.
BODIES_AT_ONCE = 2  # A thread of Python takes the loop's time too.

ANONYMOUS = Caller(None, client_ip="", request_id="")


@dataclass(slots=True)
class EncodedResponse:
    """A whole GraphQL response as JSON, and what HTTP says beside it."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])
    public: bool = False
    """Whether every caller gets these very bytes."""
    question_hash: str | None = None
    """The hash of the question, if the response cache holds the response for everybody."""


class Pipeline:
    def __init__(
        self,
        engine: Engine,
        services: Services,
        documents: PersistedDocuments,
        limits: BudgetService,
        telemetry: Telemetry,
        *,
        planner: Planner | None = None,
        responses: ResponseCache | None = None,
        seconds: float = OPERATION_SECONDS,
    ) -> None:
        """Without `planner` the reference executor runs everything; without `responses` nothing is kept. `seconds` is the deadline of an event."""
        self._seconds = seconds
        self._engine, self._services, self._documents = engine, services, documents
        self._limits, self._telemetry, self._planner, self._responses = limits, telemetry, planner, responses
        self._sharing = SharedExecutions()
        self._parsing = asyncio.Semaphore(BODIES_AT_ONCE)

    async def read(self, body: bytes, caller: Caller) -> object:
        """The JSON of a request or a message, charged before it is parsed. Raises: Refused, Malformed."""
        await self._limits.read(caller, body)
        if len(body) <= OFF_LOOP_BYTES:
            return parse_json(body)
        async with self._parsing:
            return await asyncio.to_thread(parse_json, body)

    async def charge_padding(self, caller: Caller, padding_bytes: int) -> None:
        """Of a body in small pieces. Raises: Refused."""
        await self._limits.receive(caller, padding_bytes)

    def take_padding(self, caller: Caller, padding_bytes: int) -> None:
        """Of a body in small pieces that never was whole; the budget may fall below zero."""
        self._limits.take(caller, receiving_points(padding_bytes))

    async def charge_refusal(self, caller: Caller) -> None:
        """Of what became no operation: to take it in and refuse it costs, too. Raises: Refused, if the caller has no points left."""
        await self._limits.pay(caller, MALFORMED_POINTS)

    async def prepare_trusted(self) -> None:
        """Parse, validate and plan the documents of the manifest, so that the first request for one costs what the hundredth does."""
        for text in dict.fromkeys(self._documents.trusted.by_id.values()):
            try:
                operation = self._engine.prepare(text, None)
            except Refused as refused:
                log.warning("a document of the manifest cannot run", error=str(refused))
                continue
            if self._planner:
                self._planner.prepare(operation, self.context(operation, ANONYMOUS))
            await asyncio.sleep(0)

    async def prepare(self, request: GraphQLRequest, caller: Caller) -> Operation:
        """Raises: Refused."""
        with MaskErrors(caller), self._telemetry.preparing(request, caller):
            return await self._limits.prepare(await self._source(request, caller), request.operation_name, caller)

    async def _source(self, request: GraphQLRequest, caller: Caller) -> str:
        try:
            return await self._documents.source(request, caller)
        except Refused:
            await self.charge_refusal(caller)
            raise

    async def run(
        self, operation: Operation, request: GraphQLRequest, caller: Caller, cache_key: CacheKey | None = None
    ) -> EncodedResponse:
        """Run a query or a mutation, within a `Deadline` of its transport's. `cache_key` is that of its response, where it is known already.

        Raises: Refused, before execution began or at the deadline.
        """
        with (
            MaskErrors(caller),
            self._telemetry.operation(operation, request, caller) as record,
            self._telemetry.phase("execute", operation),
            reading_as(*caller.keys),
        ):
            try:
                return await self._run(operation, request, caller, record, cache_key)
            except asyncio.CancelledError:
                if (deadline := current()) is None or not deadline.expired:
                    raise
                raise deadline.refusal() from None

    async def _run(
        self, operation: Operation, request: GraphQLRequest, caller: Caller, record: OperationRecord, cache_key: CacheKey | None
    ) -> EncodedResponse:
        charge = await self._limits.charge(operation, request.variables, caller)
        if self._responses and cache_key is None:
            cache_key = await self._responses.key(operation, request.variables, caller)
        if self._responses and cache_key and (cached := await self._responses.lookup(cache_key)):
            charge.refund_unused(cached.cost)
            record.cost = charge.actual
            return self._response(operation, request, charge, cached.body, cache_key)
        return await self._execute(operation, request, caller, charge, record, cache_key)

    async def _execute(
        self,
        operation: Operation,
        request: GraphQLRequest,
        caller: Caller,
        charge: Charge,
        record: OperationRecord,
        cache_key: CacheKey | None,
    ) -> EncodedResponse:
        context = self.context(operation, caller)
        try:
            result, json, points = await self._result(operation, request, context)
            _refuse_transient(result)
        except Refused as refused:
            charge.refund_unused(1)
            refused.headers |= charge.headers
            raise
        body = encode(result, json=json)
        charge.refund_unused(max(points + context.scanned, answer_points(len(body))))
        record.errors, record.cost = result.errors or (), charge.actual
        if operation.reads is not None and not result.errors:
            if self._responses and cache_key:
                await self._responses.store(cache_key, CachedResponse(body, charge.actual or 1))
            return self._response(operation, request, charge, body, cache_key)
        if wants_cost(request.extensions):
            context.extensions["cost"] = charge.figures
        replayed = {"Idempotency-Replayed": "true"} if context.replayed else {}
        return EncodedResponse(_with_extensions(body, context.extensions), charge.headers | retry_after(result) | replayed)

    async def cache_key(self, question_hash: str, operation: Operation) -> CacheKey | None:
        """The present cache key of a question whose hash is known, if it can be cached."""
        return await self._responses.current_key(question_hash, operation) if self._responses else None

    async def replay(
        self, cache_key: CacheKey, operation: Operation, request: GraphQLRequest, caller: Caller
    ) -> tuple[CachedResponse, dict[str, str]] | None:
        """A response of this process's cache, charged and counted as a run is; None if it is not there. Raises: Refused."""
        if self._responses is None or (cached := self._responses.lookup_local(cache_key)) is None:
            return None
        with (
            MaskErrors(caller),
            self._telemetry.operation(operation, request, caller) as record,
            self._telemetry.phase("execute", operation),
        ):
            charge = await self._limits.charge(operation, request.variables, caller)
            charge.refund_unused(cached.cost)
            record.cost = charge.actual
            return cached, charge.headers

    def _response(
        self, operation: Operation, request: GraphQLRequest, charge: Charge, body: bytes, cache_key: CacheKey | None
    ) -> EncodedResponse:
        """Of a whole answer to a query, whose every field says what it reads."""
        assert operation.reads is not None
        if not wants_cost(request.extensions):
            public = not operation.reads.personal
            return EncodedResponse(
                body, charge.headers, public=public, question_hash=cache_key.question_hash if cache_key and public else None
            )
        return EncodedResponse(_with_extensions(body, {"cost": charge.figures}), charge.headers)

    async def _result(self, operation: Operation, request: GraphQLRequest, context: Context) -> tuple[ExecutionResult, bytes | None, int]:
        """The result, its `data` as JSON if the planner read it, and its price."""
        if self._planner and (answer := await self._planner.answer(operation, request.variables, context)) is not None:
            return ExecutionResult(None, list(answer.errors) or None), answer.json, answer.points
        result = await self._engine.execute(operation, request.variables, context, self._edges(operation, request, context))
        return result, None, operation.cost.actual(request.variables, result.data)

    def _edges(self, operation: Operation, request: GraphQLRequest, context: Context) -> EdgeReader | None:
        """What reads the edges of a payload or an event. Queries that were not planned are the reference executor's."""
        if self._planner is None or operation.is_query:
            return None
        return self._planner.edges(operation, request.variables, context)

    def context(self, operation: Operation, caller: Caller) -> Context:
        return Context.fresh(self._services, caller, cache=operation.is_query)

    async def stream(self, operation: Operation, request: GraphQLRequest, caller: Caller) -> AsyncGenerator[EncodedResponse]:
        """Run a subscription. Raises: Refused, before the first answer."""
        with MaskErrors(caller), self._telemetry.operation(operation, request, caller) as record:
            charge = await self._limits.charge(operation, request.variables, caller)
            charge.refund_unused(ROOT_WEIGHT)  # Its events are charged one by one.
            record.cost, event_budget = ROOT_WEIGHT, self._limits.event_budget(caller)
            extensions = {"cost": charge.figures} if wants_cost(request.extensions) else None
            try:
                async with aclosing(self._events(operation, request, caller, event_budget)) as events:
                    async for event_result in events:
                        await event_budget.pay(event_result.points)
                        record.event(event_result.errors)
                        yield EncodedResponse(_with_extensions(event_result.body, extensions), charge.headers)
                        extensions = None
            finally:
                event_budget.close()
                record.cost += event_budget.paid

    async def _events(
        self, operation: Operation, request: GraphQLRequest, caller: Caller, event_budget: EventBudget
    ) -> AsyncGenerator[EventResult]:
        """What the events give, executed once for all who select the same."""

        def fresh() -> Context:
            return Context.fresh(self._services, caller, cache=False)

        question, stream = selection_key(operation, request.variables), stream_key(operation, request.variables)
        context = fresh()
        context.pay = event_budget.pay
        with self._sharing.subscriber(stream, question, partial(self._prefetcher, operation, request), self._anonymous):
            async with aclosing(self._engine.subscribe(operation, request.variables, context)) as events:
                async for found in events:
                    if isinstance(found, ExecutionResult):
                        yield EventResult(encode(found), found.errors or ())
                    else:
                        make = partial(self._event_result, found, operation, request)
                        yield await self._sharing.result(question, found.event, fresh, caller, make)

    async def _prefetcher(self, operation: Operation, request: GraphQLRequest) -> AsyncGenerator[tuple[object, Make]]:
        """From now on, wherever the subscriber begins: history is executed for whoever reads it."""
        async with aclosing(self._engine.subscribe(from_now(operation), request.variables, self._anonymous())) as events:
            async for found in events:
                if isinstance(found, SubscriptionEvent):
                    yield found.event, partial(self._event_result, found, operation, request)

    def _anonymous(self) -> Context:
        return Context.fresh(self._services, ANONYMOUS, cache=False)

    async def _event_result(self, found: SubscriptionEvent, operation: Operation, request: GraphQLRequest, context: Context) -> EventResult:
        """One event's execution has the deadline of an operation: a subscription goes on after one that is late."""
        try:
            async with asyncio.timeout(self._seconds):
                result = await found.execute(context, self._edges(operation, request, context))
        except TimeoutError as error:
            result = ExecutionResult(errors=[unavailable(error)])
        body = encode(result)
        points = operation.cost.event(request.variables, result.data) + context.scanned
        return EventResult(body, result.errors or (), points=max(points, answer_points(len(body))))


def _refuse_transient(result: ExecutionResult) -> None:
    """Where nothing came of an operation because a part of the service is away, a status says it best. Raises: Refused."""
    if not result.errors or any(result.data.values() if result.data else ()):
        return
    deadline = current()
    committed = deadline is not None and deadline.outcome is Outcome.COMMITTED
    if not committed and all((error.extensions or {}).get("code") == UNAVAILABLE for error in result.errors):
        raise Refused(result.errors, {"Retry-After": "1"})


def _with_extensions(body: bytes, extensions: Mapping[str, Any] | None) -> bytes:
    return b'%b,"extensions":%b}' % (body[:-1], orjson.dumps(extensions)) if extensions else body


def encode(result: ExecutionResult, json: bytes | None = None) -> bytes:
    """`json` is the result's `data`, where it is JSON already."""
    if json is not None:
        errors = b'"errors":%b,' % orjson.dumps([error.formatted for error in result.errors]) if result.errors else b""
        return b'{%b"data":%b}' % (errors, json)
    response: dict[str, Any] = {"data": result.data}
    if result.errors:
        response = {"errors": [error.formatted for error in result.errors], **response}
    return orjson.dumps(response)


def refused_body(refused: Refused) -> bytes:
    """A response without `data`: nothing ran. Source: GraphQL specification, section 7.1."""
    return orjson.dumps({"errors": [error.formatted for error in refused.errors]})
