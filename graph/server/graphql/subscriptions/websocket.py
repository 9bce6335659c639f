"""GraphQL over WebSocket: the graphql-transport-ws protocol. The older `graphql-ws` subprotocol is not offered.

Two things go beyond the protocol, within what it leaves open:
- A `ping` whose payload has an `Authorization` replaces the token of the open socket before the old one expires. It must be
  the same user's. The `pong` comes back without it.
- When the process stops, single results are finished, and subscriptions are ended by close code 1012 without `complete`:
  after a `complete` a client believes that the stream is over, after 1012 it reconnects and subscribes again. A `ping` before it has
  the payload `{"cursor": …}`: where to go on in the event log, also for a subscriber whose filter let nothing through yet.

Source: graphql-ws PROTOCOL.md; RFC 6455 and its registry for the codes 1009, 1012 and 1013.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from graph.kit.auth import Caller
from graph.kit.errors import Refused
from graph.kit.limits.connection_rate_limiter import ConnectionRateLimiter
from graph.kit.limits.rate_limits import CONNECTION, RateLimitRule
from graph.server.asgi.deadline import OPERATION_SECONDS
from graph.server.asgi.origins import Origins
from graph.server.asgi.request_headers import headers_of, text
from graph.server.auth.callers import Callers, anonymous
from graph.server.auth.tokens import bearer
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.requests import Malformed
from graph.server.graphql.subscriptions import messages
from graph.server.graphql.subscriptions.connection_registry import CLOSING_SECONDS, ConnectionRegistry, Transport, transport_of
from graph.server.graphql.subscriptions.messages import Closed, Message
from graph.server.graphql.subscriptions.socket_operations import Disconnected, SocketOperations

log = structlog.get_logger(__name__)

SUBPROTOCOL = "graphql-transport-ws"
CONTROLS = RateLimitRule("100/second", by=CONNECTION)  # Of messages that are not charged otherwise: all but `subscribe`.


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one socket may take."""

    init_seconds: float = 10.0
    message_characters: int = 65_536  # As long as an anonymous HTTP body.
    message_characters_signed_in: int = 262_144
    control_characters: int = 8_192  # of any message but a `subscribe`; the longest token has 4,096
    controls: RateLimitRule = CONTROLS
    operations: int = 50
    operation_seconds: float = OPERATION_SECONDS


class SocketEndpoint:
    """The ASGI application behind `/graphql` for WebSockets."""

    def __init__(
        self, pipeline: Pipeline, callers: Callers, origins: Origins, connections: ConnectionRegistry, *, limits: SocketLimits | None = None
    ) -> None:
        self._pipeline, self._callers, self._origins, self._connections = pipeline, callers, origins, connections
        self._limits = limits or SocketLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        headers = headers_of(scope)
        caller = anonymous(scope)
        if self._connections.draining or not self._origins.permit(headers):
            # Before the handshake is accepted, a close becomes a response with status 403.
            await send({"type": "websocket.close", "code": 1013})
            return
        # Whether the caller's place is taken, only its token tells, and that may come after the handshake.
        transport = transport_of(scope)
        socket = Socket(caller, transport, receive, send, self._pipeline, self._callers, self._connections, self._limits)
        authorization = text(headers, b"authorization")
        del headers  # As long as the socket is open, they would be there.
        if SUBPROTOCOL in scope["subprotocols"]:
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
            await socket.serve(authorization)
        else:
            await send({"type": "websocket.accept"})
            await socket.turn_away(4406, "Subprotocol not acceptable")


