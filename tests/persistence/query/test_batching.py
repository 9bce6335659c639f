"""Look-ups that come at the same time share a statement, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from persistence.kit.query.batching import Batcher, BatcherByTarget, SharedCalls
from tests.support.endpoints import until


class Shelf:
    """Finds every number but 13 doubled, once it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.open = asyncio.Event(), asyncio.Event()

    async def fetch(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.batches.append(list(keys))
        self.begun.set()
        await self.open.wait()
        if 666 in keys:
            raise ValueError(keys)
        return {key: 2 * key for key in keys if key != 13}


async def test_fetches_what_comes_meanwhile_in_the_next_batch() -> None:
    shelf = Shelf()
    gathering = Batcher(shelf.fetch, most=3)
    first = [asyncio.create_task(gathering.load(key)) for key in (1, 2, 1)]
    await shelf.begun.wait()
    later = [asyncio.create_task(gathering.load(key)) for key in (1, 13, 5, 6)]
    await asyncio.sleep(0)
    shelf.open.set()
    assert await asyncio.gather(*first, *later) == [2, 4, 2, 2, None, 10, 12]
    assert shelf.batches == [[1, 2], [1, 13, 5], [6]]


async def test_fetches_in_parts_what_is_too_much_for_one_batch() -> None:
    shelf = Shelf()
    shelf.open.set()
    assert await Batcher(shelf.fetch, most=2).many((5, 4, 13, 2, 1)) == [10, 8, None, 4, 2]
    assert shelf.batches == [[5, 4], [13, 2], [1]]


async def test_shares_calls_of_one_key_with_those_that_come_before_one_begins() -> None:
    begun, goes_on, calls = list[str](), asyncio.Event(), SharedCalls[str, str]()

    async def fetch(key: str) -> str:
        begun.append(key)
        await goes_on.wait()
        return f"{key} {begun.count(key)}"

    def call(key: str) -> asyncio.Task[str]:
        return asyncio.create_task(calls.call(key, lambda: fetch(key)))

    first = [call("a"), call("a"), call("b")]
    await until(lambda: len(begun) == 2)
    later = [call("a"), call("a")]
    await asyncio.sleep(0)
    assert begun == ["a", "b"]
    goes_on.set()
    assert await asyncio.gather(*first, *later) == ["a 1", "a 1", "b 1", "a 2", "a 2"]
    assert await call("b") == "b 2"
    assert calls._batchers == {}  # pyright: ignore[reportPrivateUsage] -- whoever calls with ever new keys must not fill the memory


async def test_tells_an_error_to_those_who_shared_it_and_goes_on() -> None:
    shelf = Shelf()
    shelf.open.set()
    gathering = Batcher(shelf.fetch, most=2)
    answers = await asyncio.gather(*(gathering.load(key) for key in (1, 666, 3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError, int]
    assert await gathering.load(4) == 8


async def test_lets_one_leave_while_the_others_wait() -> None:
    shelf = Shelf()
    gathering = Batcher(shelf.fetch, most=2)
    leaving, staying = (asyncio.create_task(gathering.load(1)) for _ in range(2))
    await shelf.begun.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    shelf.open.set()
    assert await staying == 2
    assert leaving.cancelled()


async def test_fetches_on_behalf_of_somebody_who_waits_for_it() -> None:
    asking, behalf = ContextVar[str]("asking"), list[str]()
    shelf = Shelf()

    async def fetch(keys: Sequence[int]) -> Mapping[int, int]:
        behalf.append(asking.get())
        return await shelf.fetch(keys)

    async def ask(name: str, key: int) -> int | None:
        asking.set(name)
        return await gathering.load(key)

    gathering = Batcher(fetch, most=2)
    first = asyncio.create_task(ask("ada", 1))
    await shelf.begun.wait()
    later = [asyncio.create_task(ask("bob", 2)), asyncio.create_task(ask("eve", 3))]
    await asyncio.sleep(0)
    shelf.open.set()
    await asyncio.gather(first, *later)
    assert behalf == ["ada", "bob"]


async def test_keeps_places_apart() -> None:
    fetched = list[tuple[str, Sequence[int]]]()

    async def fetch(place: str, keys: Sequence[int]) -> Mapping[int, str]:
        fetched.append((place, keys))
        return {key: f"{key} at {place}" for key in keys}

    gatherings = BatcherByTarget(fetch, most=2)
    asked = gatherings.load("primary", 1), gatherings.load("replica", 1), gatherings.many("replica", (2,))
    assert await asyncio.gather(*asked) == ["1 at primary", "1 at replica", ["2 at replica"]]
    assert fetched == [("primary", [1]), ("replica", [1, 2])]


async def test_leaves_nobody_waiting_when_a_batch_is_cancelled() -> None:
    fetching = list[asyncio.Task[object]]()

    async def fetch(keys: Sequence[int]) -> Mapping[int, int]:
        task = asyncio.current_task()
        assert task is not None
        fetching.append(task)
        await asyncio.Event().wait()
        return {}

    gathering = Batcher(fetch, most=10)
    waiting = [asyncio.create_task(gathering.load(number)) for number in range(3)]
    await until(lambda: bool(fetching))
    fetching[0].cancel()
    async with asyncio.timeout(10):
        await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True] * 3


async def test_stops_a_batch_that_nobody_waits_for_any_more() -> None:
    stopped, fetched = list[Sequence[int]](), list[Sequence[int]]()

    async def fetch(keys: Sequence[int]) -> Mapping[int, int]:
        fetched.append(keys)
        try:
            if 0 in keys:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(keys)
            raise
        return {key: key for key in keys}

    gathering = Batcher(fetch, most=10)
    waiting = [asyncio.create_task(gathering.load(number)) for number in range(2)]
    await until(lambda: bool(fetched))
    later = asyncio.create_task(gathering.load(7))
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert stopped == []
    waiting[1].cancel()
    assert await asyncio.wait_for(later, 10) == 7
    assert stopped == [[0, 1]]
