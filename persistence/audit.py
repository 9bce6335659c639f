"""The audit log: who changed what. Entries are written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import Document, RowId, UtcDateTime, utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.query import entity
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList, SortOrder


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


ENTITY = Entity(AuditEntry)


@dataclass(frozen=True)
class NewAuditEntry:
    """`subject` is a graph type's name and a row's id; no actor is an operator at the command line."""

    actor_id: int | None
    subject: tuple[str, int] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def write(
    work: UnitOfWork, action: str, *, actor_id: int | None, subject: tuple[str, int] | None = None, detail: Mapping[str, Any] | None = None
) -> None:
    await write_all(work, action, [NewAuditEntry(actor_id, subject, detail or {})])


async def write_all(work: UnitOfWork, action: str, entries: Sequence[NewAuditEntry]) -> None:
    """`action` is a word such as `user.scopes_granted`."""
    await work.session.flush()
    now = utc_now()
    rows = [row(action, entry, now) for entry in entries]
    await bulk_insert.add(work.session, AuditEntry, rows)


def row(action: str, entry: NewAuditEntry, at: datetime) -> dict[str, Any]:
    """The values of an entry, for a statement that adds it by itself."""
    kind, id_ = entry.subject or (None, None)
    subject = {"subject_kind": kind, "subject_id": id_}
    return {"actor_id": entry.actor_id, **subject, "detail": dict(entry.detail), "action": action, "at": at}


ALL = EntityList(ENTITY, SortOrder(descending=True))
"""The newest first."""


async def count(session: AsyncSession) -> int:
    """Up to COUNT_ROWS."""
    return await entity.count(session, ALL)
