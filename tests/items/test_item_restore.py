"""A deleted item that is restored …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id
from persistence.audit import AuditEntry
from persistence.items.table import Item
from tests.items.test_item_mutations import DELETE, UPDATE
from tests.support.clients.websocket_subscriber import listening

if TYPE_CHECKING:
    from tests.support.service import Service

RESTORE = """
mutation Restore($id: ID!, $key: String) {
  restoreItem(id: $id, idempotencyKey: $key) {
    __typename
    ... on Item { id name tags inventory version owner { username } }
    ... on Error { code message }
  }
}
"""
EVENTS = "subscription { itemEvents { __typename ... on ItemChange { itemId item { name version } } } }"
FOUND = """
query Found($id: ID!) {
  item(id: $id) { name }
  node(id: $id) { id }
  searched: items(search: "singing kett") { nodes { id } totalCount }
  tagged: items(filter: { tagsAny: ["kitchen"] }) { nodes { id } }
  listed: items { nodes { id } totalCount }
  me { items { nodes { id } totalCount } }
}
"""
NOT_FOUND = {"__typename": "NotFound", "code": "NOT_FOUND", "message": "There is no such deleted item."}


async def make(service: Service, token: str) -> str:
    draft = '{ name: "Kettle", description: "Singing.", price: "9.50", tags: ["kitchen"], inventory: 4 }'
    return (await service.ask(f"mutation {{ createItem(input: {draft}) {{ ... on Item {{ id }} }} }}", token=token))["createItem"]["id"]


async def restore(service: Service, id_: str, token: str, key: str | None = None) -> dict[str, Any]:
    return (await service.ask(RESTORE, {"id": id_, "key": key}, token=token))["restoreItem"]


async def rows(service: Service) -> list[Any]:
    async with service.database.reading() as session:
        return [(await session.execute(select(table.__table__))).all() for table in (Item, AuditEntry)]


async def test_is_found_in_every_way_again(service: Service) -> None:
    token = await service.sign_in()
    id_ = await make(service, token)
    found = await service.ask(FOUND, {"id": id_}, token=token)
    assert (found["searched"], found["tagged"], found["item"]) == (
        {"nodes": [{"id": id_}], "totalCount": 1},
        {"nodes": [{"id": id_}]},
        {"name": "Kettle"},
    )
    await service.ask(DELETE, {"id": id_}, token=token)
    gone = await service.ask(FOUND, {"id": id_}, token=token)
    assert (gone["item"], gone["node"], gone["tagged"]["nodes"], gone["searched"]["totalCount"]) == (None, None, [], 0)
    seen = {"id": id_, "name": "Kettle", "tags": ["kitchen"], "inventory": 4, "version": 3, "owner": {"username": "ada"}}
    assert await restore(service, id_, token) == {"__typename": "Item", **seen}
    assert await service.ask(FOUND, {"id": id_}, token=token) == found
    answer = await service.ask(UPDATE, {"id": id_, "input": {"name": "Pot"}, "version": 3}, token=token)
    assert (answer["updateItem"]["name"], answer["updateItem"]["version"]) == ("Pot", 4)
    searched = '{ items(search: "kettle") { totalCount } pots: items(search: "pot") { totalCount } }'
    assert await service.ask(searched) == {"items": {"totalCount": 0}, "pots": {"totalCount": 1}}


async def test_is_announced_to_subscribers_and_audited(service: Service) -> None:
    token = await service.sign_in()
    async with listening(service, EVENTS) as listener:
        id_ = await make(service, token)
        assert (await listener.next())["__typename"] == "ItemCreated"
        await service.ask(DELETE, {"id": id_}, token=token)
        assert await listener.next() == {"__typename": "ItemDeleted", "itemId": id_, "item": None}
        await restore(service, id_, token)
        assert await listener.next() == {"__typename": "ItemRestored", "itemId": id_, "item": {"name": "Kettle", "version": 3}}
    entry = (await service.ask("{ auditLog(first: 1) { nodes { action subject actor { username } } } }", token=token))["auditLog"]
    assert entry["nodes"] == [{"action": "item.restored", "subject": id_, "actor": {"username": "ada"}}]


async def test_is_restored_once_under_a_key(service: Service) -> None:
    token = await service.sign_in()
    id_ = await make(service, token)
    await service.ask(DELETE, {"id": id_}, token=token)
    first = await restore(service, id_, token, "k")
    await service.ask(DELETE, {"id": id_}, token=token)
    assert await restore(service, id_, token, "k") == first
    assert (await service.ask("{ items { totalCount } }")) == {"items": {"totalCount": 0}}


async def test_must_have_been_deleted(service: Service) -> None:
    token = await service.sign_in()
    id_ = await make(service, token)
    reader = await service.sign_in(Scope.ITEMS_READ, username="reader")
    before = await rows(service)
    for of_nothing in (id_, global_id("Item", 10**9), global_id("User", 1), "nothing"):
        refused = await restore(service, of_nothing, token)
        assert (refused["__typename"], refused["code"]) == ("NotFound", "NOT_FOUND")
    assert await restore(service, id_, token) == NOT_FOUND
    assert await service.refused(RESTORE, {"id": id_}, token=reader) == "FORBIDDEN"
    assert await rows(service) == before


async def test_does_not_take_an_external_id_from_another_item(service: Service) -> None:
    token = await service.sign_in()
    create = 'mutation { createItem(input: { name: "Kettle", price: "1", externalId: "ERP-1" }) { ... on Item { id } } }'
    first = (await service.ask(create, token=token))["createItem"]["id"]
    await service.ask(DELETE, {"id": first}, token=token)
    second = (await service.ask(create, token=token))["createItem"]["id"]
    before = await rows(service)
    refused = await restore(service, first, token)
    assert (refused["__typename"], refused["code"]) == ("InvalidInput", "INVALID_INPUT")
    assert await rows(service) == before
    await service.ask(DELETE, {"id": second}, token=token)
    assert (await restore(service, first, token))["__typename"] == "Item"
    found = await service.ask('{ itemByExternalId(externalId: "ERP-1") { id } }')
    assert found == {"itemByExternalId": {"id": first}}
