"""Request bodies as streams: a least rate and a size limit. What is left of a body when the answer begins is the connection's business."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Protocol

from starlette.types import Message, Receive

from graph.kit.errors import refusal
from graph.server.asgi.error_responses import TOO_SLOW
from graph.server.asgi.request_headers import RequestHeaders

SILENT_SECONDS = 20.0  # The longest wait for the next bytes.
GRACE_SECONDS = 30.0  # From when on a body must have come at LEAST_RATE: a slow start is no attack.
LEAST_RATE = 4_096  # Bytes a second on the average: a modem of 1994.
PIECE_BYTES = 512  # A piece of a body counts for at least so many: to take it from the connection costs 1 to 15 µs, however short it is.
PADDING = "body_padding"  # In a scope: for how many bytes the pieces of its body count beyond their own.
LAST = {"Connection": "close"}  # What has not come in time is not waited for by the next request.


class BodyDeadline(Protocol):
    """That of the answer."""

    def suspend(self) -> None: ...

    def extend(self) -> None: ...


class ClientGone(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class BodyTooLarge(Exception):
    """The body is longer than it may be. What is left of it was not read."""


class BodyTooSlow(Exception):
    """The body did not come in time."""


class Body:
    """One request's body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.received = 0
        """How many bytes have come."""
        self.deadline: BodyDeadline | None = None
        """Of the answer, which the client may keep waiting."""

    async def receive(self) -> Message:
        if self.deadline is not None:
            self.deadline.suspend()
        message = await self._receive()
        self.received += len(message.get("body", b""))
        if self.deadline is not None:
            self.deadline.extend()
        return message


def announced_bytes(headers: RequestHeaders) -> int:
    """The length that a body says; 0, if it says none."""
    return int(headers.get(b"content-length", b"0"))


async def bounded_chunks(receive: Receive) -> AsyncGenerator[bytes]:
    """The body, piece by piece. Raises: Refused TOO_SLOW, ClientGone."""
    size, started, more = 0, time.monotonic(), True
    while more:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                message = await receive()
        except TimeoutError:
            raise refusal(TOO_SLOW, f"Nothing came for {SILENT_SECONDS:g} seconds.", headers=LAST) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size, more = size + len(piece), message.get("more_body", False)
        elapsed = time.monotonic() - started
        if elapsed > GRACE_SECONDS and size < elapsed * LEAST_RATE:
            raise refusal(TOO_SLOW, f"The body must come at {LEAST_RATE} bytes a second or faster.", headers=LAST)
        yield piece


async def read_whole(receive: Receive, announced: int, *, limit: int, seconds: float) -> bytes:
    """`announced` is the Content-Length, or 0. Raises: BodyTooLarge, BodyTooSlow, ClientGone."""
    if announced > limit:
        raise BodyTooLarge
    message = arrived_message(receive)
    try:
        if message is None or message.get("more_body"):
            async with asyncio.timeout(seconds):
                return await _whole(receive, message or await receive(), limit)
    except TimeoutError as error:
        raise BodyTooSlow from error
    return await _whole(receive, message, limit)


def arrived_message(receive: Receive) -> Message | None:
    """The first message, if it has come already, as most have: to set a timer for those would take a tenth of the endpoint's own time."""
    coming = receive().__await__()
    try:
        next(coming)
    except StopIteration as come:
        return come.value
    coming.close()  # Nothing was taken.
    return None


async def _whole(receive: Receive, message: Message, limit: int) -> bytes:
    chunks, size = list[bytes](), 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
