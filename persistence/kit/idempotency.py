"""Idempotency keys: the key, the request's fingerprint and the stored answer share the transaction of the effect.

A repeat finds the stored answer. A repeat that comes while the first is still at work waits for it: on PostgreSQL on the unique key, on SQLite for
the write lock. A refusal rolls back and leaves no key, so that the caller may repeat once the cause is gone. Keys are kept for 24 hours, and of one
caller the newest KEYS, so that nobody fills the table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import Document, UtcDateTime, utc_now
from persistence.kit.database.database import Base, Database, UnitOfWork
from persistence.kit.errors import InvalidInput, KeyReused

KEY_LENGTH = 255  # Characters.
RETENTION = timedelta(hours=24)
KEYS = 100_000  # Of one caller: 50 MB. Whoever writes a hundred times a second may still repeat what is a quarter of an hour old.
PRUNED_AT_ONCE = 500
LOOKED_AT_ONCE = timedelta(hours=1)


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    answer: Mapped[Any] = mapped_column(Document)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


@dataclass(frozen=True)
class StoredAnswer:
    """What the first attempt answered, as it was kept."""

    answer: Any


@dataclass(frozen=True)
class Attempt:
    """One request under a key. `caller` keeps users' keys apart; `fingerprint` tells a repeat from a mistake."""

    caller: str
    key: str
    fingerprint: str

    @classmethod
    def of(cls, *, caller: str, key: str, operation: str, arguments: object) -> Attempt:
        """Raises: InvalidInput, if the key is empty or longer than KEY_LENGTH."""
        if not 0 < len(key) <= KEY_LENGTH or not key.isprintable():
            raise InvalidInput.at("idempotencyKey", f"must have 1 to {KEY_LENGTH} printable characters")
        plain = orjson.dumps([operation, arguments], default=str, option=orjson.OPT_SORT_KEYS)
        return cls(caller, key, hashlib.blake2b(plain, digest_size=16).hexdigest())

    async def earlier(self, session: AsyncSession) -> StoredAnswer | None:
        """Claim the key, or find what an earlier attempt answered. Raises: KeyReused, if that attempt asked something else."""
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        row = {"caller": self.caller, "key": self.key, "fingerprint": self.fingerprint, "answer": None, "created_at": utc_now()}
        claimed = await session.scalar(insert(IdempotencyKey).values(row).on_conflict_do_nothing().returning(IdempotencyKey.key))
        if claimed is not None:
            return None
        found = await session.get_one(IdempotencyKey, (self.caller, self.key))
        if found.fingerprint != self.fingerprint:
            raise KeyReused
        return StoredAnswer(found.answer)

    async def store(self, session: AsyncSession, answer: Any) -> None:
        mine = (IdempotencyKey.caller == self.caller) & (IdempotencyKey.key == self.key)
        await session.execute(update(IdempotencyKey).where(mine).values(answer=answer))


def caller_of(user_id: int) -> str:
    """A user as a caller; others are callers by their network."""
    return f"user:{user_id}"


async def forget(work: UnitOfWork, caller: str) -> None:
    await work.session.execute(delete(IdempotencyKey).where(IdempotencyKey.caller == caller))


async def forget_answers(database: Database, about: ColumnElement[bool]) -> None:
    """Whoever got them. Nothing leads to an answer but its time, so all are looked at: an hour's at once, which others need not wait for."""
    async with database.reading_latest() as session:
        start = await session.scalar(select(func.min(IdempotencyKey.created_at)))
    while start is not None and start <= utc_now():
        within = (IdempotencyKey.created_at >= start) & (IdempotencyKey.created_at < start + LOOKED_AT_ONCE)
        async with database.transaction() as work:
            await work.session.execute(delete(IdempotencyKey).where(within, about))
        start += LOOKED_AT_ONCE


async def prune(work: UnitOfWork) -> int:
    """Forget some keys that are too old, or too many of one caller; returns how many."""
    own = (IdempotencyKey.caller, IdempotencyKey.key)
    keys = (await work.session.execute(select(*own).where(IdempotencyKey.created_at < utc_now() - RETENTION).limit(PRUNED_AT_ONCE))).all()
    if not keys and (crowded := await work.session.scalar(_crowded())) is not None:
        newest_first = select(*own).where(IdempotencyKey.caller == crowded).order_by(IdempotencyKey.created_at.desc(), IdempotencyKey.key)
        keys = (await work.session.execute(newest_first.offset(KEYS).limit(PRUNED_AT_ONCE))).all()
    if keys:
        await work.session.execute(delete(IdempotencyKey).where(tuple_(*own).in_(keys)))
    return len(keys)


def _crowded() -> Select[str]:
    """A caller with more keys than are kept."""
    return select(IdempotencyKey.caller).group_by(IdempotencyKey.caller).having(func.count() > KEYS).limit(1)
