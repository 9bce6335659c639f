"""A few connections to PostgreSQL for single statements.

asyncpg's own pool does more: it wraps each connection, and resets and shields it when it comes back, which takes as long as a small query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

Link = Any  # asyncpg.Connection, which is generic for type checkers alone.

CLOSE_SECONDS = 5.0  # Then a connection is dropped without a farewell.


class Links:
    def __init__(self, connect: Callable[[], Awaitable[Link]], most: int, *, recycle_seconds: float) -> None:
        self._connect, self._recycle_seconds = connect, recycle_seconds
        self._seats = asyncio.Semaphore(most)
        self._idle: list[tuple[Link, float]] = []
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[Link]:
        """A connection for nobody else meanwhile. Where a statement was left before its end, it is not used again."""
        async with self._seats:
            link, since = self._spare() or (await self._connect(), time.monotonic())
            try:
                yield link
            except asyncpg.PostgresError:  # The server's word on the statement, which ended with it.
                self._idle.append((link, since))
                raise
            except BaseException:
                self._leave(link)
                raise
            self._idle.append((link, since))

    def _spare(self) -> tuple[Link, float] | None:
        oldest = time.monotonic() - self._recycle_seconds
        while self._idle:
            link, since = self._idle.pop()
            if since > oldest and not link.is_closed():
                return link, since
            self._leave(link)
        return None

    def _leave(self, link: Link) -> None:
        """Close it beside all else: it first stops the statement that may still run."""
        task = asyncio.create_task(link.close(timeout=CLOSE_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # Seen: what is wrong with a connection that is given up concerns nobody.

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for link, _ in idle:
            self._leave(link)
        await asyncio.gather(*self._closing, return_exceptions=True)
