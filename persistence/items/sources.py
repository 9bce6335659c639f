"""Where an item's price and stock are asked for: two ports, which a shop may answer from other systems, and the tables' own answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from persistence.items import table as items
from persistence.kit.database.database import Database


class PriceSource(Protocol):
    async def price(self, item_id: int) -> Decimal | None:
        """The price of one unit; None if there is no such item."""
        ...


class InventorySource(Protocol):
    async def inventory(self, item_id: int) -> int | None:
        """The units in stock; None if there is no such item."""
        ...


class TablePrices:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def price(self, item_id: int) -> Decimal | None:
        async with self._database.reading() as session:
            item = (await items.by_id(session, [item_id])).get(item_id)
        return item.price if item else None


class TableInventory:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def inventory(self, item_id: int) -> int | None:
        async with self._database.reading() as session:
            item = (await items.by_id(session, [item_id])).get(item_id)
        return item.inventory if item else None
