"""The TCP connection to a client, below HTTP and WebSockets: it reads a little at a time, gathers writes, and aborts a client that does not read.

This is the one place that judges whether a client keeps up. Plain responses, event streams, exports, downloads and WebSockets all write through here, so none
of them needs a deadline of its own. uvicorn's protocols have none: an unread response would stay in memory for as long as its client likes.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import IPPROTO_TCP, SO_LINGER, SOL_SOCKET
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)

BUFFERED_BYTES = 64 * 1024  # Of writes that wait; the transport itself says when its client does not keep up.
READ_BYTES = 16 * 1024  # Read in one turn of the event loop, unless the protocol wants less or more.
LARGEST_READ_BYTES = 64 * 1024
UNSENT_BYTES = 128 * 1024  # In the kernel, beside what is on its way: it would take megabytes from us for a client that reads nothing.

CONNECTION = "connection"
"""Where a request's state has its `Joined`, so that an application can abort it and hear of its end."""

TCP_NOTSENT_LOWAT = 25  # Linux; Python's `socket` does not name it everywhere.
ABORTIVE = struct.pack("ii", 1, 0)

# Why reading is held back. It goes on when no reason is left.
BY_PROTOCOL, BY_BACKLOG, BY_WRITES, UNTIL_NEXT_TURN = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one connection may take. Each figure is set here and nowhere else; tests give shorter ones."""

    head_bytes: int = 32_768  # Of a request's head. nginx takes 4 fields of 8 kB, and browsers send one or two kilobytes.
    head_fields: int = 100
    head_seconds: float = 10.0  # From a connection's start, or a head's first byte, to the head's end.
    waiting_requests: int = 16  # Pipelined behind one whose answer is due.
    pipelined_bytes: int = 16_384  # Of responses that the client has not taken: behind them no further request is parsed.
    idle_seconds: float = (
        30.0  # Between two requests, but for proxies. A client that was refused in few bytes looks as idle, whether it reads them or not.
    )
    linger_bytes: int = (
        2**25
    )  # Dropped after a refusal, in this time, or after a close: a client that has sent so much since does not look for it.
    linger_seconds: float = 5.0  # After a refusal, for the client to read it while it still sends. Source: RFC 9112, section 9.6.
    least_rate: int = 4_096  # Bytes a second that a client must take while something waits for it.
    slow_seconds: float = 15.0  # How long it may take less.
    close_seconds: float = 5.0  # For a WebSocket's client to answer our close.
    check_seconds: float = 5.0  # How often each connection is looked at: everything above may take so much longer.


class ProtocolCallbacks(Protocol):
    """The protocol that speaks over a connection: HTTP, or WebSocket after an upgrade."""

    limits: WireLimits

    @property
    def read_bytes(self) -> int:
        """How much it wants to be given at once, at most `LARGEST_READ_BYTES`."""
        ...

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def lingers(self) -> bool:
        """Whether it closes the connection itself, a little later."""
        ...

    def check_progress(self, now: float) -> None:
        """Called every `check_seconds` (`loop.time`), for deadlines of the protocol's own."""
        ...


# All connections of a process read through it: what is read is copied before anybody else reads.
_buffer = memoryview(bytearray(LARGEST_READ_BYTES))


