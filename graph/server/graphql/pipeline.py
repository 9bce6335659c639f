"""What every transport does with a request: prepare, run or stream, encode.

HTTP, WebSocket and SSE differ in framing only; limits, budgets, masking and caching stand here, so that they hold on all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import structlog
from graphql import ExecutionResult

from graph.kit.auth import Caller
from graph.kit.context import Context, Services
from graph.kit.errors import Refused
from graph.kit.execution.engine import Engine, Occurrence, Operation
from graph.kit.execution.shared_execution import Make, Sharing, Told, asked
from graph.kit.planner.planner import Planner
from graph.server.graphql.budget import Grant, Limits, retry_after, wanted
from graph.server.graphql.error_masking import Masked
from graph.server.graphql.persisted_documents import Documents
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.response_cache import Kept, Place, Responses
from graph.server.telemetry.telemetry import Seen, Telemetry
from persistence.kit.database.replica import reading_as

log = structlog.get_logger(__name__)

STRANGER = Caller(None, client_ip="", request_id="")


@dataclass(slots=True)
class Answer:
    """A whole GraphQL response as JSON, and what HTTP says beside it."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])
    public: bool = False
    """Whether everybody who asks gets these very bytes."""
    asked: str | None = None
    """What was asked, in `Responses`' word, if that keeps the answer for everybody."""


