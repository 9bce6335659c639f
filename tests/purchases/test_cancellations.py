"""A cancelled purchase …"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id, row_id
from persistence.items.table import Item
from persistence.kit.events import log
from persistence.kit.events.log import Event
from persistence.kit.notifications import Notification, Notifier
from persistence.purchases import table as purchases
from persistence.purchases.table import Purchase
from tests.conftest import settings_for
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.service import Service

BUY = "mutation ($item: ID!, $quantity: Int! = 1) { purchaseItem(itemId: $item, quantity: $quantity) { ... on Purchase { id } } }"
CANCEL = """
mutation ($id: ID!, $key: String) {
  cancelPurchase(id: $id, idempotencyKey: $key) {
    __typename
    ... on Purchase { id status quantity item { inventory } }
    ... on InvalidInput { problems { path message } }
    ... on Error { code message }
  }
}
"""
SEEN = "query ($item: ID!, $id: ID!) { item(id: $item) { inventory version } node(id: $id) { ... on Purchase { status } } }"
STATUS = "subscription ($id: ID!) { purchaseStatus(id: $id) { status } }"
EVENTS = """subscription ($items: [ID!], $after: String) { itemEvents(itemIds: $items, after: $after) {
  __typename ... on ItemChange { itemId item { inventory } } ... on ItemRestocked { quantity purchase { id status } } } }"""
REPORT = "query ($from: DateTime!, $to: DateTime!) { salesReport(from: $from, to: $to, by: MONTH) { revenue units purchases } }"


@dataclass
class Shopkeeper:
    """Is told of purchases, and takes as long as it is made to."""

    told: list[str] = field(default_factory=list[str])
    free: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def notify(self, notice: Notification) -> None:
        self.asked.set()
        await self.free.wait()
        self.told.append(f"{notice.kind} {notice.data['purchase_id']}")


@dataclass
class Shop:
    """A service whose background work waits until `keeper.free` is set, with an item, its buyer and an administrator."""

    service: Service
    keeper: Shopkeeper
    item: str
    buyer: str
    admin: str

    async def buy(self, quantity: int = 1) -> str:
        return (await self.service.ask(BUY, {"item": self.item, "quantity": quantity}, token=self.buyer))["purchaseItem"]["id"]

    async def cancel(self, id_: str, token: str, key: str | None = None) -> dict[str, Any]:
        return (await self.service.ask(CANCEL, {"id": id_, "key": key}, token=token))["cancelPurchase"]

    async def completed(self, quantity: int = 1) -> str:
        bought = await self.buy(quantity)
        await self.work()
        return bought

    async def work(self) -> None:
        self.keeper.free.set()
        await self.service.background_done()

    async def seen(self, id_: str) -> tuple[int, str]:
        seen = await self.service.ask(SEEN, {"item": self.item, "id": id_}, token=self.admin)
        return seen["item"]["inventory"], seen["node"]["status"]

    async def events(self) -> list[str]:
        async with self.service.database.reading() as session:
            return list(await session.scalars(select(Event.kind).order_by(Event.id)))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def slow_service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[Service, Shopkeeper]]:
    keeper = Shopkeeper()
    async with running(await settings_for(request.param, tmp_path_factory.mktemp("cancel")), {Notifier: keeper}) as service:
        yield service, keeper


@pytest.fixture
async def shop(slow_service: tuple[Service, Shopkeeper]) -> AsyncGenerator[Shop]:
    service, keeper = slow_service
    async with opened(service, keeper) as shop:
        yield shop


@asynccontextmanager
async def opened(service: Service, keeper: Shopkeeper) -> AsyncGenerator[Shop]:
    keeper.free.clear()
    keeper.asked.clear()
    buyer, admin = await service.sign_in(Scope.ITEMS_READ, username="buyer"), await service.sign_in(username="admin")
    yield Shop(service, keeper, await service.make_item(price="2.50", inventory=10), buyer, admin)
    keeper.free.set()
    await service.background_done()
    keeper.told.clear()
    await service.empty()


async def test_gives_its_units_back_while_it_is_queued(shop: Shop) -> None:
    bought = await shop.buy(4)
    assert await shop.seen(bought) == (6, "QUEUED")
    assert await shop.cancel(bought, shop.buyer) == {
        "__typename": "Purchase",
        "id": bought,
        "status": "CANCELLED",
        "quantity": 4,
        "item": {"inventory": 10},
    }
    assert await shop.seen(bought) == (10, "CANCELLED")
    assert await shop.events() == ["item.created", "item.purchased", "item.restocked", "purchase.cancelled"]


async def test_gives_its_units_back_once_however_often_it_is_sent(shop: Shop) -> None:
    bought = await shop.buy(4)
    answers = await asyncio.gather(
        *(shop.cancel(bought, token, key) for token in (shop.buyer, shop.admin) for key in (None, "a", "a", "b", None))
    )
    assert {answer["status"] for answer in answers} == {"CANCELLED"}
    assert (await shop.cancel(bought, shop.buyer))["status"] == "CANCELLED"
    assert await shop.seen(bought) == (10, "CANCELLED")
    assert Counter(await shop.events()) == {"item.created": 1, "item.purchased": 1, "item.restocked": 1, "purchase.cancelled": 1}
    await shop.work()
    audited = await shop.service.ask("{ auditLog(first: 9) { nodes { action subject } } }", token=shop.admin)
    assert [each for each in audited["auditLog"]["nodes"] if each["subject"] == bought] == [
        {"action": "purchase.cancelled", "subject": bought}
    ]


async def test_is_not_completed_by_its_background_work(shop: Shop) -> None:
    bought, kept = await shop.buy(), await shop.buy()
    await shop.cancel(bought, shop.buyer)
    await shop.work()
    assert (await shop.seen(bought), await shop.seen(kept)) == ((9, "CANCELLED"), (9, "COMPLETED"))
    assert "purchase.completed" in await shop.events()


async def test_is_told_to_whoever_was_told_of_the_purchase_and_after_it(shop: Shop) -> None:
    early = await shop.buy()
    await asyncio.wait_for(shop.keeper.asked.wait(), 30)
    await shop.cancel(early, shop.buyer)
    late = await shop.completed()
    await shop.cancel(late, shop.admin)
    await shop.work()
    told = [[word for word, id_ in map(str.split, shop.keeper.told) if id_ == str(row_id("Purchase", each))] for each in (early, late)]
    assert told == [["purchase.placed", "purchase.cancelled"]] * 2


async def test_cannot_be_one_that_is_completed_but_for_an_administrator(shop: Shop) -> None:
    bought = await shop.completed(3)
    assert await shop.cancel(bought, shop.buyer) == {
        "__typename": "PurchaseCompleted",
        "code": "PURCHASE_COMPLETED",
        "message": "The purchase is completed: only a user with users:write can cancel it now.",
    }
    assert await shop.seen(bought) == (7, "COMPLETED")
    assert (await shop.cancel(bought, shop.admin))["status"] == "CANCELLED"
    assert await shop.seen(bought) == (10, "CANCELLED")


async def test_cannot_be_somebody_elses(shop: Shop) -> None:
    bought, reader = await shop.buy(2), await shop.service.sign_in(Scope.USERS_READ, Scope.ITEMS_WRITE, username="reader")
    before = await shop.events()
    for id_ in (bought, global_id("Purchase", 2**40), global_id("Item", 1), "nonsense"):
        assert await shop.cancel(id_, reader) == {"__typename": "NotFound", "code": "NOT_FOUND", "message": "There is no such purchase."}
    assert await shop.service.refused(CANCEL, {"id": bought}) == "UNAUTHENTICATED"
    assert (await shop.seen(bought), await shop.events()) == ((8, "QUEUED"), before)


async def test_gives_its_units_back_to_an_item_that_has_left(shop: Shop) -> None:
    bought = await shop.buy(4)
    await shop.service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": shop.item}, token=shop.admin)
    assert (await shop.cancel(bought, shop.buyer))["item"] == {"inventory": 10}
    async with shop.service.database.reading() as session:
        assert await session.scalar(select(Item.inventory)) == 10


async def test_is_refused_where_the_stock_would_have_more_units_than_can_be_counted(shop: Shop) -> None:
    bought, most = await shop.buy(4), 2**31 - 1
    async with shop.service.database.transaction() as work:
        await work.session.execute(update(Item).values(inventory=most - 3))
    problem = {"path": ["id"], "message": f"the item would have more than {most} units in stock: lower its inventory first"}
    assert (await shop.cancel(bought, shop.buyer))["problems"] == [problem]
    assert await shop.seen(bought) == (most - 3, "QUEUED")


async def test_leaves_the_version_alone(shop: Shop) -> None:
    bought = await shop.buy()
    before = await shop.service.ask(SEEN, {"item": shop.item, "id": bought})
    await shop.cancel(bought, shop.buyer)
    after = await shop.service.ask(SEEN, {"item": shop.item, "id": bought})
    assert after["item"] == {"inventory": 10, "version": before["item"]["version"]}


async def test_counts_in_no_report(shop: Shop) -> None:
    start = (await shop.service.ask("query ($id: ID!) { item(id: $id) { createdAt } }", {"id": shop.item}))["item"]["createdAt"]
    kept, queued, completed = await shop.buy(1), await shop.buy(2), await shop.buy(4)
    await shop.cancel(queued, shop.buyer)
    await shop.work()
    await shop.cancel(completed, shop.admin)
    span = {"from": start, "to": (datetime.fromisoformat(start) + timedelta(hours=1)).isoformat()}
    report = await shop.service.ask(REPORT, span, token=shop.admin)
    assert report["salesReport"] == {"revenue": "2.50", "units": 1, "purchases": 1}
    await shop.cancel(kept, shop.admin)
    report = await shop.service.ask(REPORT, span, token=shop.admin)
    assert report["salesReport"] == {"revenue": "0.00", "units": 0, "purchases": 0}


async def test_is_heard_of_by_its_follower_and_then_no_more(shop: Shop) -> None:
    bought = await shop.buy()
    async with listening(shop.service, STATUS, {"id": bought}, token=shop.buyer) as listener:
        assert await listener.next() == {"status": "QUEUED"}
        await shop.cancel(bought, shop.buyer)
        assert await listener.next() == {"status": "CANCELLED"}
        await listener.completed()
    async with listening(shop.service, STATUS, {"id": bought}, token=shop.buyer) as listener:
        assert await listener.next() == {"status": "CANCELLED"}
        await listener.completed()


async def test_is_an_event_of_its_item_that_shows_the_purchase_to_those_who_may_see_it(shop: Shop) -> None:
    bought, feed = await shop.buy(4), shop.service.services.feed
    variables = {"items": [shop.item], "after": feed.cursor(await newest(shop.service))}
    async with (
        listening(shop.service, EVENTS, variables, token=shop.buyer) as buyer,
        listening(shop.service, EVENTS, variables) as stranger,
    ):
        await shop.cancel(bought, shop.buyer)
        heard = {"__typename": "ItemRestocked", "itemId": shop.item, "item": {"inventory": 10}, "quantity": 4}
        assert await buyer.next() == heard | {"purchase": {"id": bought, "status": "CANCELLED"}}
        assert await stranger.next() == heard | {"purchase": None}


async def newest(service: Service) -> int:
    async with service.database.reading_latest() as session:
        return await log.newest(session)


async def test_and_its_completion_are_one_or_the_other(shop: Shop) -> None:
    """Cancelled while the background work ends: each of many is completed or cancelled, and the stock is as these are."""
    bought = [await shop.buy() for _ in range(10)]
    await asyncio.wait_for(shop.keeper.asked.wait(), 30)
    shop.keeper.free.set()
    answers = await asyncio.gather(*(shop.cancel(id_, shop.buyer) for id_ in bought))
    await shop.service.background_done()
    async with shop.service.database.reading() as session:
        status = {global_id("Purchase", row.id): row.status for row in await session.scalars(select(Purchase))}
    told = {id_: answer["__typename"] for id_, answer in zip(bought, answers, strict=True)}
    assert {id_: {"Purchase": purchases.CANCELLED, "PurchaseCompleted": purchases.COMPLETED}[name] for id_, name in told.items()} == status
    assert (await shop.seen(bought[0]))[0] == list(status.values()).count(purchases.CANCELLED)


async def test_stays_so_when_its_background_work_waits_for_the_cancellation(shop: Shop) -> None:
    bought = await shop.buy()
    key = row_id("Purchase", bought) or 0
    async with shop.service.database.transaction() as cancelling:
        actor = (await cancelling.session.scalars(select(Purchase.buyer_id))).one()
        await purchases.cancel(cancelling, key, actor_id=actor, any_purchase=False)
        completing = asyncio.create_task(complete(shop.service, key))
        async with asyncio.timeout(30):
            while not await waited_for(shop.service):  # noqa: ASYNC110 -- a lock does not say that it is waited for
                await asyncio.sleep(0.01)
    await completing
    assert await shop.seen(bought) == (10, "CANCELLED")


async def complete(service: Service, key: int) -> None:
    async with service.database.transaction() as work:
        await purchases.complete(work, [key])


async def waited_for(service: Service) -> bool:
    """Whether a transaction waits for another's row. On SQLite it waits before it begins."""
    if service.database.dialect == "sqlite":
        return True
    async with service.database.reading_latest() as session:
        waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        return bool(await session.scalar(waits))
