"""The bytes of a GraphQL request: whole, bounded and in time, or not at all. They are few, so they are not streamed as a file's are."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from starlette.types import Receive

from graph.server.bodies import ClientGone


class TooLarge(Exception):
    """The body is longer than it may be. What is left of it was not read."""


class TooSlow(Exception):
    """The body did not come in time."""


async def read(receive: Receive, announced: int, *, limit: int, seconds: float) -> bytes:
    """`announced` is the Content-Length, or 0. Raises: TooLarge, TooSlow, ClientGone."""
    if announced > limit:
        raise TooLarge
    with _Deadline(seconds):
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body") or message["type"] == "http.disconnect":
            return await _rest(receive, message, limit)
    if len(body) > limit:
        raise TooLarge
    return body


async def _rest(receive: Receive, message: Any, limit: int) -> bytes:
    chunks, size = list[bytes](), 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLarge
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


class _Deadline:
    """`asyncio.timeout` for a body that has mostly arrived already: 2 µs for that case instead of 8, a fifth of the endpoint's own time."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._passed = seconds, False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._timer = loop.call_later(self._seconds, self._pass)

    def _pass(self) -> None:
        self._passed = True
        if self._task:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.cancel()
        # Somebody else's cancellation stays one, also when it came together with ours.
        if self._passed and self._task and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TooSlow from error
