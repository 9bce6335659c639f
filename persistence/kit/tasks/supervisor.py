"""The supervisor of background tasks: what is to run for as long as the process lives, and must not end in silence.

A task that ends, by an exception or without, is logged and started again, after a delay that doubles. Until it has run well for a while it counts
as failing, which `/ready` and the metrics show. An outage of the database or of Redis is one line in the log and no failure of the task: those show
by themselves, and all is well as soon as they are back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from persistence.kit.redis.circuit_breaker import REDIS_ERRORS
from persistence.kit.transient_errors import is_transient

log = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]

FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0  # Of what subscribers or jobs wait for: two seconds after an outage all is as before.
WELL_SECONDS = 5.0  # A task that has run for so long has recovered.
STOP_SECONDS = 5.0


class SupervisedTask:
    def __init__(self, name: str, work: Work, restarted: Callable[[str], None], clock: Callable[[], float]) -> None:
        self.name, self._work, self._restarted, self._clock = name, work, restarted, clock
        self.failures = 0
        """In a row."""
        self._unexpected = False
        self._started_at = clock()
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"background: {name}")

    @property
    def failing(self) -> bool:
        return not self._stopping and (self._task.done() or (self._unexpected and self._clock() - self._started_at < WELL_SECONDS))

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Cancel it and wait for its end. A client library may lose a cancellation, so it gets more than one."""
        self._stopping = True
        ends = time.monotonic() + seconds
        while not self._task.done() and time.monotonic() < ends:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=seconds / 10)

    async def wait(self, seconds: float) -> None:
        """Let it come to its end by itself: it is not started again."""
        self._stopping = True
        await asyncio.wait([self._task], timeout=seconds)

    async def _run(self) -> None:
        while not self._stopping:
            self._started_at = self._clock()
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the task must go on
                self._failed(error)
            else:
                if self._stopping:
                    return
                self._failed(None)
            await asyncio.sleep(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self.failures, 10)))

    def _failed(self, error: Exception | None) -> None:
        if self._clock() - self._started_at >= WELL_SECONDS:
            self.failures = 0
        self.failures += 1
        expected = error is not None and (is_transient(error) or isinstance(error, REDIS_ERRORS))
        self._unexpected = not expected
        self._restarted(self.name)
        if self.failures & (self.failures - 1):  # Only the first, second, fourth … in a row are worth a line.
            return
        reported = {"task": self.name, "failures": self.failures, "error": repr(error)}
        log.error("background task failed and is started again", **reported, exc_info=None if expected else error)


class Supervisor:
    def __init__(self, *, restarted: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`restarted` hears the name of a task each time that it is to be started again."""
        self._restarted, self._clock = restarted or _no_task, clock
        self._tasks: list[SupervisedTask] = []

    def start(self, name: str, work: Work) -> SupervisedTask:
        """Run `work`, again and again."""
        task = SupervisedTask(name, work, self._restarted, self._clock)
        self._tasks.append(task)
        return task

    @property
    def names(self) -> list[str]:
        return [task.name for task in self._tasks]

    @property
    def failing(self) -> list[str]:
        """The names of tasks that do not run, or have lately failed."""
        return sorted(task.name for task in self._tasks if task.failing)

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End what has not been ended yet."""
        await asyncio.gather(*(task.stop(seconds) for task in self._tasks))


def _no_task(_name: str) -> None:
    pass