class Socket:
    """One accepted WebSocket."""

    def __init__(
        self,
        caller: Caller,
        transport: Transport | None,
        receive: Receive,
        send: Send,
        pipeline: Pipeline,
        callers: Callers,
        connections: ConnectionRegistry,
        limits: SocketLimits,
    ) -> None:
        self.caller, self.transport, self._receive, self._send = caller, transport, receive, send
        self.token: str | None = None
        self._pipeline, self._callers, self._connections, self._limits = pipeline, callers, connections, limits
        self._operations = SocketOperations(pipeline, self._write, connections, limit=limits.operations, seconds=limits.operation_seconds)
        self._authorization: str | None = None
        self._initialised = self._acknowledged = self._closed = False
        self._controls = ConnectionRateLimiter(limits.controls)
        connections.register_arriving(self)

    async def turn_away(self, code: int, reason: str) -> None:
        await self._close(code, reason)
        self._free_place()

    async def serve(self, authorization: str | None) -> None:
        """`authorization` is the handshake's, for clients that cannot put one into `connection_init`."""
        self._authorization = authorization
        try:
            await self._listen()
        except Closed as closed:
            await self._close(closed.code, closed.reason)
        except Disconnected:
            pass
        except OSError:
            pass  # the server's own word for a client that is gone
        except Exception:
            log.exception("websocket failed", request_id=self.caller.request_id)
            await self._close(1013, "Try again later")
        finally:
            self._free_place()
            await self._operations.stop()

    def _free_place(self) -> None:
        """A transport frees it by its end, which may be later: a client need not answer our close."""
        if self.transport is None:
            self._connections.unregister(self)

    async def _listen(self) -> None:
        try:
            async with asyncio.timeout(self._limits.init_seconds):
                while not self._acknowledged:
                    await self._handle(await self._message())
        except TimeoutError as error:
            raise Closed(4408, "Connection initialisation timeout") from error
        while True:
            await self._handle(await self._message())

    async def _message(self) -> Message:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise Disconnected
        text: str | None = event.get("text")
        if text is None:
            raise Closed(4400, "Messages are text frames.")
        if len(text) > (self._limits.message_characters_signed_in if self.caller.principal else self._limits.message_characters):
            raise Closed(1009, "Message too big")
        try:
            return messages.message(await self._pipeline.read(text.encode(errors="surrogatepass"), self.caller), len(text))
        except Refused as refused:
            raise Closed(1013, str(refused)) from refused
        except Malformed as error:
            with suppress(Refused):
                await self._pipeline.charge_refusal(self.caller)
            raise Closed(4400, str(error)) from error

    def _check_rate(self, message: Message) -> None:
        """For what is not charged otherwise. Raises: Closed."""
        if message.type == "subscribe":
            return
        if message.characters > self._limits.control_characters:
            raise Closed(1009, "Message too big")
        if not self._controls.hit(1, time.monotonic()):
            raise Closed(1008, "Too many messages")

    async def _handle(self, message: Message) -> None:
        self._check_rate(message)
        match message.type:
            case "connection_init":
                await self._initialise(message.payload)
            case "ping":
                await self._ping(message.payload)
            case "subscribe":
                if not self._acknowledged:
                    raise Closed(4401, "Unauthorized")
                await self._operations.start(message.id, message.request(), self.caller)
            case "complete":
                self._operations.complete(message.id)
            case _:
                pass  # a pong needs no answer

    async def _initialise(self, payload: Mapping[str, Any] | None) -> None:
        if self._initialised:
            raise Closed(4429, "Too many initialisation requests")
        self._initialised = True
        await self._sign_in(_authorization(payload) or self._authorization)
        await self._write(messages.CONNECTION_ACK)
        self._acknowledged = True

    async def _ping(self, payload: Mapping[str, Any] | None) -> None:
        if authorization := _authorization(payload):
            if not self._acknowledged:
                raise Closed(4401, "Unauthorized")
            await self._sign_in(authorization)
            payload = {key: value for key, value in (payload or {}).items() if key.lower() != "authorization"} or None
        await self._write(messages.pong(payload))

    async def _sign_in(self, authorization: str | None) -> None:
        before = self.caller.principal
        try:
            caller = await self._callers.signed_in(self.caller, authorization)
        except Refused as refused:
            raise Closed(4403, "Forbidden") from refused
        if before and caller.principal and before.user_id != caller.principal.user_id:
            raise Closed(4403, "Forbidden: the token is another user's")
        self.caller, self.token = caller, bearer(authorization)
        self._register()

    def _register(self) -> None:
        try:
            self._connections.register(self)
        except Refused as refused:
            raise Closed(1013, str(refused)) from refused

    async def _write(self, text: str) -> None:
        if self._closed:
            raise Disconnected
        await self._send({"type": "websocket.send", "text": text})

    async def end(self, reason: str) -> None:
        # 4403 and not 4401: after this code clients reconnect, and fetch a new token for it.
        await self._close(4403, reason)

    async def drain(self) -> None:
        total = await self._operations.drain()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                if total and self._connections.cursor:
                    with suppress(Disconnected, OSError):
                        await self._write(messages.ping({"cursor": self._connections.cursor}))
                await self._close(1012, "Service restart")
        except TimeoutError:  # The client does not read; what it got so far ends where it can go on.
            self._connections.abort(self)

    async def _close(self, code: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})


def _authorization(payload: Mapping[str, Any] | None) -> str | None:
    """Raises: Closed 4403, if there is one that is no text: it never counts as none."""
    values = [value for key, value in (payload or {}).items() if key.lower() == "authorization" and value is not None]
    if not all(isinstance(value, str) for value in values):
        raise Closed(4403, "Forbidden")
    return values[0] if values else None
