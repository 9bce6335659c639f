"""Three job runners over one queue, with leases, slow and failing jobs, and processes that die: each job has its effect once, and none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from persistence.kit.jobs import queue, runner
from persistence.kit.jobs.runner import JobRunner, WorkerConfig
from persistence.kit.tasks import supervisor
from persistence.kit.tasks.supervisor import Supervisor
from tests.proofs.simulation.loop import SimulatedLoop

MODULES = (runner, supervisor)
JOBS = 12
CONFIG = WorkerConfig(at_once=4, lease_seconds=3, poll_seconds=0.5, first_delay_seconds=0.5, attempts=1_000)


@dataclass(frozen=True)
class ModelJob:
    id: int
    kind: str
    attempts: int
    due_at: float
    key: str = ""


@dataclass
class _Work:
    """What a transaction sees and changes; others see it once it is committed."""

    jobs: dict[int, ModelJob]
    finished: Counter[int]

    def is_ours(self, job: ModelJob) -> bool:
        return job.id in self.jobs and self.jobs[job.id].attempts == job.attempts


class ModelQueue:
    """One transaction at a time, as on SQLite; what a block changed is there at its end, or not at all."""

    dialect = "sqlite"

    def __init__(self, loop: SimulatedLoop, *, checks_claims: bool) -> None:
        self._loop, self._checks_claims, self._turn = loop, checks_claims, asyncio.Lock()
        self.committed = _Work({number: ModelJob(number, "work", 0, 0.0) for number in range(JOBS)}, Counter())

    def listen(self, _: Any) -> None:
        pass

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[_Work]:
        await self._loop.pause(0.01)
        yield self.committed

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[_Work]:
        if self._loop.random.random() < 0.05:
            await asyncio.sleep(CONFIG.lease_seconds * 1.5)  # A process that was frozen: its leases have run out meanwhile.
        async with self._turn:
            work = _Work(dict(self.committed.jobs), Counter(self.committed.finished))
            await self._loop.pause(0.02)
            yield work
            await self._loop.pause(0.02)
            if self._loop.random.random() < 0.03:
                raise ConnectionResetError
            self.committed = work

    def functions(self) -> SimpleNamespace:
        """What the runner calls of the queue, answered by the model."""

        async def is_due(work: _Work) -> bool:
            return any(job.due_at <= self._loop.now() for job in work.jobs.values())

        async def claim(work: _Work, *, most: int, lease: timedelta) -> Sequence[ModelJob]:
            now = self._loop.now()
            due = [job for job in work.jobs.values() if job.due_at <= now][:most]
            claimed = [replace(job, attempts=job.attempts + 1, due_at=now + lease.total_seconds()) for job in due]
            work.jobs |= {job.id: job for job in claimed}
            return claimed

        async def end(work: _Work, performed: Sequence[ModelJob]) -> Sequence[ModelJob]:
            ours = [job for job in performed if not self._checks_claims or work.is_ours(job)]
            for job in ours:
                work.jobs.pop(job.id, None)
            return ours

        async def reschedule(work: _Work, job: ModelJob, *, delay: timedelta | None, error: str) -> None:
            if work.is_ours(job) and delay is not None:
                work.jobs[job.id] = replace(job, due_at=self._loop.now() + delay.total_seconds())

        return SimpleNamespace(is_due=is_due, claim=claim, end=end, reschedule=reschedule, QUEUED=queue.QUEUED)


class _Handler:
    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.performed: Counter[int] = Counter()

    async def perform(self, job: ModelJob) -> None:
        await self._loop.pause(0.5)  # Now and then longer than a lease.
        if self._loop.random.random() < 0.1:
            raise ValueError(job)
        self.performed[job.id] += 1

    async def finish(self, work: Any, ended: Sequence[ModelJob]) -> None:
        work.finished.update(job.id for job in ended)


async def scenario(loop: SimulatedLoop, *, checks_claims: bool = True) -> list[str]:
    """`checks_claims` False plants an end that does not ask whether the job is still ours."""
    model = ModelQueue(loop, checks_claims=checks_claims)
    handler = _Handler(loop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "jobs", model.functions())
        runners = [await _started(loop, model, handler) for _ in range(3)]
        for _ in range(4):
            await asyncio.sleep(loop.random.uniform(0, 3))
            victim = loop.random.randrange(3)
            await runners[victim].stop(seconds=0.0)  # As a process that dies: what it was at is cut off anywhere.
            runners[victim] = await _started(loop, model, handler)
        async with asyncio.timeout(600):
            while model.committed.jobs:  # noqa: ASYNC110 -- a model has no bell
                await asyncio.sleep(1)
        await asyncio.gather(*(each.stop(seconds=10) for each in runners))
    finished = model.committed.finished
    faults = [f"job {id_} had its effect {count} times" for id_, count in finished.items() if count != 1]
    return faults + [f"job {id_} was lost" for id_ in range(JOBS) if not (finished[id_] and handler.performed[id_])]


async def _started(loop: SimulatedLoop, model: ModelQueue, handler: _Handler) -> JobRunner:
    started = JobRunner(cast("Any", model), {"work": cast("Any", handler)}, CONFIG, Supervisor(clock=loop.now))
    await started.start()
    return started
