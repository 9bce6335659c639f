"""The audit log: who did what to whom, for the changes that somebody may have to answer for. Entries are written in the change's own transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit import paging
from persistence.kit.columns import Document, RowId, UtcDateTime, utc_now
from persistence.kit.database import Base, UnitOfWork
from persistence.kit.paging import Listing, Page, Window


class AuditEntry(Base):
    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    actor_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("users.id"))
    action: Mapped[str]
    subject_kind: Mapped[str | None]
    subject_id: Mapped[int | None] = mapped_column(RowId)
    detail: Mapped[dict[str, Any]] = mapped_column(Document)
    at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = ({"sqlite_autoincrement": True},)


async def write(
    work: UnitOfWork, action: str, *, actor_id: int | None, subject: tuple[str, int] | None = None, detail: Mapping[str, Any] | None = None
) -> None:
    """`action` is a word such as `user.scopes_granted`, `subject` a graph type's name and a row's id; no actor is an operator at the command line."""
    kind, id_ = subject or (None, None)
    entry = AuditEntry(actor_id=actor_id, action=action, subject_kind=kind, subject_id=id_, detail=dict(detail or {}), at=utc_now())
    work.session.add(entry)
    await work.session.flush()


async def by_id(session: AsyncSession, ids: Sequence[int]) -> Mapping[int, AuditEntry]:
    rows = await session.scalars(select(AuditEntry).where(AuditEntry.id.in_(ids)))
    return {entry.id: entry for entry in rows}


async def page(session: AsyncSession, window: Window) -> Page[AuditEntry]:
    """The newest first. Raises: InvalidInput, if window or cursor are out of their bounds."""
    listing = Listing(select(AuditEntry), AuditEntry.id, AuditEntry.id, descending=True, mark="audit")
    return await paging.fetch(session, listing, window)


async def count(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(AuditEntry)) or 0
