"""A basket …"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id, row_id
from persistence.kit.events.log import Event
from persistence.purchases.table import COMPLETED, Purchase
from tests.support.load.baskets import Plan, shop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

BASKET = """
mutation ($lines: [PurchaseLineInput!]!, $key: String) {
  purchaseItems(lines: $lines, idempotencyKey: $key) {
    __typename
    ... on PurchaseItems { total purchases { id quantity unitPrice total status item { id } buyer { username } } }
    ... on OutOfStock { message itemId available }
    ... on InvalidInput { problems { path message } }
    ... on Error { code message }
  }
}
"""
STOCK = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Item { inventory } } }"


async def buy(service: Service, token: str | None, *lines: tuple[str, int], key: str | None = None) -> dict[str, Any]:
    wanted = [{"itemId": item, "quantity": quantity} for item, quantity in lines]
    return (await service.ask(BASKET, {"lines": wanted, "key": key}, token=token))["purchaseItems"]


async def stock(service: Service, *items: str) -> list[int]:
    return [each["inventory"] for each in (await service.ask(STOCK, {"ids": items}))["nodes"]]


async def test_is_a_purchase_for_each_line_in_their_order_and_their_sum(service: Service) -> None:
    token, kettle, cup = (
        await service.sign_in(),
        await service.make_item(price="19.95", inventory=5),
        await service.make_item(price="0.10", inventory=9),
    )
    bought = await buy(service, token, (cup, 4), (kettle, 2), (cup, 1))
    purchases = bought["purchases"]
    assert bought["total"] == "40.40"
    assert [(each["item"]["id"], each["quantity"], each["unitPrice"], each["total"]) for each in purchases] == [
        (cup, 4, "0.10", "0.40"),
        (kettle, 2, "19.95", "39.90"),
        (cup, 1, "0.10", "0.10"),
    ]
    assert {(each["status"], each["buyer"]["username"]) for each in purchases} == {("QUEUED", "ada")}
    assert await stock(service, kettle, cup) == [3, 4]


async def test_has_an_event_and_background_work_for_each_line(service: Service) -> None:
    token, kettle, cup = await service.sign_in(), await service.make_item(inventory=5), await service.make_item(inventory=9)
    bought = await buy(service, token, (cup, 4), (kettle, 2), (cup, 1))
    await service.background_done()
    ids = [row_id("Purchase", each["id"]) for each in bought["purchases"]]
    async with service.database.reading() as session:
        told = (await session.scalars(select(Event).where(Event.kind == "item.purchased").order_by(Event.id))).all()
        assert [(global_id("Item", event.subject_id), event.data) for event in told] == [
            (item, {"purchase_id": id_, "quantity": quantity})
            for id_, (item, quantity) in zip(ids, [(cup, 4), (kettle, 2), (cup, 1)], strict=True)
        ]
        assert (await session.scalars(select(Purchase.status))).all() == [COMPLETED] * 3
    audited = await service.ask("{ auditLog(first: 3) { nodes { action subject actor { username } } } }", token=token)
    assert [each["subject"] for each in reversed(audited["auditLog"]["nodes"])] == [each["id"] for each in bought["purchases"]]
    assert {(each["action"], each["actor"]["username"]) for each in audited["auditLog"]["nodes"]} == {("purchase.completed", "ada")}


async def test_of_which_one_item_is_short_takes_nothing_and_names_it(service: Service) -> None:
    token, kettle, cup = await service.sign_in(), await service.make_item(inventory=5), await service.make_item(inventory=3)
    for lines in [((kettle, 5), (cup, 4)), ((cup, 2), (kettle, 1), (cup, 2)), ((cup, 2**31 - 1), (cup, 2**31 - 1))]:
        refused = await buy(service, token, *lines)
        assert refused == {
            "__typename": "OutOfStock",
            "code": "OUT_OF_STOCK",
            "message": "Only 3 left: ask for fewer.",
            "itemId": cup,
            "available": 3,
        }
    assert await stock(service, kettle, cup) == [5, 3]
    assert await service.count("purchases", "jobs", "events") == [0, 0, 2]


async def test_with_an_item_that_does_not_exist_takes_nothing_and_names_the_line(service: Service) -> None:
    token, kettle, gone = await service.sign_in(), await service.make_item(inventory=5), await service.make_item(inventory=5)
    await service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": gone}, token=token)
    for id_ in (gone, global_id("Item", 2**40), global_id("User", 1), "nonsense"):
        refused = await buy(service, token, (kettle, 1), (id_, 1), key=f"order of {id_}")
        assert refused == {"__typename": "NotFound", "code": "NOT_FOUND", "message": "There is no such item as lines.1.itemId names."}
    assert await stock(service, kettle) == [5]
    assert await service.count("purchases", "idempotency_keys") == [0, 0]


async def test_is_refused_empty_too_long_and_with_bad_quantities_by_line(service: Service) -> None:
    token, kettle = await service.sign_in(), await service.make_item(inventory=500)
    bounds = "must be between 1 and 2147483647"
    for lines, problems in [
        ([], [(["lines"], "must be 1 to 100 lines, not 0")]),
        ([(kettle, 1)] * 101, [(["lines"], "must be 1 to 100 lines, not 101")]),
        ([(kettle, 0), (kettle, 1), (kettle, -1)], [(["lines", "0", "quantity"], bounds), (["lines", "2", "quantity"], bounds)]),
    ]:
        refused = await buy(service, token, *lines)
        assert [(each["path"], each["message"]) for each in refused["problems"]] == problems
    assert await service.refused(BASKET, {"lines": [{"itemId": kettle}]}) == "UNAUTHENTICATED"
    assert await stock(service, kettle) == [500]
    assert len((await buy(service, token, *[(kettle, 5)] * 100))["purchases"]) == 100
    assert await stock(service, kettle) == [0]


async def test_is_bought_once_however_often_it_is_sent_under_one_key(service: Service) -> None:
    token, kettle, cup = (
        await service.sign_in(),
        await service.make_item(price="2.50", inventory=9),
        await service.make_item(price="1.00", inventory=9),
    )
    lines = ((kettle, 2), (cup, 1))
    first, *others = await asyncio.gather(*(buy(service, token, *lines, key="order-1") for _ in range(8)))
    assert (first["total"], others) == ("6.00", [first] * 7)
    assert await buy(service, token, *lines, key="order-1") == first
    assert (await buy(service, token, *lines[::-1], key="order-1"))["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert await stock(service, kettle, cup) == [7, 8]


async def test_of_the_last_units_is_sold_whole_or_not_at_all(service: Service) -> None:
    """Baskets that name the same items in opposite orders, and single purchases between them."""
    token, first, second = await service.sign_in(), await service.make_item(inventory=30), await service.make_item(inventory=20)
    lines = [((first, 1), (second, 1)), ((second, 1), (first, 1)), ((second, 1),), ((first, 1),)]
    answers = await asyncio.gather(*(buy_persistently(service, token, lines[number % 4], number) for number in range(120)))
    told = Counter(answer["__typename"] for answer in answers)
    units = Counter[str]()
    for answer, number in zip(answers, range(120), strict=True):
        if answer["__typename"] == "PurchaseItems":
            units.update(item for item, _ in lines[number % 4])
            assert len(answer["purchases"]) == len(lines[number % 4])
    assert told.keys() == {"PurchaseItems", "OutOfStock"}
    assert await stock(service, first, second) == [30 - units[first], 20 - units[second]]
    assert await service.count("purchases") == [units.total()]
    assert units[second] == 20


async def buy_persistently(service: Service, token: str, lines: tuple[tuple[str, int], ...], number: int) -> dict[str, Any]:
    """As a client does that is told to come back later."""
    variables = {"lines": [{"itemId": item, "quantity": quantity} for item, quantity in lines], "key": f"basket {number}"}
    while "errors" in (answer := (await service.send(BASKET, variables, token=token)).json()):
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["SERVICE_UNAVAILABLE"], answer
    return answer["data"]["purchaseItems"]


async def test_costs_by_its_lines(service: Service) -> None:
    token, kettle = await service.sign_in(Scope.ITEMS_READ), await service.make_item(inventory=500)
    costs = list[int]()
    for count in (1, 100):
        document = "mutation ($lines: [PurchaseLineInput!]!) { purchaseItems(lines: $lines) { __typename } }"
        asked = {"document": document, "variables": {"lines": [{"itemId": kettle}] * count}}
        found = await service.ask(
            "query ($document: String!, $variables: JSON) { rateLimit(document: $document, variables: $variables) { cost } }",
            asked,
            token=token,
        )
        costs.append(found["rateLimit"]["cost"])
    assert costs == [50, 510]  # The least of an operation, and 10 and 5 a line.


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_from_several_processes_is_whole_and_stock_and_totals_are_exact(backend: str, tmp_path: Path) -> None:
    """In the short form of `scripts/baskets`."""
    outcome = await shop(backend, tmp_path, Plan(baskets=300, items=5, stock=150, buyers=8, processes=2))
    assert (outcome.faults, outcome.deadlocks) == ([], 0)
    assert outcome.answers.total() == 300
    assert min(outcome.answers["PurchaseItems"], outcome.answers["OutOfStock"], outcome.cancelled) > 0
