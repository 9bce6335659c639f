"""The catalogue: creating, changing and deleting items, and refusing what is out of bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id, row_id
from persistence.audit import AuditEntry
from persistence.items import single_statement
from persistence.items import table as items
from persistence.kit import conditional_update
from persistence.kit.events.log import Event
from persistence.kit.idempotency import IdempotencyKey
from tests.support.service import Service

Statements = Callable[[], AbstractContextManager[list[str]]]

CREATE = """
mutation Create($input: CreateItemInput!, $key: String) {
  createItem(input: $input, idempotencyKey: $key) {
    __typename
    ... on Item { id name description price tags inventory inStock version owner { username } }
    ... on InvalidInput { code path problems { path message } }
    ... on IdempotencyKeyReused { code }
  }
}
"""
UPDATE = """
mutation Update($id: ID!, $input: UpdateItemInput!, $version: Int) {
  updateItem(id: $id, input: $input, expectedVersion: $version) {
    __typename
    ... on Item { name description price tags inventory version }
    ... on InvalidInput { problems { path message } }
    ... on VersionConflict { code currentVersion }
    ... on NotFound { code }
  }
}
"""
CHANGE = """
mutation Change($id: ID!, $input: UpdateItemInput!, $key: String) {
  updateItem(id: $id, input: $input, idempotencyKey: $key) { ... on Item { name description price tags inventory inStock version } }
}
"""
PURCHASE = "mutation ($id: ID!) { purchaseItem(itemId: $id) { ... on Purchase { id } } }"
RENAME = 'mutation ($id: ID!) { updateItem(id: $id, input: {name: "Renamed"}) { ... on Item { id } } }'
DELETE = "mutation ($id: ID!, $version: Int) { deleteItem(id: $id, expectedVersion: $version) { __typename ... on DeletedItem { id } } }"
BULK = """
mutation Bulk($inputs: [CreateItemInput!]!, $policy: BulkErrorPolicy! = REJECT_ALL, $dry: Boolean! = false) {
  bulkCreateItems(inputs: $inputs, onError: $policy, dryRun: $dry) {
    __typename
    ... on BulkCreateItems { created results { __typename ... on Item { name } ... on Error { code } ... on InvalidInput { path } } }
    ... on InvalidInput { path }
  }
}
"""
GOOD = {"name": "Kettle", "price": "19.90"}


async def make_item(service: Service, **values: Any) -> str:
    """The global id of a new item."""
    created = await service.ask(CREATE, {"input": GOOD | values}, token=await service.sign_in(username="maker"))
    return created["createItem"]["id"]


async def count(service: Service) -> int:
    async with service.database.reading() as session:
        return await items.count(session)


async def test_creates_an_item_and_finds_it_again(service: Service) -> None:
    token = await service.sign_in()
    created = await service.ask(CREATE, {"input": {"name": "Kettle", "price": "19.9", "tags": ["kitchen"]}}, token=token)
    expected = {
        "__typename": "Item",
        "id": created["createItem"]["id"],
        "name": "Kettle",
        "description": None,
        "price": "19.90",
        "tags": ["kitchen"],
        "inventory": 0,
        "inStock": False,
        "version": 1,
        "owner": {"username": "ada"},
    }
    assert created["createItem"] == expected
    found = await service.ask("query ($id: ID!) { item(id: $id) { name price } }", {"id": expected["id"]})
    assert found["item"] == {"name": "Kettle", "price": "19.90"}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"name": ""}, ["name"]),
        ({"name": " "}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"name": "x" * 200_000}, ["name"]),
        ({"name": "a\0b"}, ["name"]),
        ({"name": "two\nlines"}, ["name"]),
        ({"description": "x" * 10_001}, ["description"]),
        ({"price": "-0.01"}, ["price"]),
        ({"price": "1.999"}, ["price"]),
        ({"price": "10000000000.00"}, ["price"]),
        ({"price": "9" * 40}, ["price"]),
        ({"inventory": -1}, ["inventory"]),
        ({"tags": ["a", "a"]}, ["tags", "1"]),
        ({"tags": [""]}, ["tags", "0"]),
        ({"tags": [str(number) for number in range(21)]}, ["tags"]),
    ],
)
async def test_refuses_a_value_out_of_bounds_and_creates_nothing(service: Service, values: dict[str, Any], path: list[str]) -> None:
    answer = await service.ask(CREATE, {"input": GOOD | values}, token=await service.sign_in())
    assert answer["createItem"]["__typename"] == "InvalidInput"
    assert [problem["path"] for problem in answer["createItem"]["problems"]] == [path]
    assert await count(service) == 0


@pytest.mark.parametrize("price", ["NaN", "Infinity", "", "abc", True, [], "9" * 60])
async def test_refuses_what_is_no_decimal_number(service: Service, price: Any) -> None:
    assert await service.refused(CREATE, {"input": GOOD | {"price": price}}, token=await service.sign_in()) == "BAD_USER_INPUT"
    assert await count(service) == 0


async def test_refuses_half_a_surrogate_pair(service: Service) -> None:
    body = '{"query": "mutation { createItem(input: {name: \\"\\\\ud800\\", price: 1}) { __typename } }"}'
    headers = {"Authorization": f"Bearer {await service.sign_in()}", "Content-Type": "application/json"}
    answer = await service.http.post("/graphql", content=body, headers=headers)
    assert answer.status_code < 500
    assert await count(service) == 0


async def test_tells_of_all_problems_at_once(service: Service) -> None:
    answer = await service.ask(CREATE, {"input": {"name": "", "price": "-1", "inventory": -1}}, token=await service.sign_in())
    assert [problem["path"] for problem in answer["createItem"]["problems"]] == [["name"], ["price"], ["inventory"]]


@pytest.mark.parametrize(("scopes", "code"), [(None, "UNAUTHENTICATED"), ((Scope.ITEMS_READ,), "FORBIDDEN")])
async def test_needs_the_scope_to_write(service: Service, scopes: tuple[Scope, ...] | None, code: str) -> None:
    token = await service.sign_in(*scopes) if scopes else None
    assert await service.refused(CREATE, {"input": GOOD}, token=token) == code
    assert await count(service) == 0


async def test_changes_what_is_given_and_keeps_what_is_absent(service: Service) -> None:
    id_ = await make_item(service, description="for tea", tags=["kitchen"])
    token = await service.sign_in()
    changed = await service.ask(UPDATE, {"id": id_, "input": {"price": "5"}}, token=token)
    assert changed["updateItem"] == {
        "__typename": "Item",
        "name": "Kettle",
        "description": "for tea",
        "price": "5.00",
        "tags": ["kitchen"],
        "inventory": 0,
        "version": 2,
    }
    emptied = await service.ask(UPDATE, {"id": id_, "input": {"description": None}}, token=token)
    assert (emptied["updateItem"]["description"], emptied["updateItem"]["version"]) == (None, 3)


async def test_leaves_the_same_whichever_way_it_takes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement where the database has such, or a transaction that locks the row."""
    token, left = await service.sign_in(), list[Any]()
    values = {"name": "Teapot", "description": "for tea", "price": "5", "tags": ["b", "a"], "inventory": 3}
    for number, way in enumerate([single_statement.change, the_long_way]):
        monkeypatch.setattr(single_statement, "change", way)
        id_ = await service.make_item()
        answer = await service.ask(CHANGE, {"id": id_, "input": values, "key": f"key {number}"}, token=token)
        left.append((answer, *await traces(service, id_, f"key {number}")))
    assert left[0] == left[1]
    assert left[0][0]["updateItem"] == values | {"price": "5.00", "version": 2, "inStock": True}
    assert left[0][2] == {"fields": ["name", "price", "description", "tags", "inventory"]}