class BufferedTransport(asyncio.BufferedProtocol):
    """To the protocol above, its transport; to the transport below, its protocol."""

    def __init__(self, transport: asyncio.Transport, protocol: ProtocolCallbacks, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._protocol, self._loop = transport, protocol, loop
        self._pieces: list[bytes] = []
        self._size = self._sent_bytes = 0
        self._held = 0
        self._read_size = READ_BYTES
        self._reading = ReadRate(loop.time())
        self._when_closed: list[Callable[[], None]] = []
        self.is_closing, self.get_extra_info = transport.is_closing, transport.get_extra_info
        transport.set_protocol(self)
        _keep_kernel_buffer_small(self.get_extra_info("socket"))
        self._timer: asyncio.TimerHandle | None = loop.call_later(protocol.limits.check_seconds, self._check_progress)

    # What the protocol asks for.

    def set_protocol(self, protocol: ProtocolCallbacks) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._pieces:
            pieces, self._sent_bytes = self._pieces, self._sent_bytes + self._size
            self._pieces, self._size = [], 0
            if not self.is_closing():
                self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def write_eof(self) -> None:
        """The client reads the end of what was written; what it still sends is read."""
        self.flush()
        if not self.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Once everything is written, or `slow_seconds` after the client has stopped to read. A client that still sends may read the answer first."""
        self.flush()
        if not self._protocol.lingers():
            self._transport.close()

    def abort(self) -> None:
        """At once. What was not sent yet is lost, in the kernel too: it would go on trying for minutes."""
        self._pieces, self._size = [], 0
        with suppress(OSError, AttributeError):
            self.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, ABORTIVE)
        self._transport.abort()

    def pause_reading(self) -> None:
        self.hold(BY_PROTOCOL)

    def resume_reading(self) -> None:
        self.release(BY_PROTOCOL)

    def hold(self, reason: int) -> None:
        if not self._held:
            self._transport.pause_reading()
        self._held |= reason

    def release(self, reason: int) -> None:
        if self._held & reason:
            self._held &= ~reason
            if not self._held:
                self._transport.resume_reading()

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Called once, when the connection is really gone: whatever counts connections counts by this."""
        self._when_closed.append(callback)

    def remove_close_callback(self, callback: Callable[[], None]) -> None:
        if callback in self._when_closed:
            self._when_closed.remove(callback)

    # What the transport tells.

    def get_buffer(self, sizehint: int) -> memoryview:
        self._read_size = self._protocol.read_bytes
        return _buffer[: self._read_size]

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes == self._read_size:
            # There is more, and libuv would read on: others have their turn first.
            self.hold(UNTIL_NEXT_TURN)
            self._loop.call_soon(self.release, UNTIL_NEXT_TURN)
        self._protocol.data_received(bytes(_buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self.hold(BY_WRITES)  # Whoever does not read may not ask for more.
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.release(BY_WRITES)
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pieces, self._size = [], 0
        callbacks, self._when_closed = self._when_closed, []
        try:
            self._protocol.connection_lost(exc)
        finally:
            for callback in callbacks:
                callback()
            # The two hold each other, and with them all that was read: nothing of it may wait for a garbage collection that is rare.
            self._protocol = _NO_CALLBACKS

    def _check_progress(self) -> None:
        now, limits = self._loop.time(), self._protocol.limits
        unread = self._unread()
        if self._reading.slow_for(now, self._sent_bytes - unread, unread, limits.least_rate) >= limits.slow_seconds:
            log.info("connection aborted: the client does not read", unread_bytes=unread, client=self.get_extra_info("peername"))
            self.abort()
        elif self._held & BY_BACKLOG and _is_gone(self.get_extra_info("socket")):
            self.abort()  # What is not read does not tell of its end.
        else:
            self._protocol.check_progress(now)
        self._timer = self._loop.call_later(limits.check_seconds, self._check_progress)

    def unacknowledged(self) -> int:
        """Bytes in the kernel that the client has not taken."""
        return _in_kernel(self.get_extra_info("socket"))

    def _unread(self) -> int:
        """Bytes that the client has not taken, here and in the kernel; 0 where so few are in the kernel alone that nobody waits for them to leave."""
        waiting, sent = self._transport.get_write_buffer_size(), self.unacknowledged()
        return waiting + sent if waiting or sent > BUFFERED_BYTES else 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ReadRate:
    """Whether a client takes what is written for it, judged from one look to the next."""

    __slots__ = ("_delivered", "_looked_at", "_slow_since", "_unread")

    def __init__(self, now: float) -> None:
        self._looked_at, self._slow_since, self._delivered, self._unread = now, now, 0, 0

    def slow_for(self, now: float, delivered: int, unread: int, least_rate: int) -> float:
        """For how many seconds it has been slower than `least_rate`. `delivered` bytes it has taken since the connection began, `unread` wait."""
        enough = min(self._unread, least_rate * (now - self._looked_at))
        if not self._unread or delivered - self._delivered >= enough:
            self._slow_since = now
        self._looked_at, self._delivered, self._unread = now, delivered, unread
        return now - self._slow_since


def _keep_kernel_buffer_small(socket: Any) -> None:
    with suppress(OSError, AttributeError):  # Another system, or a transport without a socket.
        socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _in_kernel(socket: Any) -> int:
    """Bytes that were sent and not acknowledged, or not sent yet."""
    try:
        return struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    except (OSError, AttributeError):  # A closed socket, or a transport without one.
        return 0


def _is_gone(socket: Any) -> bool:
    """Whether the client has closed its end, whatever stands before that in what was not read."""
    return _polls(socket, select.POLLRDHUP)


def has_input(socket: Any) -> bool:
    """Whether bytes, or on a listening socket connections, have come that nobody has taken yet. Closing now would make the kernel reset them."""
    return _polls(socket, select.POLLIN)


def _polls(socket: Any, event: int) -> bool:
    poll = select.poll()
    poll.register(socket.fileno(), event)
    return bool(poll.poll(0))


class _NoCallbacks:
    """In the place of a protocol whose connection is gone."""

    limits, read_bytes = WireLimits(), READ_BYTES

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def lingers(self) -> bool:
        return False

    def check_progress(self, now: float) -> None: ...


_NO_CALLBACKS = _NoCallbacks()