class Pipeline:
    def __init__(
        self,
        engine: Engine,
        services: Services,
        documents: Documents,
        limits: Limits,
        telemetry: Telemetry,
        *,
        planner: Planner | None = None,
        responses: Responses | None = None,
    ) -> None:
        """Without `planner` the reference executor runs everything; without `responses` nothing is kept."""
        self._engine, self._services, self._documents = engine, services, documents
        self._limits, self._telemetry, self._planner, self._responses = limits, telemetry, planner, responses
        self._sharing = Sharing()

    async def prepare_trusted(self) -> None:
        """Parse, validate and plan the documents of the manifest, so that the first request for one costs what the hundredth does."""
        for text in dict.fromkeys(self._documents.trusted.by_id.values()):
            try:
                operation = self._engine.prepare(text, None)
            except Refused as refused:
                log.warning("a document of the manifest cannot run", error=str(refused))
                continue
            if self._planner:
                self._planner.prepare(operation)
            await asyncio.sleep(0)

    async def prepare(self, request: GraphQLRequest, caller: Caller) -> Operation:
        """Raises: Refused."""
        with Masked(caller), self._telemetry.preparing(request, caller):
            return await self._limits.prepare(await self._documents.source(request, caller), request.operation_name, caller)

    async def run(self, operation: Operation, request: GraphQLRequest, caller: Caller) -> Answer:
        """Run a query or a mutation. Raises: Refused, before execution began."""
        with (
            Masked(caller),
            self._telemetry.operation(operation, request, caller) as seen,
            self._telemetry.phase("execute", operation),
            reading_as(*caller.names),
        ):
            grant = await self._limits.charge(operation, request.variables, caller)
            place = await self._responses.place(operation, request.variables, caller) if self._responses else None
            if self._responses and place and (kept := await self._responses.find(place)):
                grant.settle(kept.cost)
                seen.cost = grant.actual
                return self._answer(operation, request, grant, kept.body, place)
            return await self._made(operation, request, caller, grant, seen, place)

    async def _made(
        self, operation: Operation, request: GraphQLRequest, caller: Caller, grant: Grant, seen: Seen, place: Place | None
    ) -> Answer:
        context = self.context(operation, caller)
        try:
            result, json, points = await self._result(operation, request, context)
        except Refused as refused:
            grant.settle(1)
            refused.headers |= grant.headers
            raise
        grant.settle(points)
        seen.errors, seen.cost = result.errors or (), grant.actual
        if operation.reads is not None and not result.errors:
            body = encode(result, json=json)
            if self._responses and place:
                await self._responses.keep(place, Kept(body, grant.actual or 1))
            return self._answer(operation, request, grant, body, place)
        if wanted(request.extensions):
            context.extensions["cost"] = grant.figures
        replayed = {"Idempotency-Replayed": "true"} if context.replayed else {}
        return Answer(encode(result, context.extensions, json), grant.headers | retry_after(result) | replayed)

    async def repeat(self, asked: str, operation: Operation, request: GraphQLRequest, caller: Caller) -> tuple[Kept, dict[str, str]] | None:
        """What is kept for a question that was asked before, charged and counted as a run is; None if nothing is. Raises: Refused."""
        if self._responses is None or (kept := await self._responses.find_again(asked, operation)) is None:
            return None
        with Masked(caller), self._telemetry.operation(operation, request, caller) as seen, self._telemetry.phase("execute", operation):
            grant = await self._limits.charge(operation, request.variables, caller)
            grant.settle(kept.cost)
            seen.cost = grant.actual
            return kept, grant.headers

    def _answer(self, operation: Operation, request: GraphQLRequest, grant: Grant, body: bytes, place: Place | None) -> Answer:
        """Of a whole answer to a query, whose every field says what it reads."""
        assert operation.reads is not None
        if not wanted(request.extensions):
            public = not operation.reads.personal
            return Answer(body, grant.headers, public=public, asked=place.asked if place and public else None)
        extensions = orjson.dumps({"extensions": {"cost": grant.figures}})
        return Answer(body[:-1] + b"," + extensions[1:], grant.headers)

    async def _result(self, operation: Operation, request: GraphQLRequest, context: Context) -> tuple[ExecutionResult, bytes | None, int]:
        """The result, its `data` as JSON if the planner read it, and its price."""
        if self._planner and (answer := await self._planner.answer(operation, request.variables, context)) is not None:
            return ExecutionResult(None, list(answer.errors) or None), answer.json, answer.points
        result = await self._engine.execute(operation, request.variables, context)
        return result, None, operation.bill.actual(request.variables, result.data)

    def context(self, operation: Operation, caller: Caller) -> Context:
        return Context.fresh(self._services, caller, cache=operation.is_query)

    async def stream(self, operation: Operation, request: GraphQLRequest, caller: Caller) -> AsyncGenerator[Answer]:
        """Run a subscription. Raises: Refused, before the first answer."""

        def fresh() -> Context:
            return Context.fresh(self._services, caller, cache=False)

        with Masked(caller), self._telemetry.operation(operation, request, caller) as seen:
            grant = await self._limits.charge(operation, request.variables, caller)
            seen.cost, headers = grant.requested, grant.headers
            extensions = {"cost": grant.figures} if wanted(request.extensions) else None
            question = asked(operation, request.variables)
            with self._sharing.subscriber(question, partial(self._scout, operation, request), self._strangers):
                async for found in self._engine.subscribe(operation, request.variables, fresh()):
                    if isinstance(found, ExecutionResult):
                        told = Told(encode(found), found.errors or ())
                    else:
                        told = await self._sharing.told(question, found.event, fresh, caller, partial(_told, found))
                    seen.event(told.errors)
                    yield Answer(_with(told.body, extensions), headers)
                    extensions = None

    async def _scout(self, operation: Operation, request: GraphQLRequest) -> AsyncGenerator[tuple[object, Make]]:
        async for found in self._engine.subscribe(operation, request.variables, self._strangers()):
            if isinstance(found, Occurrence):
                yield found.event, partial(_told, found)

    def _strangers(self) -> Context:
        return Context.fresh(self._services, STRANGER, cache=False)


async def _told(found: Occurrence, context: Context) -> Told:
    result = await found.execute(context)
    return Told(encode(result), result.errors or ())


def _with(body: bytes, extensions: Mapping[str, Any] | None) -> bytes:
    return body[:-1] + _extended(extensions) + b"}" if extensions else body


def encode(result: ExecutionResult, extensions: Mapping[str, Any] | None = None, json: bytes | None = None) -> bytes:
    """`json` is the result's `data`, where it is JSON already."""
    if json is not None:
        errors = b'"errors":%b,' % orjson.dumps([error.formatted for error in result.errors]) if result.errors else b""
        return b'{%b"data":%b%b}' % (errors, json, _extended(extensions))
    response: dict[str, Any] = {"data": result.data}
    if result.errors:
        response = {"errors": [error.formatted for error in result.errors], **response}
    if extensions:
        response["extensions"] = extensions
    return orjson.dumps(response)


def _extended(extensions: Mapping[str, Any] | None) -> bytes:
    return b',"extensions":%b' % orjson.dumps(extensions) if extensions else b""


def refused_body(refused: Refused) -> bytes:
    """A response without `data`: nothing ran. Source: GraphQL specification, section 7.1."""
    return orjson.dumps({"errors": [error.formatted for error in refused.errors]})
