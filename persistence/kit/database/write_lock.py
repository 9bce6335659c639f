"""The write lock of SQLite, which has one writer at a time."""

from __future__ import annotations

import asyncio


class WriteLock:
    """One at a time."""

    def __init__(self, wait_seconds: float) -> None:
        self._lock, self._wait_seconds = asyncio.Lock(), wait_seconds

    async def take(self) -> None:
        """Raises: TimeoutError, so that behind a writer in another process that keeps the file nobody waits for ever."""
        async with asyncio.timeout(self._wait_seconds):
            await self._lock.acquire()

    def give_back(self) -> None:
        self._lock.release()
