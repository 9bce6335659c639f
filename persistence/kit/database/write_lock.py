"""Whose turn it is to write, where there is one writer."""

from __future__ import annotations

import asyncio

WAIT_SECONDS = 20  # Two writers in other processes may each have kept the file for as long as SQLite waits.


class Turn:
    """One at a time. Raises: TimeoutError, so that behind a writer in another process that keeps the file nobody waits for ever."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
