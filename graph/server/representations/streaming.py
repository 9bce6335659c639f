"""Streaming responses that abort the connection when they cannot be completed, so that a client never takes a part for the whole.

So does a client that does not read: see `transport`. It would hold a snapshot of the database, or a file, for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

STALLED_SECONDS = 60.0  # For one part: whoever reads slower holds a file for nothing.
GRACE_SECONDS = 10.0  # Of waiting for a client, from when on it must have read at a least rate.
LEAST_RATE = 4_096  # Bytes a second, as of uploads: a file that is read slowly costs a descriptor.


class TooSlow(Exception):
    """The client reads too slowly for what it holds."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How a client must read a stream: `least_rate` bytes a second while it is waited for, and all of it within `most_seconds`."""

    least_rate: int = LEAST_RATE
    most_seconds: float | None = None


class AbortableStream(Response):
    """Parts from a generator, which is closed whatever happens. A client that goes away ends it at once."""

    def __init__(
        self,
        parts: AsyncGenerator[bytes],
        *,
        media_type: str,
        headers: Mapping[str, str],
        status: int = 200,
        limits: StreamLimits | None = None,
    ) -> None:
        self._limits, self._waited, self._sent_bytes = limits or StreamLimits(), 0.0, 0
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
            async with asyncio.timeout(self._limits.most_seconds):
                await self._write(send, self._first)
                async for part in self._parts:
                    await self._write(send, part)
        except (TimeoutError, TooSlow) as error:
            log.warning("a streaming response was aborted: its client reads too slowly, or its source hangs", error=repr(error))
        except Exception:
            log.exception("a streaming response was aborted")
        else:
            await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send, part: bytes) -> None:
        """Raises: TimeoutError, TooSlow."""
        began = time.monotonic()
        async with asyncio.timeout(STALLED_SECONDS):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        self._waited += time.monotonic() - began
        self._sent_bytes += len(part)
        if self._waited > GRACE_SECONDS and self._sent_bytes < self._waited * self._limits.least_rate:
            raise TooSlow(f"{self._sent_bytes} bytes in {self._waited:.0f} s")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
