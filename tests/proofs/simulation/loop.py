"""A deterministic event loop: virtual time, callbacks in an order drawn from a seed, cancellations between any two steps.

Nothing waits: when nothing is ready, the clock jumps to the next timer. The same seed gives the same run, step by step.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest

STEPS = 200_000  # A run that takes more goes round in circles.


class Stuck(Exception):
    """Nothing is ready and no timer is set: somebody waits for what never comes."""


class _Task(asyncio.Task[Any]):
    """Sets of tasks are walked in the order in which the tasks were made, not in that of their addresses."""

    _numbers = count()

    def __new__(cls, *_: Any, **__: Any) -> Self:
        task = super().__new__(cls)
        task.number = next(cls._numbers)
        return task

    number: int

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.BaseEventLoop):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.steps = 0
        self.faults: list[str] = []
        self.victims: list[asyncio.Task[Any]] = []
        self.cancellation = 0.0
        """The chance that one of `victims` is cancelled before a step."""
        self._now = 0.0
        self.set_task_factory(_task)
        self.set_exception_handler(lambda _, context: self.faults.append(f"{context.get('message')}: {context.get('exception')!r}"))

    def time(self) -> float:
        return self._now

    def now(self) -> float:
        return self._now

    def _run_once(self) -> None:
        ready: Any = getattr(self, "_ready")  # noqa: B009 -- a private name of the standard library's loop
        scheduled: Any = getattr(self, "_scheduled")  # noqa: B009
        self._cancel_somebody()
        if not ready:
            if not scheduled:
                raise Stuck
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        place = self.random.randrange(len(ready))
        ready.rotate(-place)
        handle = ready.popleft()
        ready.rotate(place)
        self.steps += 1
        if self.steps > STEPS:
            raise Stuck
        if not handle.cancelled():
            handle._run()

    def _cancel_somebody(self) -> None:
        if self.cancellation and self.victims and self.random.random() < self.cancellation:
            self.victims = [task for task in self.victims if not task.done()]
            if self.victims:
                self.victims.pop(self.random.randrange(len(self.victims))).cancel()

    async def pause(self, most: float = 0.05) -> None:
        """As long as a call to another machine takes; now and then much longer."""
        await asyncio.sleep(self.random.uniform(0, most) * (20 if self.random.random() < 0.05 else 1))

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    return _Task(work, loop=loop, **options)


Scenario = Callable[[SimulatedLoop], Coroutine[Any, Any, list[str]]]


def simulated(scenario: Scenario, seed: int, *modules: ModuleType) -> tuple[list[str], int]:
    """The faults of one run, and its steps. `modules` see the loop's clock and chance in place of the machine's."""
    loop = SimulatedLoop(seed)
    with _virtual(loop, modules):
        try:
            faults = loop.run_until_complete(scenario(loop))
        except Stuck:
            faults = ["somebody waits for ever"]
        finally:
            _end(loop)
    return faults + loop.faults, loop.steps


def _end(loop: SimulatedLoop) -> None:
    loop.cancellation = 0.0
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        try:
            loop.run_until_complete(asyncio.wait(left, timeout=60))
        except Stuck:
            loop.faults.append("a task cannot be cancelled")
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@contextmanager
def _virtual(loop: SimulatedLoop, modules: tuple[ModuleType, ...]) -> Generator[None]:
    clock = SimpleNamespace(monotonic=loop.now, time=time.time)
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            for name, value in {"time": clock, "random": loop.random}.items():
                if hasattr(module, name):
                    patch.setattr(module, name, value)
        yield
