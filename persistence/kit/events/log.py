"""The event log: what happened, in one order for every reader, resumable from any event that is still kept.

`record` writes an event in the transaction of the change. Its id is drawn while the changed row is locked, so for one row ids follow the changes;
`watermark` says up to which id the log is final, and `feed` delivers it.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import Document, RowId, UtcDateTime, utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import Base, Change, UnitOfWork
from persistence.kit.errors import InvalidInput

CURSOR_LENGTH = 100  # Characters; ours have about 30.
ID_BOUND = 2**63
PRUNED_AT_ONCE = 1_000  # Events: a delete that holds SQLite's write lock for some milliseconds.


class Event(Base):
    """`id` has no gaps that mean anything: a transaction that is rolled back leaves one.

    On PostgreSQL the id's default (see the migration) first gives the transaction its number, then draws the id: `watermark` builds on that.
    """

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str]
    subject_id: Mapped[int] = mapped_column(RowId)
    data: Mapped[dict[str, Any]] = mapped_column(Document)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = ({"sqlite_autoincrement": True},)  # Ids of pruned events are never given out again.


class EventLog(Base):
    """One row about the log itself. `identity` is part of every cursor, and new after a restore: what came after the backup is another history."""

    __tablename__ = "event_log"

    identity: Mapped[str] = mapped_column(primary_key=True)
    pruned_through: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True)
class EventRetention:
    """How much of the log is kept: events younger than `age`, and at most about `count` of them. The newest one always stays."""

    age: timedelta
    count: int


async def record(work: UnitOfWork, kind: str, subject_id: int, data: Mapping[str, Any] | None = None) -> None:
    await record_all(work, kind, {subject_id: data or {}})


async def record_all(work: UnitOfWork, kind: str, data_by_subject: Mapping[int, Mapping[str, Any]]) -> None:
    """Add one event for each subject, after the rows it tells of: they are locked then."""
    await record_each(work, kind, list(data_by_subject.items()))


async def record_each(work: UnitOfWork, kind: str, events: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """The same where a subject may have several events: each its subject and data."""
    await work.session.flush()
    now = utc_now()
    rows = [{"kind": kind, "subject_id": key, "data": data, "occurred_at": now} for key, data in events]
    await bulk_insert.add(work.session, Event, rows)
    work.changes += [Change(kind, key) for key, _ in events]


def new_identity() -> str:
    return secrets.token_hex(4)


async def identity(session: AsyncSession) -> str:
    return (await session.scalars(select(EventLog.identity))).one()


async def pruned_through(session: AsyncSession) -> int:
    """Events up to this id are gone, or about to go."""
    return await session.scalar(select(EventLog.pruned_through)) or 0


async def newest(session: AsyncSession) -> int:
    return await session.scalar(select(func.max(Event.id))) or 0


async def between(session: AsyncSession, after: int, until: int, *, most: int) -> list[Event]:
    statement = select(Event).where(Event.id > after, Event.id <= until).order_by(Event.id).limit(most)
    return list((await session.scalars(statement)).all())


async def latest(session: AsyncSession, after: int, until: int, *, most: int) -> list[Event]:
    """The last events of a range, in order; none if some of the range may be gone."""
    whole = select(EventLog.pruned_through).scalar_subquery() <= after
    statement = select(Event).where(Event.id > after, Event.id <= until, whole).order_by(Event.id.desc()).limit(most)
    return list((await session.scalars(statement)).all())[::-1]


async def is_unchanged(session: AsyncSession, known: Sequence[Event]) -> bool:
    """Whether the log still has exactly these events in their range, but for pruned ones."""
    if not known:
        return True
    statement = select(Event.id, Event.occurred_at).where(Event.id.between(known[0].id, known[-1].id))
    found = {(id_, occurred_at) for id_, occurred_at in await session.execute(statement)}
    pruned = await pruned_through(session)  # Read last, as then nothing that is missing was pruned later.
    return all(id_ <= pruned for id_, _ in found ^ {(event.id, event.occurred_at) for event in known})


async def prune(work: UnitOfWork, history: EventRetention) -> int:
    """Remove the oldest events beyond the history that is kept; returns how many, at most PRUNED_AT_ONCE."""
    last = await newest(work.session)
    oldest = await work.session.execute(select(Event.id, Event.occurred_at).order_by(Event.id).limit(PRUNED_AT_ONCE))
    through = count = 0
    for id_, occurred_at in oldest:
        # What is kept is the log's end without holes, so the first event to keep ends the search.
        if id_ >= last or (id_ > last - history.count and occurred_at >= utc_now() - history.age):
            break
        through, count = id_, count + 1
    if count:
        advanced = case((EventLog.pruned_through < through, through), else_=EventLog.pruned_through)
        await work.session.execute(update(EventLog).values(pruned_through=advanced))
        await work.session.execute(delete(Event).where(Event.id <= through))
    return count


def cursor(identity: str, event_id: int) -> str:
    return base64.urlsafe_b64encode(f"{identity}:{event_id}".encode()).decode().rstrip("=")


def parse(text: str) -> tuple[str, int]:
    """The log's identity and the event's id. Raises: InvalidInput, if this is no event cursor."""
    try:
        if len(text) > CURSOR_LENGTH:
            raise ValueError  # noqa: TRY301 -- one answer to all that is wrong
        plain = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        log, _, digits = plain.partition(":")
        event_id = int(digits)
        if cursor(log, event_id) != text or not 0 <= event_id < ID_BOUND:
            raise ValueError  # noqa: TRY301
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InvalidInput.at("after", "this is not the cursor of an event: pass one that an event had, unchanged") from error
    return log, event_id
