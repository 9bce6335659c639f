"""The catalogue's tables as the Python rivals declare them: with the ORM's relationships, as its tutorial shows."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Integer, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload
from sqlalchemy.types import JSON

Key = BigInteger().with_variant(Integer, "sqlite")
Tags = JSONB().with_variant(JSON, "sqlite")


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    username: Mapped[str]
    full_name: Mapped[str | None]


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    price_cents: Mapped[int] = mapped_column(BigInteger)
    tags: Mapped[list[str]] = mapped_column(Tags)
    inventory: Mapped[int]
    in_stock: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    owner: Mapped[User | None] = relationship()

    @property
    def price(self) -> str:
        return f"{self.price_cents // 100}.{self.price_cents % 100:02d}"


engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10)
sessions = async_sessionmaker(engine, expire_on_commit=False)


async def session() -> AsyncGenerator[AsyncSession]:
    async with sessions() as opened:
        yield opened


async def by_id(opened: AsyncSession, id_: int) -> Item | None:
    return await opened.scalar(select(Item).where(Item.id == id_, Item.deleted_at.is_(None)))


async def page(opened: AsyncSession, *, after: int, size: int, owners: bool = False) -> list[Item]:
    statement: Any = select(Item).where(Item.id > after, Item.deleted_at.is_(None)).order_by(Item.id).limit(size)
    if owners:
        statement = statement.options(selectinload(Item.owner))
    return list(await opened.scalars(statement))
