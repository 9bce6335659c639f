"""The `itemSummary` query: an item's price and stock, fetched concurrently from their own sources."""

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import Annotated

import strawberry

from graph.items.types import Item
from graph.kit.context import Context, Info
from graph.kit.entity.roots import ReadObject
from graph.kit.fields import query
from graph.kit.global_ids import row_id
from persistence.items import table as items
from persistence.items.sources import InventorySource, PriceSource

SUMMARY_POINTS = 100  # Two sources are asked beside the item's row, each by a statement of its own.


@strawberry.type(description="What one needs to know before buying.")
class ItemSummary:
    item: Item = strawberry.field(description="The item.")
    price: Decimal = strawberry.field(description="For one unit, from the price source.")
    inventory: int = strawberry.field(description="Units in stock, from the inventory source.")


def _price(context: Context, item_id: int) -> Awaitable[Decimal | None]:
    return context.port(PriceSource).price(item_id)


def _inventory(context: Context, item_id: int) -> Awaitable[int | None]:
    return context.port(InventorySource).inventory(item_id)


@strawberry.type
class SummaryQuery:
    @query(
        scope=None,
        description="Price and stock from their sources, or null if there is no item with this id.",
        cost=SUMMARY_POINTS,
        plan=ReadObject("item", {"price": _price, "inventory": _inventory}),
    )
    async def item_summary(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="An item's id.")]
    ) -> ItemSummary | None:
        key = row_id("Item", id)
        if key is None:
            return None
        row, price, inventory = await asyncio.gather(
            info.context.load(items.by_id, key),
            _price(info.context, key),
            _inventory(info.context, key),
        )
        if row is None or price is None or inventory is None:
            return None
        return ItemSummary(item=Item.of(row), price=price, inventory=inventory)
