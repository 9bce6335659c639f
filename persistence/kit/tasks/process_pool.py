"""A pool of worker processes for CPU-bound work: a thread would hold Python's lock and slow every other request.

Light on imports: each of those processes imports this file.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")


class ProcessPool:
    """Processes that are started when they are first needed, and end with `stop`."""

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or max(1, (os.cpu_count() or 1) // 2)
        self._pool: ProcessPoolExecutor | None = None
        self._stopped = False

    @property
    def processes(self) -> list[int]:
        """The process ids of those that run."""
        return list(self._pool._processes or {}) if self._pool else []  # noqa: SLF001 -- there is no public name before Python 3.14

    async def run(self, function: Callable[[int], T], argument: int) -> T:
        """The result of a function of a module. A process that was killed is replaced, and its work done again."""
        pool = self._running()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, function, argument)
        except BrokenProcessPool:
            if self._stopped:
                raise
            if self._pool is pool:
                await self._end()
            return await loop.run_in_executor(self._running(), function, argument)

    async def stop(self) -> None:
        """End the processes at once, whatever they are at."""
        self._stopped = True
        await self._end()

    async def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # By their objects, which know what has ended: its number may be another program's by now.
        for process in list((pool._processes or {}).values()):  # noqa: SLF001 -- as above
            process.kill()
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    def _running(self) -> ProcessPoolExecutor:
        if self._stopped:
            raise BrokenProcessPool("The service is stopping.")
        if self._pool is None:
            # Not fork: a copy of a process with threads may hold a lock that nobody will ever release.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, context, _leave_signals_to_the_parent)
        return self._pool


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to every process of the terminal.


def fibonacci(n: int) -> int:
    """The n-th Fibonacci number, from 0, one addition at a time."""
    before, here = 1, 0
    for _ in range(n):
        before, here = here, before + here
    return here
