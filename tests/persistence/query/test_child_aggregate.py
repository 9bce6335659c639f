"""A number about the rows of a parent is the same on both databases, by a session and by the planner's reader."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from persistence.items.listing import BY_OWNER
from persistence.items.table import Item
from persistence.kit.json_rows.reader import EntityReader
from persistence.kit.query.child_aggregate import AggregateFunction, ChildAggregate

if TYPE_CHECKING:
    from tests.support.service import Service

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def row(owner: int, price: str, inventory: int, *, gone: bool = False) -> dict[str, Any]:
    values: dict[str, Any] = {"name": "Pan", "tags": [], "version": 1, "created_at": MOMENT, "updated_at": MOMENT, "search_words": ""}
    return values | {"owner_id": owner, "price": Decimal(price), "inventory": inventory, "deleted_at": MOMENT if gone else None}


async def test_counts_and_averages_the_rows_that_have_not_left(service: Service) -> None:
    ada, bob, cyd = [(await service.make_user(name)).id for name in ("ada", "bob", "cyd")]
    rows = [row(ada, "1.00", 1), row(ada, "1.00", 2), row(ada, "2.01", 1), row(ada, "9.00", 9, gone=True), row(bob, "0.05", 0)]
    async with service.database.transaction() as work:
        await work.session.execute(insert(Item), rows)
    for aggregate, expected in (
        (ChildAggregate(BY_OWNER, AggregateFunction.COUNT), [3, 1, 0]),
        (ChildAggregate(BY_OWNER, AggregateFunction.AVERAGE, "inventory"), [4 / 3, 0.0, None]),
        (ChildAggregate(BY_OWNER, AggregateFunction.AVERAGE, "price"), [Decimal("1.34"), Decimal("0.05"), None]),
    ):
        async with service.database.reading() as session:
            found = await aggregate.by_parent(session, [ada, bob, cyd])
        assert [found[user] for user in (ada, bob, cyd)] == expected
        assert await EntityReader(service.database).aggregates(aggregate).many([ada, bob, cyd]) == expected
