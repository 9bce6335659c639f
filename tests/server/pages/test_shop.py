"""The demonstration shop, driven in a browser as a shopper would."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graph.kit.global_ids import global_id
from graph.server.pages.shop import POLICY, STATIC
from persistence.items import table as items
from persistence.items.table import ItemValues
from tests.conftest import settings_for
from tests.support.clients import browser
from tests.support.service import running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.service import Service

STOCK = [
    ItemValues("Copper Kettle", Decimal("20.00"), "It sings.", ["kitchen", "copper"], 3),
    ItemValues("Enamel Kettle", Decimal("35.50"), "Not a teapot.", ["kitchen"], 2),
    ItemValues("Samovar", Decimal("120.00"), None, ["kitchen"], 1),
    ItemValues("Straßenlaterne", Decimal("90.00"), None, ["garden"], 0),
]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncGenerator[Service]:
    """A service of the test's own: the page is for development, and what is bought changes its stock."""
    async with running(await settings_for("sqlite", tmp_path)) as service:
        async with service.database.transaction() as work:
            await items.create_all(work, STOCK, owner_id=None)
        yield service


async def started(scenario: str, service: Service, chromium: str) -> asyncio.subprocess.Process:
    return await browser.start("shop.mjs", scenario, service.url, chromium)


async def played(scenario: str, service: Service, chromium: str) -> dict[str, Any]:
    return await browser.told(await started(scenario, service, chromium))


async def test_finds_as_one_types(shop: Service, chromium: str) -> None:
    seen = await played("finds", shop, chromium)
    assert seen["all"] == {"status": "4 items", "tags": ["kitchen (3)", "copper (1)", "garden (1)"]}
    assert seen["kettles"] == {
        "names": ["Copper [Kettl]e", "Enamel [Kettl]e"],
        "tags": ["kitchen (2)", "copper (1)"],
        "price": ["any", "€ 20 to below 50 (2)"],
        "stock": ["in stock (2)"],
    }
    # A facet ignores its own choice, and the keyboard stays where it was.
    assert seen["copper"] == {"names": ["Copper [Kettl]e"], "tags": ["kitchen (2)", "copper (1)"], "focus": "tag-copper"}
    assert seen["near"] == {"meant": "No item has these words. Shown: kettle", "names": ["Copper [Kettle]", "Enamel [Kettle]"]}
    assert seen["corrected"] == "kettle"
    assert seen["folded"] == ["[Straß]enlaterne"]
    assert seen["hosts"] == [shop.url.removeprefix("http://")]
    assert seen["complaints"] == []


async def test_shows_what_others_buy(shop: Service, chromium: str) -> None:
    process = await started("lives", shop, chromium)
    assert process.stderr is not None
    assert await process.stderr.readline() == b"shown\n"
    token = await shop.sign_in()
    buy = "mutation Buy($id: ID!) { purchaseItem(itemId: $id) { __typename } }"
    assert (await shop.ask(buy, {"id": global_id("Item", 3)}, token=token))["purchaseItem"]["__typename"] == "Purchase"
    told, problem = await process.communicate()
    assert process.returncode == 0, problem.decode()
    assert json.loads(told) == {"before": "1 left", "after": "sold out", "disabled": True, "complaints": []}


async def test_buys_what_is_in_the_basket(shop: Service, chromium: str) -> None:
    seen = await played("buys", shop, chromium)
    assert seen == {
        "disabled": True,
        "total": "Together € 75.50",
        "focus": "order",
        "told": "Bought for € 75.50. Thank you!",
        "lines": 0,
        "complaints": [],
    }
    found = await shop.ask("{ items { nodes { name inventory } } }")
    assert [(item["name"], item["inventory"]) for item in found["items"]["nodes"]][:2] == [("Copper Kettle", 1), ("Enamel Kettle", 1)]


async def test_meets_wcag_2_aa_wide_and_narrow(shop: Service, chromium: str) -> None:
    assert await played("accessible", shop, chromium) == {"light": [], "dark": [], "narrow": [], "filters": False, "overflow": False}


async def test_is_used_by_keyboard(shop: Service, chromium: str) -> None:
    seen = await played("keyboard", shop, chromium)
    assert seen == {
        "names": ["search", "tag-kitchen", "tag-copper", "tag-garden", "price-any", "in-stock"],
        "checked": "in-stock",
        "headings": ["H1", "H2", "H3"],
        "live": 3,
    }


async def test_runs_no_inline_script_and_is_for_development_only(embedded: Service, deployed: Service) -> None:
    page = await embedded.http.get("/shop")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    for name, media_type in (("shop.js", "text/javascript"), ("shop.css", "text/css")):
        asset = await embedded.http.get(f"/shop/{name}")
        assert asset.headers["Content-Type"].startswith(media_type)
        assert asset.content == (STATIC / name).read_bytes()
    for path in ("/shop/shop.html", "/shop/none.js", "/shop/..%2f__init__.py"):
        assert (await embedded.http.get(path)).status_code == 404
    assert (await deployed.http.get("/shop")).status_code == 404
