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
"""Removes some rows and returns how many: so few that the write lock is held for a moment only. 0 ends it for this round."""


class Maintenance:
    def __init__(self, database: Database, prune_tasks: Mapping[str, PruneTask]) -> None:
        self._database, self._prune_tasks = database, prune_tasks

    async def run_forever(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads processes
            await self.run_once()

    async def run_once(self) -> None:
        for kind, task in self._prune_tasks.items():
            total = 0
            while removed := await self._one(task):
                total += removed
            if total:
                log.info("expired rows removed", kind=kind, rows=total)

    async def _one(self, task: PruneTask) -> int:
        async with self._database.transaction() as work:
            return await task(work)
