"""Sources of an item's price and stock: two interfaces, which a shop may implement by other systems, and the tables' own."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

import orjson

from persistence.items import table as items
from persistence.kit.database.database import Database
from persistence.kit.json_rows.json_page import RowForm
from persistence.kit.json_rows.reader import EntityReader
from persistence.kit.json_rows.row_json import JsonColumn


class PriceSource(Protocol):
    async def price(self, item_id: int) -> Decimal | None:
        """The price of one unit; None if there is no such item."""
        ...


class InventorySource(Protocol):
    async def inventory(self, item_id: int) -> int | None:
        """The units in stock; None if there is no such item."""
        ...


class ItemTable:
    """Both, by one statement: also for callers who ask at the same time."""

    def __init__(self, database: Database) -> None:
        self._figures = EntityReader(database).lookup(RowForm(items.ENTITY, (JsonColumn("price"), JsonColumn("inventory"))), "id")

    async def price(self, item_id: int) -> Decimal | None:
        found = await self._figures.one(item_id)
        return None if found is None else Decimal(orjson.loads(found[0]))

    async def inventory(self, item_id: int) -> int | None:
        found = await self._figures.one(item_id)
        return None if found is None else int(found[1])
