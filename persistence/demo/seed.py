"""Seeds a database with the demo shop. Seeding again adds only what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import timedelta
from operator import itemgetter
from random import Random
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence import passwords
from persistence.demo import shop as demo
from persistence.items.table import Item
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import Database, UnitOfWork
from persistence.kit.events.log import record_all
from persistence.kit.search import tokenizer
from persistence.purchases.table import CANCELLED, COMPLETED, Purchase
from persistence.users import User

BATCH = 10_000  # Rows of one transaction: other writers wait a second at most.
ITEMS_PER_USER = 500
ItemsWithSales = tuple[demo.DemoItem, list[demo.DemoSale]]


@dataclass(frozen=True)
class SeededCounts:
    """How much of the demo shop a database holds."""

    users: int
    items: int
    purchases: int


async def count_seeded(session: AsyncSession) -> SeededCounts:
    sellers = select(User.id).where(User.email.like(f"%@{demo.DOMAIN}"))
    users = await session.scalar(select(func.count()).select_from(sellers.subquery()))
    items = await session.scalar(select(func.count()).select_from(Item).where(Item.owner_id.in_(sellers)))
    purchases = await session.scalar(select(func.count()).select_from(Purchase).where(Purchase.buyer_id.in_(sellers)))
    return SeededCounts(users or 0, items or 0, purchases or 0)


async def seed(database: Database, item_count: int, progress: Callable[[int], None]) -> SeededCounts:
    """Bring the demo shop to `wanted` items; `progress` hears how many there are. Returns what was added."""
    async with database.reading() as session:
        before = await count_seeded(session)
    users = max(before.users, 1 + item_count // ITEMS_PER_USER)
    async with database.transaction() as work:
        await _add_users(work, range(before.users, users))
        people = await _people(work.session)
    position, sold = before.items, 0
    progress(position)
    async with aclosing(_batches(range(before.items, item_count))) as batches:
        async for stock in batches:
            async with database.transaction() as work:
                sold += await _add_items(work, stock, position, people)
            position += len(stock)
            progress(position)
    return SeededCounts(users - before.users, max(position - before.items, 0), sold)


async def _batches(numbers: range) -> AsyncGenerator[list[ItemsWithSales]]:
    """Batches, each made while the database writes the one before."""

    def begin(start: int) -> asyncio.Task[list[ItemsWithSales]]:
        return asyncio.create_task(asyncio.to_thread(_generate, numbers[start : start + BATCH]))

    coming = begin(0)
    for start in range(0, len(numbers), BATCH):
        stock, coming = await coming, begin(start + BATCH)
        yield stock
    await coming


def _generate(numbers: range) -> list[ItemsWithSales]:
    chance = Random()  # noqa: S311 -- invention, not secrecy
    items = [demo.item(number, chance) for number in numbers]
    return [(item, demo.sales(number, item, chance)) for number, item in zip(numbers, items, strict=True)]


async def _add_users(work: UnitOfWork, numbers: range) -> None:
    common = {
        "password_hash": passwords.NO_PASSWORD,  # Nobody signs in as one of them.
        "is_active": True,
        "scopes": ["items:read"],
        "created_at": demo.EPOCH - timedelta(days=365 * demo.YEARS),
    }
    people = [demo.user(number) for number in numbers]
    rows = [asdict(who) | common | _keys(who) for who in people]
    if rows:
        await work.session.execute(insert(User), rows)


def _keys(who: demo.DemoUser) -> dict[str, str]:
    return {"username_key": who.username, "search_words": tokenizer.indexed(who.username, who.full_name, who.email)}


async def _people(session: AsyncSession) -> Sequence[int]:
    return (await session.scalars(select(User.id).where(User.email.like(f"%@{demo.DOMAIN}")).order_by(User.id))).all()


async def _add_items(work: UnitOfWork, stock: list[ItemsWithSales], first: int, people: Sequence[int]) -> int:
    """Items and what was sold of them; returns how many sales that were. Only the items are events: nobody waits for what was sold long ago."""
    ids = await bulk_insert.reserve_ids(work, Item, len(stock))
    numbered = list(zip(ids, range(first, first + len(stock)), stock, strict=True))
    owners = {item_id: people[number % len(people)] for item_id, number, _ in numbered}
    sold = [_purchase(item_id, item, sale, owners[item_id], people) for item_id, _, (item, sales) in numbered for sale in sales]
    sold.sort(key=itemgetter("created_at"))  # As a shop's are: what is read by time lies side by side.
    await bulk_insert.add(work.session, Item, [_item(item_id, item, owners[item_id]) for item_id, _, (item, _) in numbered])
    await bulk_insert.add(work.session, Purchase, sold)
    await record_all(work, "item.created", {item_id: {} for item_id in ids})
    return len(sold)


def _item(item_id: int, item: demo.DemoItem, owner_id: int) -> dict[str, Any]:
    return item._asdict() | {"id": item_id, "version": 1, "updated_at": item.created_at, "owner_id": owner_id}


def _purchase(item_id: int, item: demo.DemoItem, sale: demo.DemoSale, seller_id: int, people: Sequence[int]) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "seller_id": seller_id,
        "buyer_id": people[sale.buyer % len(people)],
        "quantity": sale.quantity,
        "unit_price": item.price,
        "status": CANCELLED if sale.cancelled else COMPLETED,
        "created_at": sale.created_at,
    }
