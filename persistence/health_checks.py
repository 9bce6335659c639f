"""Health checks: the database and its migrations, files, Redis, and whether this process is shutting down."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
from redis.asyncio import Redis

from persistence.kit.blobs.blobs import Blobs
from persistence.kit.database.database import Database
from persistence.kit.redis.circuit_breaker import REDIS_ERRORS, TIMEOUT_SECONDS
from persistence.schema import is_current

log = structlog.get_logger(__name__)

CACHE_SECONDS = 1.0  # Supervisors ask every few seconds; each look takes two statements, a listing of files and a PING.
TROUBLE_SECONDS = 0.05  # What is not whole: that it is over should be known soon.
PROMPT_SECONDS = 0.25  # A busy process looks slowly, and a supervisor waits for a second.
STALE_SECONDS = 3.0  # A second, and as long as a look may take.
ANSWER_SECONDS = 2.0  # A database or a store of files that takes longer serves nobody.


@dataclass(frozen=True)
class HealthReport:
    """`redis` is None where none is used."""

    database: bool
    migrated: bool
    files: bool = True
    redis: bool | None = None
    draining: bool = False
    failing: Sequence[str] = ()
    """Background tasks that do not run."""

    @property
    def ready(self) -> bool:
        return self.database and self.migrated and not self.draining

    @property
    def fully_healthy(self) -> bool:
        return self.ready and self.files and self.redis is not False and not self.failing


class HealthChecks:
    """Looks when asked, at most once a second however many ask. `draining` tells whether the process finishes what it has begun and should get nothing new."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        redis: Redis | None,
        *,
        draining: Callable[[], bool],
        failing: Callable[[], Sequence[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failing` names the background tasks that do not run."""
        self._database, self._blobs, self._redis, self._draining, self._failing = database, blobs, redis, draining, failing
        self._clock = clock
        self._look: asyncio.Task[HealthReport] | None = None
        self._known: HealthReport | None = None
        self._looked_at = -math.inf

    async def run(self) -> HealthReport:
        """What was found within the last second, or is found now. While that takes long, what was found before, unless it is too old."""
        if self._look is None or (self._look.done() and self._age() >= (CACHE_SECONDS if self._is_whole() else TROUBLE_SECONDS)):
            self._look = asyncio.create_task(self._look_at_all())
        known = self._known if self._age() < STALE_SECONDS else None
        # Whoever goes away does not take the look from the others.
        await asyncio.wait([self._look], timeout=None if known is None else PROMPT_SECONDS)
        found = self._look.result() if known is None or self._look.done() else known
        return replace(found, draining=self._draining(), failing=self._failing())

    def _age(self) -> float:
        return self._clock() - self._looked_at

    def _is_whole(self) -> bool:
        return self._known is not None and self._known.fully_healthy

    async def _look_at_all(self) -> HealthReport:
        (database, migrated), files, redis = await asyncio.gather(self._check_database(), self._check_files(), self._check_redis())
        self._known, self._looked_at = HealthReport(database, migrated, files, redis), self._clock()
        return self._known

    async def _check_database(self) -> tuple[bool, bool]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return True, await is_current(self._database)
        except Exception as error:  # noqa: BLE001 -- whatever keeps it from answering, it is not well
            log.warning("the database does not answer", error=repr(error))
            return False, False

    async def _check_files(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._blobs.check()
        except Exception as error:  # noqa: BLE001 -- each provider has its own
            log.warning("files cannot be reached", error=repr(error))
            return False
        return True

    async def _check_redis(self) -> bool | None:
        if self._redis is None:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._redis.ping()  # pyright: ignore[reportUnknownMemberType] -- typed for both of its clients at once
        except REDIS_ERRORS:
            return False
        return True
