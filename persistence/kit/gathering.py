"""Look-ups that come at the same time, whoever asks, share a statement. A DataLoader does the same, but for one operation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

BATCHES_UNDER_WAY = 2  # While they run, further look-ups gather into the next.


class Gathering(Generic[K, V]):
    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._fetch = fetch
        self._wanted: dict[K, list[asyncio.Future[V | None]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def one(self, key: K) -> V | None:
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        if not self._wanted and len(self._under_way) < BATCHES_UNDER_WAY:
            self._begin()
        self._wanted.setdefault(key, []).append(future)
        return await future

    def _begin(self) -> None:
        task = asyncio.create_task(self._run())
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._wanted and len(self._under_way) < BATCHES_UNDER_WAY:
            self._begin()

    async def _run(self) -> None:
        wanted, self._wanted = self._wanted, {}
        try:
            found = await self._fetch(list(wanted))
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked, each of whom is told
            for future in _waiting(wanted.values()):
                future.set_exception(error)
            return
        for key, futures in wanted.items():
            for future in _waiting([futures]):
                future.set_result(found.get(key))


def _waiting(askers: Iterable[Sequence[asyncio.Future[V | None]]]) -> Iterator[asyncio.Future[V | None]]:
    """Those who have not been cancelled meanwhile."""
    return (future for futures in askers for future in futures if not future.done())
