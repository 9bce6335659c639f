"""Usage of deprecated schema elements, counted by day and client, so that a field is removed once nobody uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import UtcDateTime
from persistence.kit.database.database import Base, UnitOfWork

RETENTION = timedelta(days=400)  # A client that runs once a year is still seen.


class DeprecatedUse(Base):
    __tablename__ = "deprecated_uses"

    coordinate: Mapped[str] = mapped_column(primary_key=True)
    client_name: Mapped[str] = mapped_column(primary_key=True)
    client_version: Mapped[str] = mapped_column(primary_key=True)
    used_on: Mapped[date] = mapped_column(primary_key=True)
    uses: Mapped[int] = mapped_column(BigInteger)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)


@dataclass(frozen=True)
class ClientUse:
    """A coordinate of the schema, such as `Item.oldName`, and who used it, by the client's own word for itself."""

    coordinate: str
    client_name: str
    client_version: str


@dataclass(frozen=True)
class ClientUseCount:
    use: ClientUse
    count: int
    last_used_at: datetime


async def add(work: UnitOfWork, counts: Mapping[ClientUse, int], now: datetime) -> None:
    """Add to what was counted, by this process and by others; forget what is older than KEPT."""
    rows = [vars(use) | {"used_on": now.date(), "uses": count, "last_used_at": now} for use, count in counts.items()]
    insert: Any = (postgresql.insert if work.session.get_bind().dialect.name == "postgresql" else sqlite.insert)(DeprecatedUse)
    more = {"uses": DeprecatedUse.uses + insert.excluded.uses, "last_used_at": insert.excluded.last_used_at}
    key = [column.name for column in DeprecatedUse.__table__.primary_key]
    if rows:
        await work.session.execute(insert.on_conflict_do_update(index_elements=key, set_=more), rows)
    await work.session.execute(delete(DeprecatedUse).where(DeprecatedUse.used_on < now.date() - RETENTION))


async def since(session: AsyncSession, day: date) -> Sequence[ClientUseCount]:
    """By coordinate, then the most frequent client first."""
    key = (DeprecatedUse.coordinate, DeprecatedUse.client_name, DeprecatedUse.client_version)
    total = func.sum(DeprecatedUse.uses)
    statement = (
        select(*key, total, func.max(DeprecatedUse.last_used_at))
        .where(DeprecatedUse.used_on >= day)
        .group_by(*key)
        .order_by(DeprecatedUse.coordinate, total.desc(), *key[1:])
    )
    return [
        ClientUseCount(ClientUse(coordinate, name, version), int(count), last)
        for coordinate, name, version, count, last in await session.execute(statement)
    ]