async def the_long_way(*_: object, **__: object) -> None:
    """There is no other."""


async def traces(service: Service, id_: str, key: str) -> tuple[Any, ...]:
    """What a change leaves, but for ids and instants."""
    item_id = row_id("Item", id_)
    async with service.database.reading_latest() as session:
        item = await session.get_one(items.Item, item_id)
        told = await session.scalar(select(Event.data).where(Event.subject_id == item_id, Event.kind == "item.updated"))
        entry = (
            await session.scalars(select(AuditEntry).where(AuditEntry.subject_id == item_id, AuditEntry.action == "item.updated"))
        ).one()
        stored = (await session.scalars(select(IdempotencyKey).where(IdempotencyKey.key == key))).one()
        assert stored.answer.pop("updated_at") == item.updated_at.isoformat() > stored.answer.pop("created_at")
        assert stored.answer.pop("id") == item_id
        return item.search_words, told, entry.actor_id, entry.subject_kind, entry.detail, stored.answer, stored.caller


async def test_changes_an_item_by_one_statement_after_a_look(service: Service, statements: Statements) -> None:
    id_, token = await make_item(service), await service.sign_in()
    await service.ask(UPDATE, {"id": id_, "input": {"price": "4"}}, token=token)
    with statements() as sent:
        await service.ask(UPDATE, {"id": id_, "input": {"price": "5"}}, token=token)
    if service.database.dialect == "postgresql":
        assert [statement.split()[0] for statement in sent] == ["SELECT", "WITH"]


