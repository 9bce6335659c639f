"""The event feed: reads the log once in each process for all its subscribers, first history, then live events, without a seam.

A subscriber is a position in the log and holds no queue. One that keeps up is served from memory, one that is behind from the table, and one that
is older than the kept history gets an `EventGap`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import Enum

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database import hosts
from persistence.kit.database.database import Change, Database
from persistence.kit.events import log as events
from persistence.kit.events.broker import Broker
from persistence.kit.events.log import Event
from persistence.kit.events.watermark import ConcurrentWatermark, LogReset, SerialWatermark, Watermark
from persistence.kit.tasks.supervisor import SupervisedTask, Supervisor

log = structlog.get_logger(__name__)

WAKE = "events"  # The broker channel that says: look at the log.
RECENT_EVENTS = 4_096  # Kept in memory: about 4 MB.
PAGE_EVENTS = 200  # Read at a time for one subscriber: what a slow one holds.
POLL_SECONDS = 1.0  # The longest delay when a wake-up is lost.
REST_SECONDS = 0.01  # Between two looks: under many small changes, each look finds several.
HELD_BACK_POLL_SECONDS = 0.02  # While an older transaction is open; grows by half with each look, up to POLL_SECONDS.
YIELD_EVERY = 8  # Events delivered to one subscriber before the event loop serves others.
READERS = 2  # Subscribers that read from the table at once; the others wait their turn, and leave connections to everybody else.
NOTHING_YET = -1

Reading = Callable[[], Awaitable[None]]


class EventGapReason(Enum):
    EXPIRED = "EXPIRED"
    OVERFLOW = "OVERFLOW"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class EventGap:
    """Events up to `resume_from` cannot be delivered to this subscriber any more; its stream goes on after it."""

    resume_from: int
    reason: EventGapReason


class EventBuffer:
    """The end of the log: every event after `after` up to the released one."""

    def __init__(self, after: int) -> None:
        self.after = after
        self._events: list[Event] = []

    @property
    def events(self) -> Sequence[Event]:
        return self._events

    def add(self, fresh: Sequence[Event]) -> None:
        """`fresh` follows without a hole, or holds more than RECENT_EVENTS."""
        self._events += fresh
        if (surplus := len(self._events) - RECENT_EVENTS) > 0:
            self.after = self._events[surplus - 1].id
            del self._events[:surplus]

    def between(self, after: int, until: int) -> list[Event]:
        start = bisect_right(self._events, after, key=_id)
        stop = bisect_right(self._events, until, lo=start, hi=min(len(self._events), start + PAGE_EVENTS), key=_id)
        return self._events[start:stop]


class Feed:
    """The log of one database as one process sees it."""

    def __init__(self, database: Database, broker: Broker, supervisor: Supervisor | None = None) -> None:
        self._database, self._broker, self._supervisor = database, broker, supervisor or Supervisor()
        self._watermark: Watermark = SerialWatermark() if database.dialect == "sqlite" else ConcurrentWatermark()
        self._identity = ""
        self._released = NOTHING_YET
        self._end: int | None = None  # Where subscriptions end, once the process does.
        self._reading = asyncio.Semaphore(READERS)
        self._moves = hosts.moves()
        self._histories = 0  # Grows when the log was set back: positions of before mean nothing then.
        self._recent = EventBuffer(NOTHING_YET)
        self._look, self._news, self._ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tasks: list[SupervisedTask] = []

    @property
    def held_back_seconds(self) -> float:
        """How long a transaction that is still open has kept events from being delivered."""
        return self._watermark.held_back_seconds

    async def start(self) -> None:
        self._database.listen(self._wake)
        self._tasks = [self._supervisor.start("event log", self._read_log), self._supervisor.start("event wake-ups", self._listen)]

    async def stop(self) -> None:
        await asyncio.gather(*(task.stop() for task in self._tasks))

    def stop_subscriptions(self) -> str | None:
        """End every subscription after what is released now. The cursor of that place, which they all have reached by their end."""
        if not self._ready.is_set():
            return None
        self._end = self._released
        self._news, news = asyncio.Event(), self._news
        news.set()
        return self.cursor(self._end)

    def cursor(self, event_id: int) -> str:
        return events.cursor(self._identity, event_id)

    async def position(self) -> int:
        """The newest event that is delivered: what is read from the tables after this call has at least all up to it."""
        await self._ready.wait()
        return self._released

    async def resume(self, cursor: str | None, *, reading: Reading | None = None) -> AsyncGenerator[Event | EventGap]:
        """Events after a cursor, or from now without one; an empty one is none. Raises: InvalidInput, if it is none; a cursor of another log begins with `Missed`.

        `reading` is awaited before each page of PAGE_EVENTS that is read from the table for this subscriber.
        """
        await self._ready.wait()
        if not cursor:
            after = self._released
        else:
            log_, after = events.parse(cursor)
            if log_ != self._identity:
                after = self._released
                yield EventGap(after, EventGapReason.UNKNOWN)
        async with aclosing(self.subscribe(after, reading=reading)) as events_:
            async for event in events_:
                yield event

    async def subscribe(self, after: int, *, reading: Reading | None = None) -> AsyncGenerator[Event | EventGap]:
        """Events after `after`, then live ones, until the feed is finished."""
        await self._ready.wait()
        position, history, too_late = after, self._histories, EventGapReason.EXPIRED
        while True:
            news, released = self._news, self._released if self._end is None else self._end
            if history != self._histories or (position > released and await self._is_unknown(position)):
                position, history = released, self._histories
                yield EventGap(position, EventGapReason.UNKNOWN)
            elif position < released:
                if reading and position < self._recent.after:
                    await reading()
                batch = await self._after(position, released, too_late)
                if isinstance(batch, EventGap):
                    position = batch.resume_from
                    yield batch
                    continue
                for number, event in enumerate(batch):
                    if number % YIELD_EVERY == 0:
                        await asyncio.sleep(0)
                    yield event
                position = batch[-1].id if batch else released
            if position == self._end:
                return
            if position >= released:
                too_late = EventGapReason.OVERFLOW
                await news.wait()

    async def _after(self, position: int, released: int, too_late: EventGapReason) -> list[Event] | EventGap:
        if position >= self._recent.after:
            return self._recent.between(position, released)
        async with self._reading, self._database.reading_latest() as session:
            found = await events.between(session, position, released, most=PAGE_EVENTS)
            pruned = await events.pruned_through(session)  # Read last: events that were still there do not matter, missing ones do.
        return EventGap(pruned, too_late) if pruned > position else found

    async def _is_unknown(self, position: int) -> bool:
        """Another process may be ahead of this one, so an id beyond the released ones must be looked for."""
        async with self._database.reading_latest() as session:
            return position > await events.newest(session)

    async def _wake(self, _changes: Sequence[Change]) -> None:
        self._look.set()
        await self._broker.publish(WAKE, b"")

    async def _listen(self) -> None:
        with self._broker.listening(WAKE) as wakes:
            async for _ in wakes:
                self._look.set()

    async def _read_log(self) -> None:
        delay: float | None = None
        while True:
            self._look.clear()
            try:
                await self._advance()
            except LogReset:
                log.warning("the event log was reset to an earlier state; subscribers get a gap")
                self._released = NOTHING_YET
                continue
            await asyncio.sleep(REST_SECONDS)
            delay = held_back_poll_seconds(delay) if self.held_back_seconds > 0 else None
            with suppress(TimeoutError):
                async with asyncio.timeout(delay or POLL_SECONDS):  # `wait_for` may swallow a cancellation.
                    await self._look.wait()

    async def _advance(self) -> None:
        async with self._database.reading_latest() as session:
            self._identity = self._identity or await events.identity(session)
            await self._check_history(session)
            final = await self._watermark.final(session)
            if final is None or final == self._released:
                return
            if self._released == NOTHING_YET:
                self._recent = EventBuffer(final)
                self._histories += 1
            elif fresh := await events.latest(session, self._released, final, most=RECENT_EVENTS + 1):
                self._recent.add(fresh)
            else:
                self._recent = EventBuffer(final)  # Some were pruned before they were seen here: the table tells each subscriber which.
        self._released = final
        self._news, news = asyncio.Event(), self._news
        news.set()
        self._ready.set()

    async def _check_history(self, session: AsyncSession) -> None:
        """After a failover: the new primary may lack what was told here, and have other events in its place. Raises: LogReset, once."""
        if (moves := hosts.moves()) == self._moves:
            return
        is_unchanged = await events.is_unchanged(session, self._recent.events)
        self._moves = moves
        if not is_unchanged:
            raise LogReset


def held_back_poll_seconds(before: float | None) -> float:
    """The delay of the next look, by the one of the look before, if an older transaction was open then, too."""
    return min(POLL_SECONDS, before * 1.5) if before else HELD_BACK_POLL_SECONDS


def _id(event: Event) -> int:
    return event.id
