"""Responses that are sent as they are made, from start to end or not at all: what cannot be finished breaks the connection off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Self

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

STALLED_SECONDS = 60.0  # For one part: whoever reads slower holds a snapshot of the database, or a file, for nothing.


class Stream(Response):
    """Parts from a generator, which is closed whatever happens. A client that goes away ends it at once."""

    def __init__(self, parts: AsyncGenerator[bytes], *, media_type: str, headers: Mapping[str, str], status: int = 200) -> None:
        self._first, self._parts = b"", parts
        self.media_type, self.status_code, self.background = media_type, status, None
        self.init_headers(headers)

    async def begin(self) -> Self:
        """Wait for the first part: what fails at once, fails while the answer can still say so."""
        try:
            self._first = await anext(self._parts, b"")
        except BaseException:
            await self._parts.aclose()
            raise
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._parts):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            tasks = {asyncio.create_task(self._send(send)), asyncio.create_task(_gone(receive))}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        try:
            await _sent(send, self._first)
            async for part in self._parts:
                await _sent(send, part)
        except TimeoutError:
            log.warning("a reader stalled; its stream was broken off", after_seconds=STALLED_SECONDS)
        except Exception:
            log.exception("a stream was broken off")
        else:
            await send({"type": "http.response.body", "body": b""})


async def _sent(send: Send, part: bytes) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