async def test_keeps_what_others_did_between_its_look_and_its_change(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    if service.database.dialect == "sqlite":
        return  # Its one writer looks and changes in one transaction.
    id_, token = await make_item(service, inventory=5), await service.sign_in()
    look, meanwhile = conditional_update.find, [PURCHASE, RENAME]

    async def find(*arguments: Any) -> Any:
        found = await look(*arguments)
        if meanwhile:
            await service.ask(meanwhile.pop(0), {"id": id_}, token=token)
        return found

    monkeypatch.setattr(conditional_update, "find", find)
    for number, inventory in ((1, 4), (2, 7)):
        given = {"description": f"text {number}"} | ({"inventory": inventory} if number == 2 else {})
        changed = await service.ask(UPDATE, {"id": id_, "input": given}, token=token)
        assert (changed["updateItem"]["description"], changed["updateItem"]["inventory"]) == (f"text {number}", inventory)
    assert (meanwhile, changed["updateItem"]["name"], changed["updateItem"]["version"]) == ([], "Renamed", 4)


async def test_keeps_the_version_when_nothing_changes(service: Service) -> None:
    id_ = await make_item(service)
    same = await service.ask(UPDATE, {"id": id_, "input": {"name": "Kettle", "price": "19.9"}}, token=await service.sign_in())
    assert same["updateItem"]["version"] == 1


async def test_refuses_null_where_a_value_must_stay(service: Service) -> None:
    id_ = await make_item(service)
    answer = await service.ask(UPDATE, {"id": id_, "input": {"name": None, "price": None}}, token=await service.sign_in())
    assert [problem["path"] for problem in answer["updateItem"]["problems"]] == [["name"], ["price"]]


async def test_refuses_a_change_to_a_version_that_is_gone(service: Service) -> None:
    id_, token = await make_item(service), await service.sign_in()
    await service.ask(UPDATE, {"id": id_, "input": {"price": "1"}, "version": 1}, token=token)
    answer = await service.ask(UPDATE, {"id": id_, "input": {"price": "2"}, "version": 1}, token=token)
    assert answer["updateItem"] == {"__typename": "VersionConflict", "code": "VERSION_CONFLICT", "currentVersion": 2}
    assert (await service.ask("query ($id: ID!) { item(id: $id) { price } }", {"id": id_}))["item"] == {"price": "1.00"}


async def test_lets_one_of_two_racing_changes_win(service: Service) -> None:
    id_, token = await make_item(service), await service.sign_in()
    answers = await asyncio.gather(
        *(service.ask(UPDATE, {"id": id_, "input": {"inventory": number}, "version": 1}, token=token) for number in (1, 2))
    )
    assert sorted(answer["updateItem"]["__typename"] for answer in answers) == ["Item", "VersionConflict"]


@pytest.mark.parametrize("id_", ["garbage", "", global_id("Item", 999_999), global_id("User", 1), "x" * 10_000, "SXRlbTow", "SXRlbTotMQ=="])
async def test_finds_nothing_under_an_id_that_is_none_of_its_own(service: Service, id_: str) -> None:
    assert await service.ask("query ($id: ID!) { item(id: $id) { id } }", {"id": id_}) == {"item": None}
    answer = await service.ask(UPDATE, {"id": id_, "input": {"price": "1"}}, token=await service.sign_in())
    assert answer["updateItem"] == {"__typename": "NotFound", "code": "NOT_FOUND"}


async def test_takes_a_deleted_item_out_of_every_list(service: Service) -> None:
    id_, token = await make_item(service), await service.sign_in()
    assert (await service.ask(DELETE, {"id": id_, "version": 9}, token=token))["deleteItem"] == {"__typename": "VersionConflict"}
    assert (await service.ask(DELETE, {"id": id_}, token=token))["deleteItem"] == {"__typename": "DeletedItem", "id": id_}
    assert (await service.ask(DELETE, {"id": id_}, token=token))["deleteItem"] == {"__typename": "NotFound"}
    seen = await service.ask(
        "query ($id: ID!) { item(id: $id) { id } node(id: $id) { id } items { totalCount nodes { id } } }", {"id": id_}
    )
    assert seen == {"item": None, "node": None, "items": {"totalCount": 0, "nodes": []}}


async def test_finds_an_item_among_nodes(service: Service) -> None:
    id_ = await make_item(service)
    found = await service.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Item { name } } }", {"ids": [id_, "nothing", id_]})
    assert found["nodes"] == [{"id": id_, "name": "Kettle"}, None, {"id": id_, "name": "Kettle"}]


