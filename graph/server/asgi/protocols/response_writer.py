"""Writes a complete response, head and body, in one system call.

uvicorn searches each field by itself, for what would break out of its line, and writes head and body one after the other. Here the head is made and searched
as one text, and leaves with the body.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CONTROLS = bytes([*range(9), *range(10, 32), 127])  # All but the tab. Source: RFC 9110, section 5.5.
LENGTH, HOPS = b"content-length", frozenset({b"connection", b"transfer-encoding"})
BODILESS = frozenset({204, 304})


class ResponseWriter:
    """Writes an answer of a head and one body of the length it says; any other goes to uvicorn's own cycle as it came."""

    __slots__ = ("_cycle", "_early", "_head", "_length", "_put", "_start", "_until_close")

    def __init__(
        self, cycle: RequestResponseCycle, put: Callable[[bytes], None], early: Callable[[RequestResponseCycle], None] = lambda _: None
    ) -> None:
        """`put` writes to the connection; `early` hears of an answer to a request that is not whole."""
        self._cycle, self._put, self._early = cycle, put, early
        self._start: ASGISendEvent | None = None
        self._until_close = False

    async def send(self, message: ASGISendEvent) -> None:
        start = self._start
        if self._until_close:
            await self._write_until_close(message)
            return
        if start is not None:
            self._start = None
            if self._completes(message):
                self._write(message.get("body", b""))
                return
            await self._cycle.send(start)
        elif message["type"] == "http.response.start" and not self._cycle.response_started:
            if self._cycle.more_body:
                self._early(self._cycle)
            if self._cycle.scope["method"] == "HEAD":
                await self._cycle.send(message)
                return
            self._head, self._length = _head(message["status"], [*self._cycle.default_headers, *message.get("headers", ())])
            if self._length:  # A stream says none, and its head need not wait for what comes first.
                self._start = message
                return
            if self._cycle.scope["http_version"] == "1.0" and message["status"] not in BODILESS:
                self._begin_until_close(message["status"], message.get("headers", ()))
                return
        await self._cycle.send(message)

    def _completes(self, message: ASGISendEvent) -> bool:
        """Whether this is the body, and nothing keeps it from being written in the usual way."""
        cycle = self._cycle
        return (
            message["type"] == "http.response.body"
            and not message.get("more_body")
            and self._length == b"%d" % len(message.get("body", b""))
            and cycle.keep_alive
            and not (cycle.disconnected or cycle.flow.write_paused)
        )

    def _write(self, body: bytes) -> None:
        """The same steps as the cycle's."""
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._put(self._head + body)
        cycle.message_event.set()
        cycle.on_response()

    # HTTP/1.0 knows no chunks: a body whose length nobody knows yet ends with its connection. Source: RFC 9112, sections 6.1 and 6.3.

    def _begin_until_close(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        fields = [(name, value) for name, value in headers if name.lower() not in HOPS]
        head, _ = _head(status, [*cycle.default_headers, *fields, (b"connection", b"close")])
        self._until_close = cycle.response_started = True
        if not cycle.disconnected:
            self._put(head)

    async def _write_until_close(self, message: ASGISendEvent) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if message["type"] != "http.response.body" or cycle.response_complete:
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}' in a response.")
        if cycle.disconnected:
            return
        self._put(message.get("body", b""))
        if not message.get("more_body"):
            cycle.response_complete = True
            cycle.message_event.set()
            cycle.transport.close()
            cycle.on_response()


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The head of a response, and the length that it says; none where the body is to be written otherwise. Raises: RuntimeError, if it is not for HTTP."""
    names, values = zip(*headers, strict=True) if headers else ((), ())
    form, place = _form(status, names)
    head = form % values
    if len(head) - len(head.translate(None, CONTROLS)) != 2 * len(headers) + 4:  # More than the ends of the lines.
        raise RuntimeError("Invalid HTTP header value.")
    return head, b"" if place is None else values[place]


@lru_cache(256)
def _form(status: int, names: tuple[bytes, ...]) -> tuple[bytes, int | None]:
    """What heads of these fields have in common, and where among them the length is, unless another field overrules it."""
    if any(HEADER_RE.search(name) for name in names):
        raise RuntimeError("Invalid HTTP header name.")
    lower = [name.lower() for name in names]
    lines = b"".join(b"%b: %%b\r\n" % name.replace(b"%", b"%%") for name in lower)
    place = lower.index(LENGTH) if LENGTH in lower and HOPS.isdisjoint(lower) else None
    return STATUS_LINE[status] + lines + b"\r\n", place
