"""Batches look-ups of different operations that arrive in the same event-loop turn. A DataLoader does the same within one operation.

One batch runs at a time, and look-ups that arrive meanwhile form the next: the busier the process, the cheaper each look-up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

P = TypeVar("P", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Batcher(Generic[K, V]):
    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, most: int) -> None:
        """`most` keys are fetched at once."""
        self._fetch, self._most = fetch, most
        self._queued = deque[_Request[K, V]]()
        self._running: asyncio.Task[None] | None = None
        self._served: Sequence[_Request[K, V]] = ()
        self._first = copy_context()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._queued and (self._running is None or self._running.done())

    async def load(self, key: K) -> V | None:
        [found] = await self.many((key,))
        return found

    async def many(self, keys: Sequence[K]) -> Sequence[V | None]:
        """A value for each key, or None."""
        try:
            if len(keys) <= self._most:
                return await self._enqueue(keys)
            parts = [keys[begin : begin + self._most] for begin in range(0, len(keys), self._most)]
            return [value for values in await asyncio.gather(*map(self._enqueue, parts)) for value in values]
        except asyncio.CancelledError:
            self._cancel_unwanted()
            raise

    def _cancel_unwanted(self) -> None:
        """End the statement that is under way, if nobody waits for it any more."""
        if self._running is not None and self._served and all(request.answer.done() for request in self._served):
            self._running.cancel()

    def _enqueue(self, keys: Sequence[K]) -> asyncio.Future[Sequence[V | None]]:
        request: _Request[K, V] = _Request(keys, asyncio.get_running_loop().create_future())
        if not self._queued:
            self._first = copy_context()
        self._queued.append(request)
        if self._running is None:
            self._begin()
        return request.answer

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
        keys, served = dict[K, None](), list[_Request[K, V]]()
        while self._queued:
            together = keys | dict.fromkeys(self._queued[0].keys)
            if len(together) > self._most:
                break
            keys = together
            served.append(self._queued.popleft())
        await self._serve(list(keys), served)

    async def _serve(self, keys: Sequence[K], requests: Sequence[_Request[K, V]]) -> None:
        self._served = requests
        try:
            found = await self._fetch(keys)
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked, each of whom is told
            for request in _waiting(requests):
                request.answer.set_exception(error)
            return
        except asyncio.CancelledError:
            for request in _waiting(requests):
                request.answer.cancel()
            raise
        finally:
            self._served = ()
        for request in _waiting(requests):
            request.answer.set_result([found.get(key) for key in request.keys])


@dataclass(frozen=True, slots=True)
class _Request(Generic[K, V]):
    """Keys, and who waits for their values."""

    keys: Sequence[K]
    answer: asyncio.Future[Sequence[V | None]]


def _waiting(requests: Sequence[_Request[K, V]]) -> Iterator[_Request[K, V]]:
    """Those that have not been cancelled meanwhile."""
    return (request for request in requests if not request.answer.done())


class SharedCalls(Generic[P, V]):
    """Calls of one key, of which those that come before one begins share it; as a later one they see what was changed until then."""

    def __init__(self) -> None:
        self._batchers: dict[P, Batcher[None, V]] = {}

    async def call(self, key: P, fetch: Callable[[], Awaitable[V]]) -> V:
        async def fetched(_: Sequence[None]) -> Mapping[None, V]:
            return {None: await fetch()}

        batcher = self._batchers.get(key)
        if batcher is None:
            batcher = self._batchers[key] = Batcher(fetched, most=1)
        try:
            return cast("V", await batcher.load(None))
        finally:
            if batcher.idle and self._batchers.get(key) is batcher:
                del self._batchers[key]


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