async def test_rejects_a_whole_bulk_for_one_bad_row(service: Service) -> None:
    answer = await service.ask(BULK, {"inputs": [GOOD, GOOD | {"price": "-1"}]}, token=await service.sign_in())
    assert answer["bulkCreateItems"] == {
        "__typename": "BulkCreateItems",
        "created": 0,
        "results": [
            {"__typename": "NotCreated", "code": "NOT_CREATED"},
            {"__typename": "InvalidInput", "code": "INVALID_INPUT", "path": ["inputs", "1", "price"]},
        ],
    }
    assert await count(service) == 0


async def test_skips_bad_rows_when_asked_to(service: Service) -> None:
    inputs = [GOOD, GOOD | {"name": ""}, GOOD | {"name": "Pot"}]
    answer = await service.ask(BULK, {"inputs": inputs, "policy": "SKIP_INVALID"}, token=await service.sign_in())
    assert answer["bulkCreateItems"]["created"] == 2
    assert [result.get("name") for result in answer["bulkCreateItems"]["results"]] == ["Kettle", None, "Pot"]
    assert await count(service) == 2


async def test_creates_nothing_in_a_dry_run(service: Service) -> None:
    answer = await service.ask(BULK, {"inputs": [GOOD, GOOD], "dry": True}, token=await service.sign_in())
    assert answer["bulkCreateItems"]["created"] == 0
    assert await count(service) == 0


async def test_creates_ten_thousand_rows_in_order(service: Service) -> None:
    inputs = [{"name": f"Item {number}", "price": "1"} for number in range(10_000)]
    answer = await service.ask(BULK, {"inputs": inputs}, token=await service.sign_in())
    assert answer["bulkCreateItems"]["created"] == 10_000
    assert [result["name"] for result in answer["bulkCreateItems"]["results"]] == [row["name"] for row in inputs]
    assert await count(service) == 10_000


@pytest.mark.parametrize("rows", [0, 10_001])
async def test_refuses_a_bulk_of_the_wrong_size(service: Service, rows: int) -> None:
    answer = await service.ask(BULK, {"inputs": [{"name": "a", "price": 1}] * rows}, token=await service.sign_in())
    assert answer["bulkCreateItems"] == {"__typename": "InvalidInput", "path": ["inputs"]}
