"""upsertItems …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from persistence.audit import AuditEntry
from persistence.items.table import Item
from persistence.kit.events.log import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.service import Service

UPSERT = """
mutation ($inputs: [UpsertItemInput!]!, $policy: BulkErrorPolicy! = REJECT_ALL, $dry: Boolean! = false, $key: String) {
  upsertItems(inputs: $inputs, onError: $policy, dryRun: $dry, idempotencyKey: $key) {
    __typename
    ... on UpsertItems {
      created updated unchanged
      results {
        __typename
        ... on UpsertedItem { outcome fields item { externalId name description price tags inventory version } }
        ... on InvalidInput { problems { path message } }
        ... on NotCreated { message }
      }
    }
    ... on InvalidInput { problems { path message } }
    ... on IdempotencyKeyReused { code }
  }
}
"""
KETTLE = {"externalId": "K", "name": "Kettle", "price": "1.00", "tags": ["a"], "inventory": 3}
PAN = {"externalId": "P", "name": "Pan", "price": "2.00", "description": "Flat."}


async def upsert(service: Service, token: str, *inputs: dict[str, Any], **variables: Any) -> Any:
    return (await service.ask(UPSERT, {"inputs": list(inputs), **variables}, token=token))["upsertItems"]


def outcomes(answer: Any) -> list[Any]:
    return [row.get("outcome") or row.get("problems", [row])[0].get("path") or row["__typename"] for row in answer["results"]]


async def everything(service: Service) -> Any:
    """What a row that changes nothing must leave as it is."""
    async with service.database.reading() as session:
        items = (await session.execute(select(Item.__table__).order_by(Item.id))).all()
        return items, (await session.scalars(select(Event.id))).all(), (await session.scalars(select(AuditEntry.id))).all()


async def test_creates_changes_and_leaves_alone(service: Service) -> None:
    token = await service.sign_in()
    first = await upsert(service, token, KETTLE, PAN)
    assert (first["created"], first["updated"], first["unchanged"]) == (2, 0, 0)
    assert first["results"][0]["item"] == KETTLE | {"description": None, "version": 1}
    again = await upsert(
        service, token, PAN | {"price": "2"}, {"externalId": "K", "price": "1.50", "tags": [" a ", "b"]}, PAN | {"externalId": "Q"}
    )
    assert (again["created"], again["updated"], again["unchanged"]) == (1, 1, 1)
    assert outcomes(again) == ["UNCHANGED", "UPDATED", "CREATED"]
    assert again["results"][1] == {
        "__typename": "UpsertedItem",
        "outcome": "UPDATED",
        "fields": ["price", "tags"],
        "item": KETTLE | {"price": "1.50", "tags": ["a", "b"], "description": None, "version": 2},
    }
    async with service.database.reading() as session:
        events = [(event.kind, event.data) for event in await session.scalars(select(Event).order_by(Event.id))]
        audited = [(entry.action, entry.detail) for entry in await session.scalars(select(AuditEntry).order_by(AuditEntry.id))]
    assert sorted(events, key=str) == [("item.created", {})] * 3 + [("item.updated", {"fields": ["price", "tags"]})]
    assert audited == [("items.upserted", {"created": 2}), ("items.upserted", {"created": 1, "updated": 1})]


async def test_writes_nothing_where_nothing_changes(service: Service, statements: Callable[[], AbstractContextManager[list[str]]]) -> None:
    token = await service.sign_in()
    await upsert(service, token, KETTLE, PAN)
    before = await everything(service)
    with statements() as sent:
        again = await upsert(service, token, KETTLE, PAN)
    assert outcomes(again) == ["UNCHANGED"] * 2
    assert await everything(service) == before
    assert not [statement for statement in sent if statement.startswith(("INSERT", "UPDATE")) or "FOR" in statement.split()]


async def test_takes_as_many_statements_for_many_rows_as_for_a_few(
    service: Service, statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    token, counts = await service.sign_in(), list[int]()
    for size in (15, 300):
        rows = [PAN | {"externalId": f"{size}/{number}"} for number in range(size)]
        await upsert(service, token, *rows)
        with statements() as sent:
            await upsert(service, token, *(row | {"price": "3"} for row in rows), PAN | {"externalId": f"{size}"})
        counts.append(len(sent))
    assert counts[0] == counts[1] <= 20


async def test_finds_changed_words_and_tags_again(service: Service) -> None:
    token = await service.sign_in()
    await upsert(service, token, KETTLE, PAN)
    await upsert(service, token, {"externalId": "K", "name": "Samovar", "tags": ["tea"]}, {"externalId": "P", "description": "Round."})
    search = "query ($search: String, $filter: ItemFilter) { items(search: $search, filter: $filter) { nodes { name } } }"
    for variables, names in (
        ({"search": "samovar"}, ["Samovar"]),
        ({"search": "kettle"}, []),
        ({"search": "pan round"}, ["Pan"]),
        ({"search": "flat"}, []),
        ({"filter": {"tagsAny": ["tea"]}}, ["Samovar"]),
        ({"filter": {"tagsAny": ["a"]}}, []),
    ):
        assert [node["name"] for node in (await service.ask(search, variables))["items"]["nodes"]] == names


@pytest.mark.parametrize(
    ("row", "path", "message"),
    [
        ({"externalId": "K"}, ["inputs", "1", "externalId"], "is that of an earlier row, too"),
        ({"externalId": "new"}, ["inputs", "1", "name"], "must be given: no item has this external id yet"),
        ({"externalId": "gone"}, ["inputs", "1", "name"], "must be given: no item has this external id yet"),
        ({"externalId": "P", "price": "-1"}, ["inputs", "1", "price"], "must be between 0 and 9999999999.99"),
        ({"externalId": "P", "name": None}, ["inputs", "1", "name"], "must not be null: leave it out to keep the present value"),
        ({"externalId": "P", "tags": ["a", " a"]}, ["inputs", "1", "tags", "1"], "must not hold 'a' twice"),
        ({"externalId": " "}, ["inputs", "1", "externalId"], "must not be blank"),
        ({"externalId": "P", "inventory": -1}, ["inputs", "1", "inventory"], "must be between 0 and 2147483647"),
    ],
)
async def test_refuses_a_row_by_its_place(service: Service, row: dict[str, Any], path: list[str], message: str) -> None:
    token = await service.sign_in()
    await upsert(service, token, KETTLE, PAN, PAN | {"externalId": "gone"})
    gone = (await service.ask('{ itemByExternalId(externalId: "gone") { id } }'))["itemByExternalId"]["id"]
    await service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": gone}, token=token)
    before = await everything(service)
    changed = KETTLE | {"price": "9"}
    rejected = await upsert(service, token, changed, row)
    assert rejected["results"][1]["problems"][0] == {"path": path, "message": message}
    assert rejected["results"][0] == {"__typename": "NotCreated", "message": "Good, but another row was bad and onError is REJECT_ALL."}
    assert (rejected["created"], rejected["updated"], rejected["unchanged"]) == (0, 0, 0)
    assert await everything(service) == before
    skipped = await upsert(service, token, changed, row, policy="SKIP_INVALID")
    assert outcomes(skipped) == ["UPDATED", path]
    assert (skipped["created"], skipped["updated"], skipped["unchanged"]) == (0, 1, 0)


async def test_creates_anew_what_was_deleted(service: Service) -> None:
    token = await service.sign_in()
    await upsert(service, token, KETTLE)
    old = (await service.ask('{ itemByExternalId(externalId: "K") { id } }'))["itemByExternalId"]["id"]
    await service.ask("mutation ($id: ID!) { deleteItem(id: $id) { __typename } }", {"id": old}, token=token)
    assert outcomes(await upsert(service, token, KETTLE)) == ["CREATED"]
    assert (await service.ask('{ itemByExternalId(externalId: "K") { id } }'))["itemByExternalId"]["id"] != old


async def test_does_nothing_in_a_dry_run(service: Service) -> None:
    token = await service.sign_in()
    await upsert(service, token, KETTLE, PAN)
    before = await everything(service)
    planned = await upsert(
        service, token, KETTLE, {"externalId": "P", "price": "9"}, KETTLE | {"externalId": "Q"}, {"externalId": "R"}, dry=True
    )
    assert [row.get("message") for row in planned["results"]] == [
        "Good: it would change nothing.",
        "Good: it would change price, but this was a dry run.",
        "Good: it would create an item, but this was a dry run.",
        None,
    ]
    assert outcomes(planned)[3] == ["inputs", "3", "name"]
    assert (planned["created"], planned["updated"], planned["unchanged"]) == (0, 0, 0)
    assert await everything(service) == before


async def test_answers_a_repeat_as_it_answered_first(service: Service) -> None:
    token = await service.sign_in()
    await upsert(service, token, KETTLE)
    rows = [KETTLE, PAN, {"externalId": "new"}]
    first = await upsert(service, token, *rows, key="1", policy="SKIP_INVALID")
    assert outcomes(first) == ["UNCHANGED", "CREATED", ["inputs", "2", "name"]]
    before = await everything(service)
    assert await upsert(service, token, *rows, key="1", policy="SKIP_INVALID") == first
    assert await everything(service) == before
    assert (await upsert(service, token, KETTLE, key="1"))["__typename"] == "IdempotencyKeyReused"


@pytest.mark.parametrize("rows", [0, 10_001])
async def test_refuses_a_call_of_the_wrong_size(service: Service, rows: int) -> None:
    answer = await upsert(service, await service.sign_in(), *[KETTLE] * rows)
    assert answer["problems"] == [{"path": ["inputs"], "message": f"must be 1 to 10000 rows, not {rows}"}]


@pytest.mark.parametrize(("scopes", "code"), [(None, "UNAUTHENTICATED"), ((Scope.ITEMS_READ,), "FORBIDDEN")])
async def test_needs_the_scope(service: Service, scopes: tuple[Scope, ...] | None, code: str) -> None:
    token = await service.sign_in(*scopes) if scopes else None
    assert await service.refused(UPSERT, {"inputs": [KETTLE]}, token=token) == code
    assert await service.count("items") == [0]


async def test_side_by_side_end_as_one_after_the_other(service: Service) -> None:
    """The same rows in different orders, new and old: nobody waits in a circle, and each external id has one item."""
    token = await service.sign_in()
    rows = [KETTLE | {"externalId": f"{number:03}"} for number in range(60)]
    await upsert(service, token, *rows[:30])
    calls = [
        upsert(service, token, *[row | {"price": f"{number}.00"} for row in rows[:: 1 if number % 2 else -1]]) for number in range(1, 9)
    ]
    answers = await asyncio.gather(*calls)
    assert {answer["created"] + answer["updated"] + answer["unchanged"] for answer in answers} == {60}
    assert sum(answer["created"] for answer in answers) == 30
    async with service.database.reading() as session:
        found = (await session.execute(select(Item.external_id, Item.price))).all()
    assert sorted(str(external_id) for external_id, _ in found) == [row["externalId"] for row in rows]
    assert len({price for _, price in found}) == 1
