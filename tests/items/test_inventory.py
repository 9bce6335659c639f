"""adjustInventory …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id
from persistence.audit import AuditEntry
from persistence.kit.events.log import Event
from tests.support.clients.websocket_subscriber import listening

if TYPE_CHECKING:
    from tests.support.service import Service

ADJUST = """
mutation ($adjustments: [InventoryAdjustmentInput!]!, $policy: BulkErrorPolicy! = REJECT_ALL, $key: String) {
  adjustInventory(adjustments: $adjustments, onError: $policy, idempotencyKey: $key) {
    __typename
    ... on AdjustInventory {
      results {
        __typename
        ... on InventoryAdjusted { delta item { id inventory version } }
        ... on OutOfStock { available }
        ... on InvalidInput { problems { path message } }
      }
    }
    ... on InvalidInput { problems { path message } }
  }
}
"""
CREATE = "mutation ($input: CreateItemInput!) { createItem(input: $input) { ... on Item { id } } }"
STOCK = "query ($id: ID!) { item(id: $id) { inventory version } }"


async def adjust(service: Service, token: str, *adjustments: dict[str, Any], **variables: Any) -> Any:
    answer = (await service.ask(ADJUST, {"adjustments": list(adjustments), **variables}, token=token))["adjustInventory"]
    return answer.get("results") or answer


async def make(service: Service, token: str, external_id: str, inventory: int) -> str:
    values = {"name": external_id, "price": "1", "externalId": external_id, "inventory": inventory}
    return (await service.ask(CREATE, {"input": values}, token=token))["createItem"]["id"]


async def stock(service: Service, id_: str) -> int:
    found = (await service.ask(STOCK, {"id": id_}))["item"]
    assert found["version"] == 1
    return found["inventory"]


async def noted(service: Service) -> tuple[list[Any], list[Any]]:
    """The deltas of events, and what the audit log has of them."""
    async with service.database.reading() as session:
        events = (await session.scalars(select(Event.data).where(Event.kind == "item.adjusted").order_by(Event.id))).all()
        entries = (
            await session.scalars(select(AuditEntry.detail).where(AuditEntry.action == "item.adjusted").order_by(AuditEntry.id))
        ).all()
    return list(events), list(entries)


async def test_adds_and_takes_away_by_either_id(service: Service) -> None:
    token = await service.sign_in()
    kettle, pan = await make(service, token, "K", 5), await make(service, token, "P", 0)
    results = await adjust(service, token, {"itemId": kettle, "delta": -2, "reason": "broken"}, {"externalId": "P", "delta": 7})
    assert results == [
        {"__typename": "InventoryAdjusted", "delta": -2, "item": {"id": kettle, "inventory": 3, "version": 1}},
        {"__typename": "InventoryAdjusted", "delta": 7, "item": {"id": pan, "inventory": 7, "version": 1}},
    ]
    assert await noted(service) == ([{"delta": -2}, {"delta": 7}], [{"delta": -2, "reason": "broken"}, {"delta": 7, "reason": None}])


async def test_counts_several_of_one_item_in_their_order(service: Service) -> None:
    token = await service.sign_in()
    kettle = await make(service, token, "K", 1)
    rows = [
        {"itemId": kettle, "delta": 2},
        {"externalId": "K", "delta": -3},
        {"itemId": kettle, "delta": -1},
        {"itemId": kettle, "delta": 4},
    ]
    refused = await adjust(service, token, *rows)
    assert [row["__typename"] for row in refused] == ["NotCreated", "NotCreated", "OutOfStock", "NotCreated"]
    assert refused[2]["available"] == 0
    assert (await stock(service, kettle), await noted(service)) == (1, ([], []))
    skipped = await adjust(service, token, *rows, policy="SKIP_INVALID")
    assert [row["__typename"] for row in skipped] == ["InventoryAdjusted", "InventoryAdjusted", "OutOfStock", "InventoryAdjusted"]
    assert await stock(service, kettle) == 4
    assert (await noted(service))[0] == [{"delta": 3}]


@pytest.mark.parametrize(
    ("row", "result"),
    [
        ({"externalId": "none", "delta": 1}, {"__typename": "NotFound"}),
        ({"externalId": "\0", "delta": 1}, {"__typename": "NotFound"}),
        ({"itemId": "nonsense", "delta": 1}, {"__typename": "NotFound"}),
        ({"itemId": global_id("User", 1), "delta": 1}, {"__typename": "NotFound"}),
        ({"itemId": "{gone}", "delta": 1}, {"__typename": "NotFound"}),
        ({"externalId": "gone", "delta": 1}, {"__typename": "NotFound"}),
        ({"delta": 1}, {"path": ["adjustments", "1", "itemId"], "message": "must be given, or externalId, and not both"}),
        (
            {"itemId": "x", "externalId": "y", "delta": 1},
            {"path": ["adjustments", "1", "itemId"], "message": "must be given, or externalId, and not both"},
        ),
        (
            {"externalId": "K", "delta": 2**31 - 1},
            {"path": ["adjustments", "1", "delta"], "message": "must leave at most 2147483647 units in stock, where 6 are now"},
        ),
        (
            {"externalId": "K", "delta": -(2**31)},
            {"path": ["adjustments", "1", "delta"], "message": "must be between -2147483647 and 2147483647"},
        ),
        (
            {"externalId": "K", "delta": 1, "reason": "x" * 201},
            {"path": ["adjustments", "1", "reason"], "message": "must have at most 200 characters, not 201"},
        ),
        ({"externalId": "K", "delta": -7}, {"__typename": "OutOfStock", "available": 6}),
    ],
)
async def test_refuses_one_by_its_place_and_changes_nothing(service: Service, row: dict[str, Any], result: dict[str, Any]) -> None:
    token = await service.sign_in()
    kettle, gone = await make(service, token, "K", 5), await make(service, token, "gone", 5)
    await service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": gone}, token=token)
    row = {name: gone if value == "{gone}" else value for name, value in row.items()}
    expected = result if "__typename" in result else {"__typename": "InvalidInput", "problems": [result]}
    refused = await adjust(service, token, {"itemId": kettle, "delta": 1}, row)
    assert refused == [{"__typename": "NotCreated"}, expected]
    assert (await stock(service, kettle), await noted(service)) == (5, ([], []))
    skipped = await adjust(service, token, {"itemId": kettle, "delta": 1}, row, policy="SKIP_INVALID", key="1")
    assert [skipped[0]["__typename"], skipped[1]] == ["InventoryAdjusted", expected]
    assert await adjust(service, token, {"itemId": kettle, "delta": 1}, row, policy="SKIP_INVALID", key="1") == skipped
    assert await stock(service, kettle) == 6


async def test_is_told_to_subscribers(service: Service) -> None:
    token = await service.sign_in()
    kettle = await make(service, token, "K", 5)
    document = "subscription { itemEvents { __typename ... on ItemAdjusted { delta itemId item { inventory } } } }"
    async with listening(service, document, {}) as listener:
        await adjust(service, token, {"itemId": kettle, "delta": -2, "reason": "secret"}, {"itemId": kettle, "delta": 1})
        while (heard := await listener.next())["__typename"] == "ItemCreated":
            pass  # It may have become final only now.
        assert heard == {"__typename": "ItemAdjusted", "delta": -1, "itemId": kettle, "item": {"inventory": 4}}


@pytest.mark.parametrize("rows", [0, 10_001])
async def test_refuses_a_call_of_the_wrong_size(service: Service, rows: int) -> None:
    answer = await adjust(service, await service.sign_in(), *[{"externalId": "K", "delta": 1}] * rows)
    assert answer["problems"] == [{"path": ["adjustments"], "message": f"must be 1 to 10000 rows, not {rows}"}]


@pytest.mark.parametrize(("scopes", "code"), [(None, "UNAUTHENTICATED"), ((Scope.ITEMS_READ,), "FORBIDDEN")])
async def test_needs_the_scope(service: Service, scopes: tuple[Scope, ...] | None, code: str) -> None:
    token = await service.sign_in(*scopes) if scopes else None
    assert await service.refused(ADJUST, {"adjustments": [{"externalId": "K", "delta": 1}]}, token=token) == code


async def test_keeps_the_books_beside_buyers_and_other_lists(service: Service) -> None:
    """Start, and adjustments, less what was sold, is the end of each item, whoever comes in which order; events are in the order of the changes."""
    token, start = await service.sign_in(), 20
    ids = [await make(service, token, f"{number}", start) for number in range(6)]
    purchase = "mutation ($id: ID!) { purchaseItem(itemId: $id) { __typename } }"
    upsert = "mutation ($inputs: [UpsertItemInput!]!) { upsertItems(inputs: $inputs) { ... on UpsertItems { updated unchanged } } }"

    async def buy(number: int) -> None:
        for turn in range(12):
            await service.send(purchase, {"id": ids[(number + turn) % len(ids)]}, token=token)

    async def correct(number: int) -> None:
        for turn in range(8):
            rows = [{"itemId": id_, "delta": (-1) ** turn * (1 + place % 3)} for place, id_ in enumerate(ids)]
            await adjust(service, token, *rows[:: 1 if number else -1], policy="SKIP_INVALID")

    async def sync(number: int) -> None:
        for turn in range(8):
            rows = [{"externalId": f"{place}", "price": f"{number}{turn}.00"} for place in range(len(ids))]
            found = await service.ask(upsert, {"inputs": rows[:: 1 if turn % 2 else -1]}, token=token)
            assert sum(found["upsertItems"].values()) == len(ids)

    await asyncio.gather(*(buy(number) for number in range(6)), correct(0), correct(1), sync(1), sync(2))
    await service.background_done()
    async with service.database.reading() as session:
        events = (await session.scalars(select(Event).where(Event.kind.in_(["item.adjusted", "item.purchased"])).order_by(Event.id))).all()
    for id_ in ids:
        left = start
        for event in events:
            if global_id("Item", event.subject_id) == id_:
                left += event.data.get("delta", 0) - event.data.get("quantity", 0)
                assert left >= 0
        assert (await service.ask(STOCK, {"id": id_}))["item"]["inventory"] == left
