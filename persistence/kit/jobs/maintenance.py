"""Maintenance: prunes expired rows a little at a time, in each process, for as long as it runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

import structlog

from persistence.kit.database.database import Database, UnitOfWork

log = structlog.get_logger(__name__)

ROUND_SECONDS = 60.0

PruneTask = Callable[[UnitOfWork], Awaitable[int]]
"""Removes some rows and tells how many, so few that nobody waits long for the write lock. 0 ends it for this round."""


class Maintenance:
    def __init__(self, database: Database, chores: Mapping[str, PruneTask]) -> None:
        self._database, self._chores = database, chores

    async def run_forever(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads processes
            await self.run_once()

    async def run_once(self) -> None:
        for what, task in self._chores.items():
            total = 0
            while removed := await self._one(task):
                total += removed
            if total:
                log.info("upkeep", removed=what, rows=total)

    async def _one(self, task: PruneTask) -> int:
        async with self._database.transaction() as work:
            return await task(work)
