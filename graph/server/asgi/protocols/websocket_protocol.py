"""uvicorn's WebSocket protocol with less memory for each connection.

What only the handshake needs goes after it, and nothing waits in a queue of its own kind: most sockets are subscribers to whom nothing happens, thousands
of them in a process. asyncio's queue and event take 4.5 kB, the request and its answer another 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import Event

from graph.kit.limits.connection_rate_limiter import ConnectionRateLimiter
from graph.kit.limits.rate_limits import CONNECTION, RateLimitRule
from graph.server.asgi.protocols.transport import BufferedTransport, WireLimits
from graph.server.asgi.request_headers import SCOPE_KEY

FRAMES = RateLimitRule("1000/second", by=CONNECTION)
# Of frames that bring no message nearer to its end: control frames, and data frames without data.
IDLE_FRAMES = RateLimitRule("100/second", by=CONNECTION)
BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """What one socket may send. Reading a frame takes 10 µs, however little is in it."""

    frames: RateLimitRule = FRAMES
    idle_frames: RateLimitRule = IDLE_FRAMES
    fragments: int = 1_024  # Of one message. Clients send one, or pieces of 16 kB and more.


class FrameRate:
    """Counts a socket's frames."""

    __slots__ = ("_frames", "_idle_frames")

    def __init__(self, limits: FrameLimits) -> None:
        self._frames, self._idle_frames = ConnectionRateLimiter(limits.frames), ConnectionRateLimiter(limits.idle_frames)

    def is_exceeded(self, events: Sequence[Event], now: float) -> bool:
        """`events` have just come. `now` is in seconds, by any clock."""
        idle = sum(isinstance(event, Frame) and (event.opcode not in DATA_OPCODES or not event.data) for event in events)
        return not (self._frames.hit(len(events), now) and self._idle_frames.hit(idle, now))


class MessageQueue:
    """An `asyncio.Queue` for one reader."""

    __slots__ = ("_messages", "_reader")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, message: Any) -> None:
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Any:
        while not self._messages:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._messages.pop(0)

    def empty(self) -> bool:
        return not self._messages


class WritableEvent:
    """An `asyncio.Event`."""

    __slots__ = ("_open", "_waiting")

    def __init__(self) -> None:
        self._open = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        self._open = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def clear(self) -> None:
        self._open = False

    async def wait(self) -> None:
        if not self._open:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting


class WebSocketProtocol(WebSocketsSansIOProtocol):
    limits, frame_limits = WireLimits(), FrameLimits()
    read_bytes = 4_096  # So a turn of the event loop takes some hundred frames at most.

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue: Any = MessageQueue()
        self.writable: Any = WritableEvent()
        self.writable.set()
        self.close_timeout = self.limits.close_seconds
        self._rate, self._is_deaf = FrameRate(self.frame_limits), False
        self._bytes_after_close = 0

    def lingers(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self.close_sent:
            self._bytes_after_close += len(data)
            if self._bytes_after_close > self.limits.linger_bytes:
                cast("BufferedTransport", self.transport).abort()
                return
        if self._is_deaf:
            return
        super().data_received(data)
        if not self.handshake_initiated and not self.close_sent:
            self._refuse_handshake()

    def _refuse_handshake(self) -> None:
        """The whole request is there, but websockets cannot read it. It may have written why; uvicorn would neither send that nor end the connection."""
        self.handshake_complete = self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()) or BAD_HANDSHAKE)
        self.transport.close()

    def handle_events(self) -> None:
        if self._rate.is_exceeded(self.conn.events, self.loop.time()):
            self._fail("Too many frames")
            return
        super().handle_events()
        if len(self.frames) > self.frame_limits.fragments:
            self._fail("Too many fragments")

    def _fail(self, reason: str) -> None:
        self.conn.fail(CloseCode.POLICY_VIOLATION, reason)
        self.conn.events.clear()
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Write why the connection fails, and drop what still comes for a while: closing at once would destroy that on its way."""
        close = self.conn.close_sent
        self.close_sent, self._is_deaf, self.frames = True, True, []
        if close is not None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def check_progress(self, now: float) -> None:
        """The handshake came whole, and uvicorn's pings tell who is gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # The parser is a generator that holds its connection, which holds it, and so do an exception and the frames it passed: they would wait for a garbage
        # collection, and with them all that was read.
        self.conn.parser = (_ for _ in ())
        for each in (self.conn.handshake_exc, self.conn.parser_exc):
            if each is not None:
                each.__traceback__ = each.__cause__ = each.__context__ = None
        self.request = self.response = cast("Any", None)
        self.frames = []

    async def send(self, message: Any) -> None:
        if self.close_sent:
            raise ClientDisconnected  # By this protocol itself, for the client's sake, and the application has not heard of it yet: uvicorn calls that an error.
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request = self.response = None
            self.scope["headers"] = []
            cast("Scope", self.scope).pop(SCOPE_KEY, None)
