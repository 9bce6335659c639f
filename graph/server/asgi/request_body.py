"""Request bodies as streams: a least rate, a size limit, and early error responses that the client can still read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Protocol

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from graph.kit.errors import refusal
from graph.server.asgi.error_responses import TOO_SLOW
from graph.server.asgi.request_headers import headers_of

SILENT_SECONDS = 20.0  # The longest wait for the next bytes.
GRACE_SECONDS = 30.0  # From when on a body must have come at LEAST_RATE: a slow start is no attack.
LEAST_RATE = 4_096  # Bytes a second on the average: a modem of 1994.
LINGER_SECONDS = 5.0


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

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = headers_of(scope)
        self._receive = receive
        self.deadline: BodyDeadline | None = None
        """Of the answer, which the client may keep waiting."""
        self._ended = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers

    @property
    def unread(self) -> bool:
        """Whether the client may still be sending."""
        return not self._ended

    async def receive(self) -> Message:
        if self.deadline is not None:
            self.deadline.suspend()
        message = await self._receive()
        if self.deadline is not None:
            self.deadline.extend()
        self._ended = self._ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def answer_early(self, response: Response, send: Send) -> None:
        """Answer while the client still sends, and drop for some seconds what comes: closing at once would destroy the answer on its way.

        Source: RFC 9112, section 9.6.
        """
        response.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.unread:
                    await self.receive()
        await send({"type": "http.response.body", "body": b""})


async def bounded_chunks(receive: Receive) -> AsyncGenerator[bytes]:
    """The body, piece by piece. Raises: Refused TOO_SLOW, ClientGone."""
    size, started, more = 0, time.monotonic(), True
    while more:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                message = await receive()
        except TimeoutError:
            raise refusal(TOO_SLOW, f"Nothing came for {SILENT_SECONDS:g} seconds.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size, more = size + len(piece), message.get("more_body", False)
        elapsed = time.monotonic() - started
        if elapsed > GRACE_SECONDS and size < elapsed * LEAST_RATE:
            raise refusal(TOO_SLOW, f"The body must come at {LEAST_RATE} bytes a second or faster.")
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
