"""A purchase …"""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id
from persistence.kit.events.log import Event
from persistence.kit.idempotency import IdempotencyKey
from persistence.purchases import single_statement
from persistence.purchases.table import Purchase
from tests.support.clients.websocket_subscriber import listening

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.support.service import Service

PURCHASE = """
mutation Purchase($item: ID!, $quantity: Int! = 1, $key: String) {
  purchaseItem(itemId: $item, quantity: $quantity, idempotencyKey: $key) {
    __typename
    ... on Purchase { id quantity unitPrice total status item { id name inventory version } buyer { username } }
    ... on OutOfStock { code message available itemId }
    ... on InvalidInput { code problems { path message } }
    ... on Error { code }
  }
}
"""
STATUS = "subscription ($id: ID!) { purchaseStatus(id: $id) { id status total } }"
STOCK = "query ($id: ID!) { item(id: $id) { inventory version } }"


async def buy(service: Service, token: str | None, item: str, **variables: Any) -> dict[str, Any]:
    data = await service.ask(PURCHASE, {"item": item, **variables}, token=token)
    return data["purchaseItem"]


async def buy_persistently(service: Service, token: str, item: str, key: str) -> dict[str, Any]:
    """As a client does that is told to come back later, be it of the purchase or, once that is made, of what to show of it."""
    while "errors" in (answer := (await service.send(PURCHASE, {"item": item, "key": key}, token=token)).json()):
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["SERVICE_UNAVAILABLE"], answer
    return answer["data"]["purchaseItem"]


