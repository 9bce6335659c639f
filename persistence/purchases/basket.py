"""Several purchases in one transaction: all lines of a basket, or none.

The items' rows are locked in order of their ids before any of them changes, so that baskets with the same items never wait for each other in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import load_only

from persistence.items.table import Item, OutOfStock
from persistence.kit.column_types import utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import UnitOfWork
from persistence.kit.errors import InvalidInput, NotFound
from persistence.kit.events.log import record_each
from persistence.kit.jobs import queue as jobs
from persistence.kit.parsing.validation import Checks
from persistence.kit.serialization import Serializer
from persistence.purchases.table import ENTITY, PLACED, QUEUED, Purchase

LINES = 100

REPLAY_FORMAT: Serializer[Sequence[Purchase]] = Serializer(
    lambda sold: [*map(ENTITY.replay_format.dump, sold)], lambda stored: [*map(ENTITY.replay_format.load, stored)]
)


@dataclass(frozen=True)
class BasketLine:
    """Units of one item, which other lines may name, too. An `item_id` of None is that of nothing."""

    item_id: int | None
    quantity: int


def check(lines: Sequence[BasketLine]) -> None:
    """Raises: InvalidInput, with a problem for each line that is out of its bounds."""
    if not 1 <= len(lines) <= LINES:
        raise InvalidInput.at("lines", f"must be 1 to {LINES} lines, not {len(lines)}")
    checks = Checks()
    for place, line in enumerate(lines):
        checks.whole_number("lines", line.quantity, least=1, deeper=(str(place), "quantity"))
    checks.finish()


async def purchase_all(work: UnitOfWork, lines: Sequence[BasketLine], *, buyer_id: int) -> Sequence[Purchase]:
    """A purchase for each line, in their order, with its background work. Raises: InvalidInput, NotFound, OutOfStock."""
    check(lines)
    items = await _take(work, lines)
    ids, common = (
        await bulk_insert.reserve_ids(work, Purchase, len(lines)),
        {"buyer_id": buyer_id, "status": QUEUED, "created_at": utc_now()},
    )
    rows = [_row(line, items[line.item_id or 0]) | common | {"id": id_} for id_, line in zip(ids, lines, strict=True)]
    await bulk_insert.add(work.session, Purchase, rows)
    sold = [Purchase(**row) for row in rows]
    await record_each(work, "item.purchased", [(each.item_id, {"purchase_id": each.id, "quantity": each.quantity}) for each in sold])
    await jobs.enqueue_all(work, PLACED, {f"purchase:{each.id}": {"purchase_id": each.id} for each in sold})
    return sold


def _row(line: BasketLine, item: Item) -> dict[str, Any]:
    return {"item_id": item.id, "seller_id": item.owner_id, "unit_price": item.price, "quantity": line.quantity}


async def _take(work: UnitOfWork, lines: Sequence[BasketLine]) -> Mapping[int, Item]:
    """Take the units of all lines out of stock; returns the items by their ids."""
    requested = Counter[int]()
    for line in lines:
        requested[line.item_id or 0] += line.quantity
    items = await _locked(work, requested)
    for place, line in enumerate(lines):
        item, total = items.get(line.item_id or 0), requested[line.item_id or 0]
        if item is None:
            raise NotFound(f"item as lines.{place}.itemId names")
        if item.inventory < total:
            raise OutOfStock(item.id, item.inventory)
    for item in items.values():
        item.inventory -= requested[item.id]
        item.updated_at = utc_now()
    return items


async def _locked(work: UnitOfWork, requested: Counter[int]) -> Mapping[int, Item]:
    """The lock is the one that an UPDATE takes: a purchase elsewhere, which points to the item, need not wait for it."""
    columns = load_only(Item.price, Item.inventory, Item.owner_id)
    statement = select(Item).where(Item.id.in_(requested), Item.deleted_at.is_(None)).order_by(Item.id).options(columns)
    return {item.id: item for item in await work.session.scalars(statement.with_for_update(key_share=True))}
