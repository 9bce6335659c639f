"""Reads the body of a GraphQL request whole, within a size and a time limit."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from graph.server.asgi.request_body import ClientGone


class BodyTooLarge(Exception):
    """The body is longer than it may be. What is left of it was not read."""


class BodyTooSlow(Exception):
    """The body did not come in time."""


async def read(receive: Receive, announced: int, *, limit: int, seconds: float) -> bytes:
    """`announced` is the Content-Length, or 0. Raises: TooLarge, TooSlow, ClientGone."""
    if announced > limit:
        raise BodyTooLarge
    message = present(receive)
    try:
        if message is None or message.get("more_body"):
            async with asyncio.timeout(seconds):
                return await _whole(receive, message or await receive(), limit)
    except TimeoutError as error:
        raise BodyTooSlow from error
    return await _whole(receive, message, limit)


def present(receive: Receive) -> Message | None:
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