async def test_takes_the_units_at_the_price_of_the_moment(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item("Kettle", price="19.95", inventory=5)
    bought = await buy(service, token, item, quantity=3)
    assert bought == {
        "__typename": "Purchase",
        "id": bought["id"],
        "quantity": 3,
        "unitPrice": "19.95",
        "total": "59.85",
        "status": "QUEUED",
        "item": {"id": item, "name": "Kettle", "inventory": 2, "version": 1},
        "buyer": {"username": "ada"},
    }


async def test_of_more_than_there_is_takes_nothing_and_says_what_is_left(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=2)
    refused = await buy(service, token, item, quantity=3)
    assert refused == {
        "__typename": "OutOfStock",
        "code": "OUT_OF_STOCK",
        "message": "Only 2 left: ask for fewer.",
        "available": 2,
        "itemId": item,
    }
    assert await service.ask(STOCK, {"id": item}) == {"item": {"inventory": 2, "version": 1}}
    assert await service.count("purchases", "events", "jobs") == [0, 1, 0]


async def test_of_nothing_or_of_less_is_refused(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=2)
    for quantity in (0, -1):
        refused = await buy(service, token, item, quantity=quantity)
        assert refused["problems"] == [{"path": ["quantity"], "message": "must be between 1 and 2147483647"}]
    assert await service.ask(STOCK, {"id": item}) == {"item": {"inventory": 2, "version": 1}}


async def test_of_an_item_that_does_not_exist_is_refused(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=2)
    await service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": item}, token=token)
    for id_ in (item, global_id("Item", 2**40), global_id("User", 1), "nonsense"):
        assert (await buy(service, token, id_))["__typename"] == "NotFound"
    assert await service.count("purchases") == [0]


async def test_needs_a_signed_in_buyer(service: Service) -> None:
    item = await service.make_item(inventory=2)
    assert await service.refused(PURCHASE, {"item": item}) == "UNAUTHENTICATED"
    assert await service.ask(STOCK, {"id": item}) == {"item": {"inventory": 2, "version": 1}}


async def test_of_the_last_units_succeeds_exactly_as_often_as_there_are_units(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=10)
    answers = await asyncio.gather(*(buy_persistently(service, token, item, f"buyer-{buyer}") for buyer in range(200)))
    assert Counter(answer["__typename"] for answer in answers) == {"Purchase": 10, "OutOfStock": 190}
    assert {answer["available"] for answer in answers if answer["__typename"] == "OutOfStock"} == {0}
    assert await service.ask(STOCK, {"id": item}) == {"item": {"inventory": 0, "version": 1}}


async def test_happens_once_however_often_it_is_sent_under_one_key(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=10)
    first = await buy(service, token, item, quantity=4, key="order-1")
    again = await buy(service, token, item, quantity=4, key="order-1")
    other = await buy(service, token, item, quantity=5, key="order-1")
    assert again == first
    assert other == {"__typename": "IdempotencyKeyReused", "code": "IDEMPOTENCY_KEY_REUSED"}
    assert await service.ask(STOCK, {"id": item}) == {"item": {"inventory": 6, "version": 1}}


async def test_leaves_the_same_whichever_way_it_takes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement where the database has such, or the six that every database knows."""
    token, item = await service.sign_in(), await service.make_item(price="19.90", inventory=5)
    ways: list[Callable[..., Any]] = [single_statement.sell, the_long_way]
    for number, way in enumerate(ways):
        monkeypatch.setattr(single_statement, "sell", way)
        await buy(service, token, item, quantity=2, key=f"key {number}")
    await service.background_done()
    async with service.database.reading() as session:
        told = (await session.scalars(select(Event).where(Event.kind == "item.purchased").order_by(Event.id))).all()
        sold = (await session.scalars(select(Purchase).order_by(Purchase.id))).all()
        keys = (await session.scalars(select(IdempotencyKey).order_by(IdempotencyKey.key))).all()
    bought = {"item_id": told[0].subject_id, "quantity": 2, "unit_price": "19.90", "buyer_id": sold[0].buyer_id}
    for event, purchase, key in zip(told, sold, keys, strict=True):
        assert event.data == {"purchase_id": purchase.id, "quantity": 2}
        assert key.answer == bought | {"id": purchase.id, "status": "QUEUED", "created_at": purchase.created_at.isoformat()}
        assert (purchase.item_id, purchase.buyer_id, purchase.unit_price, purchase.status) == (
            bought["item_id"],
            bought["buyer_id"],
            Decimal("19.90"),
            "COMPLETED",
        )
    assert [key.fingerprint for key in keys] == [keys[0].fingerprint] * 2


async def the_long_way(*_: object, **__: object) -> None:
    """There is no other."""


async def test_is_told_as_it_stands_and_then_when_it_is_complete(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(price="0.10", inventory=10)
    bought = await buy(service, token, item, quantity=3)
    async with listening(service, STATUS, {"id": bought["id"]}, token=token) as listener:
        heard = await listener.next()
        if heard["status"] == "QUEUED":
            heard = await listener.next()
        assert heard == {"id": bought["id"], "status": "COMPLETED", "total": "0.30"}
        await listener.completed()


async def test_is_seen_by_its_buyer_and_by_those_who_read_users_only(service: Service) -> None:
    item = await service.make_item(inventory=10)
    buyer = await service.sign_in(Scope.ITEMS_READ, username="buyer")
    auditor = await service.sign_in(Scope.USERS_READ, username="auditor")
    other = await service.sign_in(Scope.ITEMS_READ, username="other")
    bought = await buy(service, buyer, item)
    query = "query ($id: ID!) { node(id: $id) { id ... on Purchase { quantity } } }"
    seen = {"node": {"id": bought["id"], "quantity": 1}}
    assert await service.ask(query, {"id": bought["id"]}, token=buyer) == seen
    assert await service.ask(query, {"id": bought["id"]}, token=auditor) == seen
    assert await service.ask(query, {"id": bought["id"]}, token=other) == {"node": None}
    assert await service.ask(query, {"id": bought["id"]}) == {"node": None}
    async with listening(service, STATUS, {"id": bought["id"]}, token=other) as listener:
        assert await listener.refusal() == "BAD_USER_INPUT"
