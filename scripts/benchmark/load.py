"""Closed-loop load over plain sockets: each connection sends its next request when the answer to the last one is whole."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

CONNECTIONS = 16
CHUNKED = b"transfer-encoding: chunked"
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Broken(Exception):
    """A server did not answer as it must while it was measured."""


def get(path: str, **headers: str) -> bytes:
    return _request("GET", path, b"", headers)


def post(path: str, body: bytes, **headers: str) -> bytes:
    return _request("POST", path, body, {"Content-Type": "application/json", **headers})


def put(path: str, body: bytes) -> bytes:
    return _request("PUT", path, body, {"Content-Type": "application/json"})


def _request(method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    fields = {"Host": "127.0.0.1", "Accept": "application/json", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if body or name != "Content-Length")
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@dataclass
class Load:
    """What came of it: how many answers, in how long, and how long each took."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list[float])

    @property
    def per_second(self) -> float:
        return len(self.waits) / self.seconds

    @property
    def p99_ms(self) -> float:
        return sorted(self.waits)[int(len(self.waits) * 0.99)] * 1000


class Line(asyncio.Protocol):
    """One connection. `check` is shown each answer's body and says whether it may count."""

    def __init__(self, requests: Iterator[bytes], load: Load, deadline: float, check: Callable[[bytes], bool], pause: float) -> None:
        self._requests, self._load, self._deadline, self._check, self._pause = requests, load, deadline, check, pause
        self._buffer, self._whole = b"", -1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        self._buffer, self._whole = b"", -1
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._whole < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._start, head = end + 4, self._buffer[:end].lower()
            self._chunked, self._whole = CHUNKED in head, self._start + _length(head)
        if 0 <= self._whole <= len(self._buffer) and (not self._chunked or self._buffer.endswith(LAST_CHUNK)):
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        if not self._buffer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")) or not self._check(self._buffer[self._start :]):
            self._end(Broken(self._buffer[:600].decode(errors="replace")))
            return
        self._load.waits.append(now - self._sent)
        if now >= self._deadline:
            self._end(None)
        elif self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._next)
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Broken(f"the connection was closed: {exc}"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)
            self._transport.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _any(_body: bytes) -> bool:
    return True


async def run(
    port: int,
    requests: Sequence[bytes],
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    check: Callable[[bytes], bool] = _any,
    pause: float = 0.0,
) -> Load:
    """Raises: Broken. `pause` is between an answer and the next request of a connection."""
    begin = random.randrange(len(requests))  # Else a round would begin with what the one before has just asked for, or changed.
    load, supply, began = Load(), itertools.cycle([*requests[begin:], *requests[:begin]]), time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Line(supply, load, began + seconds, check, pause), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(line.done for _, line in made))
    load.seconds = time.perf_counter() - began
    return load


async def once(port: int, request: bytes) -> bytes:
    """The body of one answer."""
    bodies: list[bytes] = []

    def keep(body: bytes) -> bool:
        bodies.append(body)
        return True

    await run(port, [request], 0.0, connections=1, check=keep)
    return bodies[0]
