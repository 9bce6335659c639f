"""An item's summary …"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

from graph.kit.global_ids import global_id
from persistence.items.sources import InventorySource, PriceSource
from tests.conftest import settings_for
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

SUMMARY = "query ($id: ID!) { itemSummary(id: $id) { item { name } price inventory } }"


class Sources:
    """A price and a stock, of which neither comes before the other has been asked."""

    def __init__(self) -> None:
        self.both_asked = asyncio.Barrier(2)

    async def price(self, item_id: int) -> Decimal | None:
        await self.both_asked.wait()
        return Decimal("12.30")

    async def inventory(self, item_id: int) -> int | None:
        await self.both_asked.wait()
        return 7


async def test_has_price_and_stock_from_the_tables_by_default(service: Service) -> None:
    item = await service.make_item("Kettle", price="19.95", inventory=5)
    assert await service.ask(SUMMARY, {"id": item}) == {"itemSummary": {"item": {"name": "Kettle"}, "price": "19.95", "inventory": 5}}


async def test_is_null_for_an_item_that_does_not_exist(service: Service) -> None:
    for id_ in (global_id("Item", 2**40), global_id("User", 1), "nonsense"):
        assert await service.ask(SUMMARY, {"id": id_}) == {"itemSummary": None}


async def test_asks_both_sources_at_the_same_time(tmp_path: Path) -> None:
    sources = Sources()
    async with running(await settings_for("sqlite", tmp_path), {PriceSource: sources, InventorySource: sources}) as service:
        item = await service.make_item("Kettle")
        summary = await service.ask(SUMMARY, {"id": item})
    assert summary == {"itemSummary": {"item": {"name": "Kettle"}, "price": "12.30", "inventory": 7}}
