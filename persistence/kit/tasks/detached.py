"""Detached tasks: work that a cancelled caller must not cut off. It goes on to its end while the caller leaves at once.

A commit that is cut off in the middle leaves nobody knowing; a connection whose checkout is cut off never returns to its pool. Both have bounds of
their own, so nothing here lasts for ever. Never for work that nobody else bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


class DetachedTasks:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, work: Awaitable[T], *, abandoned: Callable[[], Awaitable[object]] | None = None) -> T:
        """The result of `work`. If the caller is cancelled meanwhile, `work` goes on without it, and `abandoned` cleans up after it."""
        task = asyncio.ensure_future(work)
        self._keep(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done() or not task.cancelled():
                self.start(_afterwards(task, abandoned))
            raise

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin work that nobody waits for."""
        self._keep(asyncio.ensure_future(work))

    async def close(self, seconds: float) -> None:
        """Wait for what is under way; what takes longer is cancelled."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _keep(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Seen: whoever waited has it too, and whoever left cares no more.


async def _afterwards(task: asyncio.Future[Any], abandoned: Callable[[], Awaitable[object]] | None) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("a detached task failed after its caller had left", error=repr(error))
    if abandoned is not None:
        await abandoned()
