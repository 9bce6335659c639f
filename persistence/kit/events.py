"""The event log: what happened, in an order that everybody sees alike, from any point that is still kept.

`record` writes an event in the transaction of the change. `Feed` reads the log once in each process, for all its subscribers.

Order. An event's id is drawn while the changed row is locked, so for one item ids follow the changes. Ids are not drawn in commit order, though: a
reader that has seen 11 may see 10 appear later. The feed therefore releases an id only when no transaction that may hold a smaller one is still
open: with each look it notes the newest visible id and the next transaction number, and it releases that id once all transactions below that number
have ended. SQLite writes one transaction at a time, so there every visible id is final.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.broker import Broker
from persistence.kit.columns import Document, RowId, UtcDateTime, utc_now
from persistence.kit.database import Base, Change, Database, UnitOfWork

log = structlog.get_logger(__name__)

WAKE = "events"  # The broker channel that says: look at the log.
RECENT_EVENTS = 4_096  # Kept in memory for subscribers that keep up; a slower one reads the table.
READ_EVENTS = 1_000  # Rows a look: about 300 kB.
POLL_SECONDS = 1.0  # The longest delay when a wake-up is lost.
NOTHING_YET = -1
HELD_BACK_POLL_SECONDS = 0.02  # While an older transaction is open.


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str]
    subject_id: Mapped[int] = mapped_column(RowId)
    data: Mapped[dict[str, Any]] = mapped_column(Document)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = ({"sqlite_autoincrement": True},)  # Ids of pruned events are never given out again.


@dataclass(frozen=True)
class Missed:
    """Events up to `resume_from` cannot be delivered any more; the stream goes on after it."""

    resume_from: int
    reason: str


async def record(work: UnitOfWork, kind: str, subject_id: int, data: Mapping[str, Any] | None = None) -> None:
    await record_all(work, kind, {subject_id: data or {}})


async def record_all(work: UnitOfWork, kind: str, data_by_subject: Mapping[int, Mapping[str, Any]]) -> None:
    """Add one event for each subject, after the rows it tells of: on PostgreSQL the write gives the transaction the number that `Feed` waits for."""
    await work.session.flush()
    now = utc_now()
    rows = [{"kind": kind, "subject_id": key, "data": data, "occurred_at": now} for key, data in data_by_subject.items()]
    if rows:
        await work.session.execute(insert(Event), rows)
        work.changes += [Change(kind, key) for key in data_by_subject]


class Feed:
    """The log of one database as one process sees it."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker
        self._released = NOTHING_YET
        self._marks: deque[tuple[int, int]] = deque()
        self._recent: list[Event] = []
        self._recent_after = NOTHING_YET  # Every event with a larger id, up to the released one, is in `_recent`.
        self._look, self._news, self._ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._database.listen(self._wake)
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def lag_seconds(self, now: datetime) -> float:
        """Age of the oldest event that is in the log and not released to subscribers yet."""
        async with self._database.reading() as session:
            oldest = await session.scalar(select(func.min(Event.occurred_at)).where(Event.id > self._released))
        return (now - oldest).total_seconds() if oldest else 0.0

    async def _wake(self, _changes: Sequence[Change]) -> None:
        self._look.set()
        await self._broker.publish(WAKE, b"")

    async def subscribe(self, after: int | None = None) -> AsyncGenerator[Event | Missed]:
        """Events after `after` (or from now), then live ones, without a seam. A slow reader holds no queue: it falls back on the table."""
        await self._ready.wait()
        position = self._released if after is None else after
        while True:
            news, released = self._news, self._released
            if position < min(self._recent_after, released) and (missed := await self._missed(position)):
                position = missed.resume_from
                yield missed
            events = await self._between(position, released)
            for event in events:
                yield event
            position = events[-1].id if events else max(position, released)
            if position >= self._released:
                await news.wait()

    async def _between(self, after: int, until: int) -> list[Event]:
        if after >= until:
            return []
        if after < self._recent_after:
            return await self._read(after, until)
        start = bisect_right(self._recent, after, key=_id)
        return self._recent[start : bisect_right(self._recent, until, lo=start, hi=min(len(self._recent), start + READ_EVENTS), key=_id)]

    async def _read(self, after: int, until: int) -> list[Event]:
        statement = select(Event).where(Event.id > after, Event.id <= until).order_by(Event.id).limit(READ_EVENTS)
        async with self._database.reading() as session:
            return list((await session.scalars(statement)).all())

    async def _missed(self, after: int) -> Missed | None:
        """Whether events after this one were pruned. Ids have holes, so a hole alone proves nothing: the event itself must be gone."""
        async with self._database.reading() as session:
            oldest = await session.scalar(select(func.min(Event.id)))
            if oldest is None or after >= oldest - 1 or await session.scalar(select(Event.id).where(Event.id == after)):
                return None
        return Missed(oldest - 1, "EXPIRED")

    async def _follow(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._advance()
            except Exception:
                log.exception("the event log cannot be read; trying again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), HELD_BACK_POLL_SECONDS if self._marks else POLL_SECONDS)

    async def _listen(self) -> None:
        async for _ in self._broker.subscribe(WAKE):
            self._look.set()

    async def _advance(self) -> None:
        mark = await self._final()
        if mark <= self._released:
            return
        if self._released == NOTHING_YET:
            self._recent_after = mark
        else:
            await self._remember(mark)
        self._released = mark
        self._news, news = asyncio.Event(), self._news
        news.set()
        self._ready.set()

    async def _remember(self, mark: int) -> None:
        position = self._released
        while events := await self._read(position, mark):
            self._recent += events
            position = events[-1].id
            if (surplus := len(self._recent) - RECENT_EVENTS) > 0:
                self._recent_after = self._recent[surplus - 1].id
                del self._recent[:surplus]

    async def _final(self) -> int:
        """The newest id that no open transaction can still precede."""
        async with self._database.reading() as session:
            newest, oldest_open, next_number = await self._boundaries(session)
        if newest > (self._marks[-1][0] if self._marks else self._released):
            self._marks.append((newest, next_number))
        mark = self._released
        while self._marks and self._marks[0][1] <= oldest_open:
            mark = self._marks.popleft()[0]
        return mark

    async def _boundaries(self, session: AsyncSession) -> tuple[int, int, int]:
        """The newest visible id, the oldest open transaction, and the next transaction's number, all at one instant."""
        if self._database.dialect == "sqlite":
            return await session.scalar(select(func.max(Event.id))) or 0, 0, 0
        row = (await session.execute(_BOUNDARIES)).one()
        return row[0], row[1], row[2]


_BOUNDARIES = text(
    "SELECT coalesce((SELECT max(id) FROM events), 0), pg_snapshot_xmin(now_)::text::bigint, pg_snapshot_xmax(now_)::text::bigint"
    " FROM pg_current_snapshot() AS now_"
)


def _id(event: Event) -> int:
    return event.id
