"""Users: who they are and what they may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.columns import Document, RowId, SortableText, UtcDateTime
from persistence.kit.database import Base


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    username: Mapped[str] = mapped_column(SortableText, unique=True)
    full_name: Mapped[str | None]
    email: Mapped[str | None]
    password_hash: Mapped[str]
    is_active: Mapped[bool]
    scopes: Mapped[list[str]] = mapped_column(Document)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


async def by_id(session: AsyncSession, ids: Sequence[int]) -> Mapping[int, User]:
    rows = await session.scalars(select(User).where(User.id.in_(ids)))
    return {user.id: user for user in rows}
