"""Graceful shutdown: the process stops being ready, hands subscriptions over, and finishes running requests.

uvicorn waits for open connections before it tells the application of its end, so this begins with the signal: see `process`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import orjson
import structlog

from graph.kit.errors import UNAVAILABLE
from graph.server.asgi.error_responses import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry
    from persistence.kit.events.feed import Feed

log = structlog.get_logger(__name__)

STEP_SECONDS = 5.0
MESSAGE = "The service ends here before it could answer: repeat the request. A mutation with an idempotency key is safe to repeat."


class GracefulShutdown:
    """`seconds` is the time that it may take as a whole."""

    def __init__(self, feed: Feed, connections: ConnectionRegistry, *, seconds: float) -> None:
        self._feed, self._connections, self.seconds = feed, connections, seconds

    @property
    def in_progress(self) -> bool:
        return self._connections.draining

    def begin(self) -> None:
        """Not ready any more. Safe in a signal handler."""
        self._connections.draining = True

    async def drain(self, deadline_seconds: float) -> None:
        """End sockets and event streams."""
        self._connections.cursor = self._feed.stop_subscriptions()
        await self._connections.drain(deadline_seconds)


class ShutdownMiddleware:
    """Around requests during a shutdown: each connection closes after its next response, and a request that is cancelled at the deadline gets a 503."""

    def __init__(self, app: ASGIApp, shutdown: GracefulShutdown) -> None:
        self._app, self._shutdown = app, shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, _closing(send) if self._shutdown.in_progress else send)
        except asyncio.CancelledError:
            if not self._shutdown.in_progress or scope["type"] != "http":
                raise
            with suppress(RuntimeError):  # uvicorn raises it where the response has begun: that one breaks off.
                await _cut_off(scope, send)


def _closing(send: Send) -> Send:
    async def last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return last


async def _cut_off(scope: Scope, send: Send) -> None:
    response = error_response(UNAVAILABLE, MESSAGE, scope["path"], {"Retry-After": "1", "Connection": "close"})
    body = response.body
    if scope["path"] == "/graphql":
        body = orjson.dumps({"errors": [{"message": MESSAGE, "extensions": {"code": UNAVAILABLE}}]})
        response.headers["Content-Length"] = str(len(body))
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": body})


class ShutdownStack(AsyncExitStack):
    """The shutdown of the service's parts, in the reverse order of their start: a step that fails or hangs keeps no other from being taken."""

    def step(self, name: str, end: Callable[[], Awaitable[object]], *, seconds: float = STEP_SECONDS) -> None:
        """Call `end` when the stack is left, and wait `seconds` for it."""
        self.push_async_callback(_taken, name, end, seconds)


async def _taken(name: str, end: Callable[[], Awaitable[object]], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await end()
    except Exception:  # Of a step, not of the shutdown: the next ones are taken as well.
        log.exception("shutdown step failed", step=name)
