"""GraphQL over server-sent events: the graphql-sse protocol in "distinct connections mode", one stream for one operation.

Two things go beyond the protocol: an event that has a cursor carries it as its `id:`, as does the end when the process stops, and a client
that reconnects with `Last-Event-ID` (browsers do it by themselves) goes on after it.
Source: graphql-sse PROTOCOL.md; HTML Living Standard, section 9.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, cast

import orjson
from graphql import OperationType
from starlette.types import Message, Receive, Scope, Send

from graph.kit.auth import Caller
from graph.kit.errors import Refused
from graph.kit.execution.engine import Operation
from graph.kit.execution.subscription_keys import starting_after
from graph.server.asgi.deadline import OPERATION_SECONDS, Deadline
from graph.server.asgi.request_headers import headers_of, text
from graph.server.auth.tokens import bearer
from graph.server.graphql.pipeline import Pipeline, refused_body
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.subscriptions.connection_registry import FLUSH_SECONDS, ConnectionRegistry, Transport, transport_of
from graph.server.representations import content_negotiation

# Proxies close what is silent; the usual limit is 60 s.
HEARTBEAT_SECONDS = 12.0
_HEARTBEAT = b":\n\n"
# The empty data is for browsers: their EventSource drops an event that has none.
_COMPLETE = b"event: complete\ndata:\n\n"


def _start() -> Message:
    """A message of its own for each stream: what stands around the endpoint adds its fields to it."""
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"private, no-store"),
            content_negotiation.VARY,
            (b"x-accel-buffering", b"no"),  # nginx would otherwise collect events into full buffers
        ],
    }


class EventStreams:
    """Opens event streams and keeps them among the process's connections."""

    def __init__(self, pipeline: Pipeline, connections: ConnectionRegistry, *, seconds: float = OPERATION_SECONDS) -> None:
        self._pipeline, self._connections, self._seconds = pipeline, connections, seconds

    async def serve(
        self, operation: Operation, request: GraphQLRequest, caller: Caller, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Raises: Refused, if the caller has too many connections: a status says it best."""
        is_endless = operation.kind is OperationType.SUBSCRIPTION
        headers = headers_of(scope)
        token = bearer(text(headers, b"authorization"))
        stream = EventStream(caller, token, transport_of(scope), send, self._connections, is_endless=is_endless)
        self._connections.register(stream)
        try:
            if is_endless and (cursor := text(headers, b"last-event-id")):
                operation = starting_after(operation, cursor)
            await stream.run(self._answers(operation, request, caller), receive)
        finally:
            self._connections.unregister(stream)

    async def refuse(self, refused: Refused, send: Send) -> None:
        """Source: PROTOCOL.md, "Validation steps … MUST report errors through an accepted SSE connection by emitting next events"."""
        await send(_start())
        await send({"type": "http.response.body", "body": _next(refused_body(refused)) + _COMPLETE})

    async def _answers(self, operation: Operation, request: GraphQLRequest, caller: Caller) -> AsyncGenerator[bytes, None]:
        try:
            if operation.kind is not OperationType.SUBSCRIPTION:
                with Deadline(self._seconds):
                    single = await self._pipeline.run(operation, request, caller)
                yield single.body
                return
            async with aclosing(self._pipeline.stream(operation, request, caller)) as answers:
                async for answer in answers:
                    yield answer.body
        except Refused as refused:
            yield refused_body(refused)


class EventStream:
    """One response that stays open."""

    def __init__(
        self,
        caller: Caller,
        token: str | None,
        transport: Transport | None,
        send: Send,
        connections: ConnectionRegistry,
        *,
        is_endless: bool,
    ) -> None:
        self.caller, self.token, self.transport, self._send = caller, token, transport, send
        self._connections, self._is_endless = connections, is_endless
        self._cut, self._finished = asyncio.Event(), asyncio.Event()

    async def run(self, bodies: AsyncGenerator[bytes, None], receive: Receive) -> None:
        """Write results until there are no more, the client goes, or somebody cuts the stream off."""
        await self._send(_start())
        pump = asyncio.ensure_future(self._pump(bodies))
        tasks = [pump, asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._cut.wait())]
        try:
            while not (await asyncio.wait(tasks, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]:
                await self._write(_HEARTBEAT)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await bodies.aclose()
            self._finished.set()
        if not pump.cancelled():
            pump.result()
        await self._send({"type": "http.response.body", "body": b""})

    async def end(self, reason: str) -> None:
        """Without a `complete`: the client comes back, and is told by a status why it may not listen."""
        self._cut.set()
        await self._finished.wait()

    async def drain(self) -> None:
        """A subscription ends where it can be resumed elsewhere; a single result is waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS if self._is_endless else None):
                await self._finished.wait()
        self._cut.set()
        await self._finished.wait()

    async def _pump(self, bodies: AsyncGenerator[bytes, None]) -> None:
        async for body in bodies:
            await self._write(_next(body))
        if not (self._connections.draining and self._is_endless):
            await self._write(_COMPLETE)
        elif self._connections.cursor:
            # An id without data is no event, but it is what the client resumes from.
            await self._write(b"id: %b\n\n" % self._connections.cursor.encode())

    async def _write(self, event: bytes) -> None:
        await self._send({"type": "http.response.body", "body": event, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _next(body: bytes) -> bytes:
    cursor = _cursor(body)
    return b"event: next\n%bdata: %b\n\n" % (b"id: %b\n" % cursor if cursor else b"", body)


def _cursor(body: bytes) -> bytes | None:
    """The event's cursor, if the client selected it under its own name: the only part of a result that is read again here."""
    if b'"cursor"' not in body:
        return None
    data: dict[str, Any] = orjson.loads(body).get("data") or {}
    for value in data.values():
        if isinstance(value, dict) and isinstance(cursor := cast("dict[str, object]", value).get("cursor"), str):
            return cursor.encode()
    return None
