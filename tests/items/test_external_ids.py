"""External ids of items …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from persistence.items.table import Item
from persistence.kit.events.log import Event

if TYPE_CHECKING:
    from tests.support.service import Service

CREATE = """
mutation ($input: CreateItemInput!) {
  createItem(input: $input) { __typename ... on Item { id externalId } ... on InvalidInput { problems { path message } } }
}
"""
UPDATE = """
mutation ($id: ID!, $input: UpdateItemInput!, $stock: Int) {
  updateItem(id: $id, input: $input, expectedInventory: $stock) {
    __typename
    ... on Item { externalId version inventory }
    ... on InvalidInput { problems { path message } }
    ... on InventoryConflict { code currentInventory }
  }
}
"""
BULK = """
mutation ($inputs: [CreateItemInput!]!, $policy: BulkErrorPolicy! = REJECT_ALL, $key: String) {
  bulkCreateItems(inputs: $inputs, onError: $policy, idempotencyKey: $key) {
    ... on BulkCreateItems { created results { __typename ... on Item { externalId } ... on InvalidInput { problems { path message } } } }
  }
}
"""
FIND = "query ($id: String!) { itemByExternalId(externalId: $id) { id } }"
TAKEN = {"__typename": "InvalidInput", "problems": [{"path": ["externalId"], "message": "is another item's"}]}


def item(external_id: str | None, name: str = "Kettle") -> dict[str, Any]:
    return {"name": name, "price": "1", "externalId": external_id}


async def stored(service: Service) -> list[tuple[str | None, int]]:
    """External id and version of the items that are not deleted."""
    async with service.database.reading() as session:
        rows = await session.execute(select(Item.external_id, Item.version).where(Item.deleted_at.is_(None)).order_by(Item.id))
        return [(external_id, version) for external_id, version in rows]


async def test_find_their_item(service: Service) -> None:
    token = await service.sign_in()
    made = (await service.ask(CREATE, {"input": item("ERP 4711/é")}, token=token))["createItem"]
    assert made["externalId"] == "ERP 4711/é"
    assert await service.ask(FIND, {"id": "ERP 4711/é"}) == {"itemByExternalId": {"id": made["id"]}}
    for other in ("erp 4711/é", "ERP 4711/e\u0301", "", "\0", "x" * 500):
        assert await service.ask(FIND, {"id": other}) == {"itemByExternalId": None}


@pytest.mark.parametrize(
    ("external_id", "problem"),
    [
        ("", "must not be blank"),
        (" \u200b", "must not be blank"),
        (" A", "must have no blanks at its ends and no invisible characters"),
        ("A\u00a0", "must have no blanks at its ends and no invisible characters"),
        ("A\u200bB", "must have no blanks at its ends and no invisible characters"),
        ("A\nB", "must not contain control characters"),
        ("A\0", "must not contain control characters"),
        ("x" * 201, "must have at most 200 characters, not 201"),
    ],
)
async def test_are_visible(service: Service, external_id: str, problem: str) -> None:
    token = await service.sign_in()
    refused = {"__typename": "InvalidInput", "problems": [{"path": ["externalId"], "message": problem}]}
    assert (await service.ask(CREATE, {"input": item(external_id)}, token=token))["createItem"] == refused
    made = (await service.ask(CREATE, {"input": item("x" * 200)}, token=token))["createItem"]
    changed = await service.ask(UPDATE, {"id": made["id"], "input": {"externalId": external_id}}, token=token)
    assert changed["updateItem"] == refused
    assert await stored(service) == [("x" * 200, 1)]


async def test_belong_to_one_item_until_it_is_deleted(service: Service) -> None:
    token = await service.sign_in()
    first = (await service.ask(CREATE, {"input": item("A")}, token=token))["createItem"]["id"]
    second = (await service.ask(CREATE, {"input": item("B")}, token=token))["createItem"]["id"]
    assert (await service.ask(CREATE, {"input": item("A")}, token=token))["createItem"] == TAKEN
    assert (await service.ask(UPDATE, {"id": second, "input": {"externalId": "A"}}, token=token))["updateItem"] == TAKEN
    assert await stored(service) == [("A", 1), ("B", 1)]
    same = await service.ask(UPDATE, {"id": first, "input": {"externalId": "A"}}, token=token)
    assert same["updateItem"] == {"__typename": "Item", "externalId": "A", "version": 1, "inventory": 0}
    await service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": first}, token=token)
    assert (await service.ask(UPDATE, {"id": second, "input": {"externalId": "A"}}, token=token))["updateItem"]["externalId"] == "A"
    assert (await service.ask(UPDATE, {"id": second, "input": {"externalId": None}}, token=token))["updateItem"]["externalId"] is None
    assert await stored(service) == [(None, 3)]
    async with service.database.reading() as session:
        told = (await session.scalars(select(Event.data).where(Event.kind == "item.updated"))).all()
    assert told == [{"fields": ["externalId"]}] * 2


async def test_are_given_to_one_of_those_that_want_them_at_the_same_time(service: Service) -> None:
    token = await service.sign_in()
    answers = await asyncio.gather(*(service.ask(CREATE, {"input": item("A")}, token=token) for _ in range(10)))
    assert sorted(answer["createItem"]["__typename"] for answer in answers) == ["InvalidInput"] * 9 + ["Item"]
    bulks = await asyncio.gather(
        *(
            service.ask(BULK, {"inputs": [item(name) for name in names], "policy": "SKIP_INVALID"}, token=token)
            for names in (["B", "C", "D"], ["D", "C", "B"], ["C", "B", "E"])
        )
    )
    assert sum(bulk["bulkCreateItems"]["created"] for bulk in bulks) == 4
    assert sorted(await stored(service), key=str) == [(name, 1) for name in "ABCDE"]


async def test_that_are_taken_reject_or_skip_rows_of_a_bulk(service: Service) -> None:
    token = await service.sign_in()
    await service.ask(CREATE, {"input": item("A")}, token=token)
    inputs = [item("B"), item("A"), item("C") | {"price": "-1"}, item("B"), item(None)]
    taken = {"__typename": "InvalidInput", "problems": [{"path": ["inputs", "1", "externalId"], "message": "is another item's"}]}
    twice = {
        "__typename": "InvalidInput",
        "problems": [{"path": ["inputs", "3", "externalId"], "message": "is that of an earlier row, too"}],
    }
    good = [inputs[place] for place in (0, 1, 3, 4)]
    rejected = (await service.ask(BULK, {"inputs": good}, token=token))["bulkCreateItems"]
    assert (rejected["created"], [row["__typename"] for row in rejected["results"]]) == (
        0,
        ["NotCreated", "InvalidInput", "InvalidInput", "NotCreated"],
    )
    assert await stored(service) == [("A", 1)]
    skipped = await service.ask(BULK, {"inputs": inputs, "policy": "SKIP_INVALID", "key": "1"}, token=token)
    assert skipped["bulkCreateItems"]["created"] == 2
    assert skipped["bulkCreateItems"]["results"][:2] == [{"__typename": "Item", "externalId": "B"}, taken]
    assert skipped["bulkCreateItems"]["results"][3:] == [twice, {"__typename": "Item", "externalId": None}]
    assert await service.ask(BULK, {"inputs": inputs, "policy": "SKIP_INVALID", "key": "1"}, token=token) == skipped
    assert await stored(service) == [("A", 1), ("B", 1), (None, 1)]


async def test_leave_a_set_stock_to_be_compared(service: Service) -> None:
    """An operator who sets a stock that buyers have changed meanwhile learns of it; the version does not tell."""
    token, sold = await service.sign_in(), await service.make_item(inventory=5)
    await service.ask("mutation ($id: ID!) { purchaseItem(itemId: $id) { __typename } }", {"id": sold}, token=token)
    refused = await service.ask(UPDATE, {"id": sold, "input": {"inventory": 9}, "stock": 5}, token=token)
    assert refused["updateItem"] == {"__typename": "InventoryConflict", "code": "INVENTORY_CONFLICT", "currentInventory": 4}
    assert await stored(service) == [(None, 1)]
    done = await service.ask(UPDATE, {"id": sold, "input": {"inventory": 9}, "stock": 4}, token=token)
    assert done["updateItem"] == {"__typename": "Item", "externalId": None, "version": 2, "inventory": 9}
