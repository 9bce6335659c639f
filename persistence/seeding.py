"""Filling a database with the shop of `demo`. Doing it again adds only what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence import demo
from persistence.items import Item
from persistence.kit import search
from persistence.kit.columns import utc_now
from persistence.kit.database import Database, UnitOfWork
from persistence.kit.events import record_all
from persistence.kit.numbers import take
from persistence.purchases import COMPLETED, Purchase
from persistence.users import User

BATCH = 5_000  # Rows of one transaction: other writers wait half a second at most.
ITEMS_PER_USER = 500
NO_PASSWORD = "-"  # No password has this hash: nobody signs in as one of them.  # noqa: S105


@dataclass(frozen=True)
class Shop:
    """How much of the demo shop a database holds."""

    users: int
    items: int
    purchases: int


async def found(session: AsyncSession) -> Shop:
    sellers = select(User.id).where(User.email.like(f"%@{demo.DOMAIN}"))
    users = await session.scalar(select(func.count()).select_from(sellers.subquery()))
    items = await session.scalar(select(func.count()).select_from(Item).where(Item.owner_id.in_(sellers)))
    purchases = await session.scalar(select(func.count()).select_from(Purchase).where(Purchase.buyer_id.in_(sellers)))
    return Shop(users or 0, items or 0, purchases or 0)


async def seed(database: Database, wanted: int, progress: Callable[[int], None]) -> Shop:
    """Bring the demo shop to `wanted` items; `progress` hears how many there are. Returns what was added."""
    async with database.reading() as session:
        before = await found(session)
    users = max(before.users, 1 + wanted // ITEMS_PER_USER)
    async with database.transaction() as work:
        await _add_users(work, range(before.users, users))
    now, position, sold = utc_now(), before.items, 0
    progress(position)
    while position < wanted:
        end = min(position + BATCH, wanted)
        async with database.transaction() as work:
            sold += await _add_items(work, range(position, end), await _people(work.session), now)
        position = end
        progress(position)
    return Shop(users - before.users, max(position - before.items, 0), sold)


async def _add_users(work: UnitOfWork, numbers: range) -> None:
    now = utc_now()
    common = {"password_hash": NO_PASSWORD, "is_active": True, "scopes": ["items:read"], "created_at": now}
    people = [demo.user(number) for number in numbers]
    rows = [asdict(who) | common | _keys(who) for who in people]
    if rows:
        await work.session.execute(insert(User), rows)


def _keys(who: demo.DemoUser) -> dict[str, str]:
    return {"username_key": who.username, "search_words": search.indexed(who.username, who.full_name, who.email)}


async def _people(session: AsyncSession) -> Sequence[int]:
    return (await session.scalars(select(User.id).where(User.email.like(f"%@{demo.DOMAIN}")).order_by(User.id))).all()


async def _add_items(work: UnitOfWork, numbers: range, people: Sequence[int], now: datetime) -> int:
    """Items and what was sold of them; returns how many sales that were. Only the items are events: nobody waits for what was sold long ago."""
    items: list[dict[str, Any]] = []
    sold: list[dict[str, Any]] = []
    for item_id, number in zip(await take(work, Item, len(numbers)), numbers, strict=True):
        item = demo.item(number, now)
        items.append(vars(item) | {"id": item_id, "version": 1, "updated_at": item.created_at, "owner_id": people[number % len(people)]})
        sold += [_purchase(item_id, item, sale, people) for sale in demo.sales(number, item, now)]
    await work.session.execute(insert(Item), items)
    if sold:
        await work.session.execute(insert(Purchase), sold)
    await record_all(work, "item.created", {row["id"]: {} for row in items})
    return len(sold)


def _purchase(item_id: int, item: demo.DemoItem, sale: demo.DemoSale, people: Sequence[int]) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "buyer_id": people[sale.buyer % len(people)],
        "quantity": sale.quantity,
        "unit_price": item.price,
        "status": COMPLETED,
        "created_at": sale.created_at,
    }
