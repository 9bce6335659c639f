"""The job runner: one in each process, woken by this process's commits and by a timer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

import structlog

from persistence.kit.database.database import Change, Database
from persistence.kit.jobs import queue as jobs
from persistence.kit.jobs.queue import Job, JobHandler
from persistence.kit.tasks.supervisor import SupervisedTask, Supervisor

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WorkerConfig:
    at_once: int = 32  # Jobs that one process does side by side.
    lease_seconds: float = 30  # How long the work of a process that died stays untouched.
    poll_seconds: float = 1
    rest_seconds: float = 0.03  # After a round that was not full: what is queued meanwhile is claimed, and ended, together.
    first_delay_seconds: float = 1  # Doubles with each failure, up to jobs.LONGEST_DELAY.
    attempts: int = 8  # Then a job is parked: after about two minutes of failing.


class JobRunner:
    def __init__(
        self, database: Database, handlers: Mapping[str, JobHandler], pace: WorkerConfig | None = None, supervisor: Supervisor | None = None
    ) -> None:
        self._database, self._handlers, self._pace = database, handlers, pace or WorkerConfig()
        self._supervisor = supervisor or Supervisor()
        self._wake = asyncio.Event()
        self._task: SupervisedTask | None = None
        self._draining = False

    async def start(self) -> None:
        self._database.listen(self._hear)
        self._task = self._supervisor.start("background work", self._follow)

    async def stop(self, *, seconds: float = 5) -> None:
        """Finish the jobs in hand, and take no more. What takes longer is cut off: it is taken up again when its lease runs out."""
        self._draining = True
        self._wake.set()
        if self._task:
            await self._task.wait(seconds)
            await self._task.stop()

    async def _hear(self, changes: Sequence[Change]) -> None:
        if any(change.kind == jobs.QUEUED for change in changes):
            self._wake.set()

    async def _follow(self) -> None:
        while not self._draining:
            self._wake.clear()
            claimed = await self._round()
            if claimed < self._pace.at_once:
                await self._rest(self._pace.rest_seconds if claimed else 0)

    async def _rest(self, least_seconds: float) -> None:
        await asyncio.sleep(least_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.poll_seconds * random.uniform(0.75, 1.25)):  # noqa: S311 -- spreads processes
                await self._wake.wait()

    async def _round(self) -> int:
        """Do what is due; how many jobs that were."""
        if not await self._something_due():
            return 0
        lease = timedelta(seconds=self._pace.lease_seconds)
        async with self._database.transaction() as work:
            claimed = await jobs.claim(work, most=self._pace.at_once, lease=lease)
        await self._do(claimed)
        return len(claimed)

    async def _something_due(self) -> bool:
        """A look without the write lock, which SQLite gives to one at a time."""
        async with self._database.reading() as session:
            return await jobs.is_due(session)

    async def _do(self, claimed: Sequence[Job]) -> None:
        """What is performed by the same time ends in one transaction; nothing waits for a slow job."""
        performing = {asyncio.create_task(self._perform(job)): job for job in claimed}
        try:
            while performing:
                done, _ = await asyncio.wait(performing, return_when=asyncio.FIRST_COMPLETED)
                performed = [(performing.pop(task), task.result()) for task in done]
                ready = sorted((job for job, succeeded in performed if succeeded), key=lambda job: (job.kind, job.id))
                for kind, together in groupby(ready, key=lambda job: job.kind):
                    await self._finish(kind, list(together))
        finally:
            await _cancel(performing)  # By a runner that is stopped: nobody would end what they do.

    async def _perform(self, job: Job) -> bool:
        try:
            async with asyncio.timeout(self._pace.lease_seconds * 0.8):
                await self._handlers[job.kind].perform(job)
        except Exception as error:  # noqa: BLE001 -- whatever fails is tried again, then parked
            await self._failed(job, error)
            return False
        return True

    async def _finish(self, kind: str, performed: Sequence[Job]) -> None:
        try:
            async with self._database.transaction() as work:
                ended = await jobs.end(work, performed)
                await self._handlers[kind].finish(work, ended)
        except Exception as error:  # noqa: BLE001 -- the same
            if len(performed) == 1:
                await self._failed(performed[0], error)
                return
            for job in performed:  # Alone, each stands for itself.
                await self._finish(kind, [job])
        else:
            for job in set(performed) - set(ended):
                log.warning("a job outlived its lease and was left to another process", kind=kind, key=job.key)

    async def _failed(self, job: Job, error: Exception) -> None:
        last = job.attempts >= self._pace.attempts
        log.warning("a job failed", kind=job.kind, key=job.key, attempts=job.attempts, parked=last, exc_info=error)
        try:
            async with self._database.transaction() as work:
                await jobs.reschedule(work, job, delay=None if last else self._delay(job.attempts), error=repr(error))
        except Exception:
            log.exception("a failed job could not be rescheduled; it is retried when its lease expires", kind=job.kind, key=job.key)

    def _delay(self, attempts: int) -> timedelta:
        """Twice as long each time, and somewhere between half and all of that, so that jobs which failed together do not come back together."""
        seconds = self._pace.first_delay_seconds * 2 ** (attempts - 1)
        return timedelta(seconds=seconds * random.uniform(0.5, 1))  # noqa: S311


async def _cancel(tasks: Collection[asyncio.Task[bool]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
