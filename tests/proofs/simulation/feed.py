"""Two processes' feeds over one log: subscribers that are cancelled, hop to the other process, fall behind pruning, and are handed over at a shutdown."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from persistence.kit.events import feed as feeds
from persistence.kit.events import log as events
from persistence.kit.events import watermark
from persistence.kit.events.broker import LocalBroker
from persistence.kit.events.feed import EventGap, Feed
from persistence.kit.tasks import supervisor
from persistence.kit.tasks.supervisor import Supervisor
from tests.proofs.simulation.loop import SimulatedLoop
from tests.proofs.simulation.model_database import IDENTITY, ModelDatabase, log_of

MODULES = (watermark, supervisor)
SETTLE_SECONDS = 60.0


@dataclass
class _Subscriber:
    """Where it is, what it got, and how far it was told that events are gone."""

    after: int
    number: int
    got: list[int] = field(default_factory=list[int])
    gone: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    faults: list[str] = field(default_factory=list[str])

    async def follow(self, feed: Feed) -> None:
        async with aclosing(feed.resume(events.cursor(IDENTITY, self.after))) as stream:
            async for event in stream:
                self._take(event)

    def _take(self, event: Any) -> None:
        if isinstance(event, EventGap):
            self.gone.append((self.after, event.resume_from))
            self.after = event.resume_from
            return
        if event.id <= self.after:
            self.faults.append(f"event {event.id} came after {self.after}")
        self.got.append(event.id)
        self.after = event.id

    def missed(self, everything: set[int]) -> set[int]:
        told = {id_ for id_ in everything for first, last in self.gone if first < id_ <= last}
        return everything - set(self.got) - told


async def scenario(loop: SimulatedLoop, *, draws_numbers: bool = True, serial: bool = False, prunes: bool = True) -> list[str]:
    """`serial` plants the watermark of SQLite, for which every visible event is final."""
    database = ModelDatabase(loop, failures=0.02, draws_numbers=draws_numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "events", log_of())
        if serial:
            patch.setattr(feeds, "ConcurrentWatermark", watermark.SerialWatermark)
            patch.setattr(watermark, "events", log_of())
        brokers = [LocalBroker(), LocalBroker()]  # No wake-up reaches the other process: it looks by the clock.
        processes = [Feed(cast("Any", database), broker, Supervisor(clock=loop.now)) for broker in brokers]
        for feed in processes:
            await feed.start()
        return await _run(loop, database, processes, prunes=prunes)


async def _run(loop: SimulatedLoop, database: ModelDatabase, processes: list[Feed], *, prunes: bool) -> list[str]:
    subscribers = [_Subscriber(0, number) for number in range(4)]
    everything: set[int] = set()
    following = [asyncio.create_task(_follow(loop, subscriber, processes)) for subscriber in subscribers]
    writers = [asyncio.create_task(_write(loop, database, everything)) for _ in range(4)]
    loop.cancellation = 0.004
    await asyncio.gather(*writers, *([_prune(loop, database)] if prunes else []))
    loop.cancellation = 0.0
    await asyncio.sleep(SETTLE_SECONDS)
    cursors = [feed.stop_subscriptions() for feed in processes]
    await asyncio.gather(*following)
    for feed in processes:
        await feed.stop()
    last = max(everything, default=0)
    faults = [fault for subscriber in subscribers for fault in subscriber.faults]
    faults += [f"event {id_} was missed in silence" for subscriber in subscribers for id_ in sorted(subscriber.missed(everything))]
    faults += [f"a process ended at {cursor}" for cursor in cursors if cursor != events.cursor(IDENTITY, last)]
    return faults


async def _write(loop: SimulatedLoop, database: ModelDatabase, everything: set[int]) -> None:
    for _ in range(5):
        before = set(database.committed)
        keep = loop.random.random() > 0.1
        await database.write(loop.random.randint(1, 3), keep=keep)
        everything |= set(database.committed) - before


async def _prune(loop: SimulatedLoop, database: ModelDatabase) -> None:
    await asyncio.sleep(loop.random.uniform(0.1, 1.5))
    if database.committed:
        database.prune(loop.random.choice(sorted(database.committed)[:-1] or [0]))


async def _follow(loop: SimulatedLoop, subscriber: _Subscriber, processes: list[Feed]) -> None:
    """Until the process that it is at ends its subscriptions."""
    while True:
        stream = asyncio.create_task(subscriber.follow(loop.random.choice(processes)))
        loop.victims.append(stream)
        await asyncio.wait([stream])
        if not stream.cancelled() and stream.exception() is None:
            return
        await loop.pause()
