"""Filling a database with the shop of `demo`. Doing it again adds only what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence import demo
from persistence.items import Item
from persistence.kit import search
from persistence.kit.columns import utc_now
from persistence.kit.database import Database, UnitOfWork
from persistence.kit.events import record_all
from persistence.kit.numbers import take
from persistence.users import User

BATCH = 5_000  # Rows of one transaction: other writers wait half a second at most.
ITEMS_PER_USER = 500
NO_PASSWORD = "-"  # No password has this hash: nobody signs in as one of them.  # noqa: S105


@dataclass(frozen=True)
class Shop:
    """How much of the demo shop a database holds."""

    users: int
    items: int


async def found(session: AsyncSession) -> Shop:
    sellers = select(User.id).where(User.email.like(f"%@{demo.DOMAIN}"))
    users = await session.scalar(select(func.count()).select_from(sellers.subquery()))
    items = await session.scalar(select(func.count()).select_from(Item).where(Item.owner_id.in_(sellers)))
    return Shop(users or 0, items or 0)


async def seed(database: Database, wanted: int, progress: Callable[[int], None]) -> Shop:
    """Bring the demo shop to `wanted` items; `progress` hears how many there are. Returns what was added."""
    async with database.reading() as session:
        before = await found(session)
    users = max(before.users, 1 + wanted // ITEMS_PER_USER)
    async with database.transaction() as work:
        await _add_users(work, range(before.users, users))
    now, position = utc_now(), before.items
    progress(position)
    while position < wanted:
        end = min(position + BATCH, wanted)
        async with database.transaction() as work:
            await _add_items(work, range(position, end), await _sellers(work.session), now)
        position = end
        progress(position)
    return Shop(users - before.users, position - before.items)


async def _add_users(work: UnitOfWork, numbers: range) -> None:
    now = utc_now()
    common = {"password_hash": NO_PASSWORD, "is_active": True, "scopes": ["items:read"], "created_at": now}
    people = [demo.user(number) for number in numbers]
    rows = [asdict(who) | common | _keys(who) for who in people]
    if rows:
        await work.session.execute(insert(User), rows)


def _keys(who: demo.DemoUser) -> dict[str, str]:
    return {"username_key": who.username, "search_words": search.indexed(who.username, who.full_name, who.email)}


async def _sellers(session: AsyncSession) -> Sequence[int]:
    return (await session.scalars(select(User.id).where(User.email.like(f"%@{demo.DOMAIN}")).order_by(User.id))).all()


async def _add_items(work: UnitOfWork, numbers: range, sellers: Sequence[int], now: datetime) -> None:
    ids = await take(work, Item, len(numbers))
    rows = [
        vars(item) | {"id": item_id, "version": 1, "updated_at": item.created_at, "owner_id": sellers[number % len(sellers)]}
        for item_id, number in zip(ids, numbers, strict=True)
        for item in [demo.item(number, now)]
    ]
    await work.session.execute(insert(Item), rows)
    await record_all(work, "item.created", {item_id: {} for item_id in ids})
