"""The job queue: a table of background jobs, each enqueued in the transaction of the change that needs it.

A job is done in two steps. `perform` reaches outside and may happen more than once; `finish` changes rows in the transaction that removes the job,
so it happens exactly once. A claim is a lease: it puts the job's next turn off, and work whose process died is taken up when the lease runs out.
A job that keeps failing is parked: it stays, for an operator to look at and to retry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Text, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import Document, RowId, UtcDateTime, utc_now
from persistence.kit.database.database import Base, Change, UnitOfWork

QUEUED = "job.queued"
LONGEST_DELAY = timedelta(hours=1)  # Nothing is ever put off further, so a later turn means that a clock was set back.
SHOWN = 100  # Parked jobs, at most.
ERROR_LENGTH = 2_000  # Characters of an error that are kept.


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    data: Mapped[dict[str, Any]] = mapped_column(Document)
    attempts: Mapped[int]
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)  # None: at once, whatever the clock says.
    parked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = ({"sqlite_autoincrement": True},)


class JobHandler(Protocol):
    async def perform(self, job: Job) -> None:
        """Reach outside. Raise to be called again later; `job.key` lets the other side drop a repeat."""
        ...

    async def finish(self, work: UnitOfWork, ended: Sequence[Job]) -> None:
        """Change rows for each job, in the transaction that ends them. Raise, and each is tried by itself."""
        ...


@dataclass(frozen=True)
class QueueStats:
    waiting: int
    parked: int
    oldest_seconds: float


async def enqueue(work: UnitOfWork, kind: str, key: str, data: Mapping[str, Any]) -> None:
    """`key` names the work and is unique: the same work cannot be queued twice."""
    await enqueue_all(work, kind, {key: data})


async def enqueue_all(work: UnitOfWork, kind: str, data_by_key: Mapping[str, Mapping[str, Any]]) -> None:
    now = utc_now()
    rows = [{"kind": kind, "key": key, "data": dict(data), "attempts": 0, "created_at": now} for key, data in data_by_key.items()]
    if rows:
        queued = await work.session.scalars(insert(Job).returning(Job.id), rows)
        work.changes += [Change(QUEUED, job_id) for job_id in queued]


async def claim(work: UnitOfWork, *, most: int, lease: timedelta) -> Sequence[Job]:
    """Take jobs that are due, for as long as the lease. On PostgreSQL, jobs that another process is just claiming are skipped."""
    due = select(Job.id).where(_is_due(utc_now())).order_by(Job.id).limit(most).with_for_update(skip_locked=True)
    leased = update(Job).where(Job.id.in_(due)).values(due_at=utc_now() + lease, attempts=Job.attempts + 1).returning(Job)
    return (await work.session.scalars(leased)).all()


async def end(work: UnitOfWork, performed: Sequence[Job]) -> Sequence[Job]:
    """Remove jobs that are done. Returns those that were still ours: if a lease ran out and somebody else took the job, its rows are theirs to change."""
    claims = {(job.id, job.attempts): job for job in performed}
    removed = delete(Job).where(tuple_(Job.id, Job.attempts).in_(claims)).returning(Job.id, Job.attempts)
    return [claims[id_, attempts] for id_, attempts in await work.session.execute(removed)]


async def reschedule(work: UnitOfWork, job: Job, *, delay: timedelta | None, error: str) -> None:
    """Try again after `delay`; park the job if there is none."""
    now = utc_now()
    turn = {"parked_at": now} if delay is None else {"due_at": now + min(delay, LONGEST_DELAY)}
    await work.session.execute(update(Job).where(_mine(job)).values(error=error[:ERROR_LENGTH], **turn))


async def retry(work: UnitOfWork, ids: Sequence[int] | None = None) -> Sequence[Job]:
    """Give parked jobs (all of them, without ids) a fresh start; returns them."""
    chosen = Job.parked_at.is_not(None) if ids is None else Job.parked_at.is_not(None) & Job.id.in_(ids)
    again = (await work.session.scalars(update(Job).where(chosen).values(parked_at=None, due_at=None, attempts=0).returning(Job))).all()
    work.changes += [Change(QUEUED, job.id) for job in again]
    return again


async def parked(session: AsyncSession, *, most: int = SHOWN) -> Sequence[Job]:
    return (await session.scalars(select(Job).where(Job.parked_at.is_not(None)).order_by(Job.id).limit(most))).all()


async def waits(session: AsyncSession, prefix: str) -> bool:
    """Whether there is a job, parked or not, whose key begins so."""
    return await session.scalar(select(Job.id).where(Job.key.startswith(prefix, autoescape=True)).limit(1)) is not None


async def backlog(session: AsyncSession) -> QueueStats:
    is_parked = Job.parked_at.is_not(None)
    counts = select(func.count().filter(~is_parked), func.count().filter(is_parked), func.min(Job.created_at).filter(~is_parked))
    waiting, stuck, oldest = (await session.execute(counts)).one()
    return QueueStats(waiting, stuck, max(0.0, (utc_now() - oldest).total_seconds()) if oldest else 0.0)


async def is_due(session: AsyncSession) -> bool:
    return await session.scalar(select(Job.id).where(_is_due(utc_now())).limit(1)) is not None


def _is_due(now: datetime) -> ColumnElement[bool]:
    turn = or_(Job.due_at.is_(None), Job.due_at <= now, Job.due_at > now + LONGEST_DELAY)
    return Job.parked_at.is_(None) & turn


def _mine(job: Job) -> ColumnElement[bool]:
    """The attempt's number is the proof of the claim: whoever claims the job next changes it."""
    return (Job.id == job.id) & (Job.attempts == job.attempts)
