"""Sources of an item's price and stock: two interfaces, which a shop may implement by other systems, and the tables' own."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

import orjson

from persistence.items import table as items
from persistence.kit.database.database import Database
from persistence.kit.json_rows.json_page import RowForm
from persistence.kit.json_rows.reader import EntityReader, Lookup
from persistence.kit.json_rows.row_json import JsonColumn


class PriceSource(Protocol):
    async def price(self, item_id: int) -> Decimal | None:
        """The price of one unit; None if there is no such item."""
        ...


class InventorySource(Protocol):
    async def inventory(self, item_id: int) -> int | None:
        """The units in stock; None if there is no such item."""
        ...


class TablePrices:
    """Callers who ask at the same time share a statement."""

    def __init__(self, database: Database) -> None:
        self._prices = _column(database, "price")

    async def price(self, item_id: int) -> Decimal | None:
        found = await self._prices.one(item_id)
        return None if found is None else Decimal(orjson.loads(found[0]))


class TableInventory:
    def __init__(self, database: Database) -> None:
        self._inventories = _column(database, "inventory")

    async def inventory(self, item_id: int) -> int | None:
        found = await self._inventories.one(item_id)
        return None if found is None else int(found[0])


def _column(database: Database, name: str) -> Lookup:
    return EntityReader(database).lookup(RowForm(items.ENTITY, (JsonColumn(name),)), "id")
