"""Answers that come whole, as most do: the head is made and searched as one text, and leaves with the body.

uvicorn searches each field by itself, for what would break out of its line, and writes head and body one after the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CONTROLS = bytes([*range(9), *range(10, 32), 127])  # All but the tab. Source: RFC 9110, section 5.5.
LENGTH, HOPS = b"content-length", frozenset({b"connection", b"transfer-encoding"})


class Whole:
    """Writes an answer of a head and one body of the length it says; any other goes to uvicorn's own cycle as it came."""

    __slots__ = ("_cycle", "_head", "_length", "_put", "_start")

    def __init__(self, cycle: RequestResponseCycle, put: Callable[[bytes], None]) -> None:
        """`put` writes to the connection."""
        self._cycle, self._put = cycle, put
        self._start: ASGISendEvent | None = None

    async def send(self, message: ASGISendEvent) -> None:
        start = self._start
        if start is not None:
            self._start = None
            if self._completes(message):
                self._write(message.get("body", b""))
                return
            await self._cycle.send(start)
        elif message["type"] == "http.response.start" and not self._cycle.response_started:
            self._head, self._length = _head(message["status"], [*self._cycle.default_headers, *message.get("headers", ())])
            if self._length:  # A stream says none, and its head need not wait for what comes first.
                self._start = message
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


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The head of a response, and the length it says; two times nothing where that is not for `Whole`. Raises: RuntimeError, if it is not for HTTP."""
    names, values = zip(*headers, strict=True) if headers else ((), ())
    form, place = _form(status, names)
    if place is None:
        return b"", b""
    head = form % values
    if len(head) - len(head.translate(None, CONTROLS)) != 2 * len(headers) + 4:  # More than the ends of the lines.
        raise RuntimeError("Invalid HTTP header value.")
    return head, values[place]


@lru_cache(256)
def _form(status: int, names: tuple[bytes, ...]) -> tuple[bytes, int | None]:
    """What heads of these fields have in common, and where among them the length is."""
    if any(HEADER_RE.search(name) for name in names):
        raise RuntimeError("Invalid HTTP header name.")
    lower = [name.lower() for name in names]
    if LENGTH not in lower or not HOPS.isdisjoint(lower):
        return b"", None
    lines = b"".join(b"%b: %%b\r\n" % name.replace(b"%", b"%%") for name in lower)
    return STATUS_LINE[status] + lines + b"\r\n", lower.index(LENGTH)
