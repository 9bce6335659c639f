"""A mutation under an idempotency key …"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from sqlalchemy import insert, select, update

from persistence.kit import idempotency
from persistence.kit.column_types import utc_now
from persistence.kit.idempotency import IdempotencyKey
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.servers.processes import serving
from tests.support.service import Service, running

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("items", "users", "purchases", "events", "audit_entries", "stored_files")
ERRORS = "... on Error { code } ... on InvalidInput { problems { path } }"
CREATE = f"""mutation ($name: String!, $key: String) {{ createItem(input: {{name: $name, price: "1.50"}}, idempotencyKey: $key) {{
  __typename {ERRORS} ... on Item {{ id name price version createdAt }} }} }}"""
UPDATE = f"""mutation ($item: ID!, $name: String!, $key: String) {{ updateItem(id: $item, input: {{name: $name}}, idempotencyKey: $key) {{
  __typename {ERRORS} ... on Item {{ id name version updatedAt }} }} }}"""
DELETE = f"""mutation ($item: ID!, $version: Int, $key: String) {{ deleteItem(id: $item, expectedVersion: $version, idempotencyKey: $key) {{
  __typename {ERRORS} ... on DeletedItem {{ id }} }} }}"""
PURCHASE = f"""mutation ($item: ID!, $quantity: Int! = 1, $key: String) {{ purchaseItem(itemId: $item, quantity: $quantity, idempotencyKey: $key) {{
  __typename {ERRORS} ... on Purchase {{ id quantity total status createdAt }} }} }}"""
BULK = f"""mutation ($inputs: [CreateItemInput!]!, $key: String) {{ bulkCreateItems(inputs: $inputs, onError: SKIP_INVALID, idempotencyKey: $key) {{
  __typename {ERRORS} ... on BulkCreateItems {{ created results {{ __typename ... on InvalidInput {{ message }}
  ... on Item {{ id name price tags inventory version createdAt updatedAt owner {{ username }} }} }} }} }} }}"""
SIGNUP = f"""mutation ($name: String!, $key: String) {{ signup(input: {{username: $name, password: "correct horse"}}, idempotencyKey: $key) {{
  __typename {ERRORS} ... on User {{ id username scopes createdAt }} }} }}"""
GRANT = f"""mutation ($scopes: [Scope!]!, $key: String) {{ grantScopes(username: "bob", scopes: $scopes, idempotencyKey: $key) {{
  __typename {ERRORS} ... on User {{ id scopes }} }} }}"""
REVOKE = GRANT.replace("grantScopes", "revokeScopes")
DEACTIVATE = f"""mutation ($key: String, $name: String! = "bob") {{ deactivateUser(username: $name, idempotencyKey: $key) {{
  __typename {ERRORS} ... on User {{ id isActive }} }} }}"""
REACTIVATE = DEACTIVATE.replace("deactivateUser", "reactivateUser")

# What is sent under a key, and what is sent under the same key by mistake.
MUTATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "createItem": (CREATE, {"name": "Pan"}, {"name": "Pot"}),
    "updateItem": (UPDATE, {"name": "Pan"}, {"name": "Pot"}),
    "deleteItem": (DELETE, {}, {"version": 1}),
    "purchaseItem": (PURCHASE, {"quantity": 2}, {"quantity": 3}),
    "bulkCreateItems": (
        BULK,
        {"inputs": [{"name": "Pan", "price": "1"}, {"name": "", "price": "1"}]},
        {"inputs": [{"name": "Pot", "price": "1"}]},
    ),
    "signup": (SIGNUP, {"name": "carol"}, {"name": "carla"}),
    "grantScopes": (GRANT, {"scopes": ["FILES_READ"]}, {"scopes": ["FILES_WRITE"]}),
    "revokeScopes": (REVOKE, {"scopes": ["ITEMS_READ"]}, {"scopes": ["ITEMS_WRITE"]}),
    "deactivateUser": (DEACTIVATE, {}, {"name": "ada"}),
    "reactivateUser": (REACTIVATE, {}, {"name": "ada"}),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
async def test_has_its_effect_once_and_its_answer_every_time(service: Service, mutation: str) -> None:
    document, variables, others = MUTATIONS[mutation]
    token, item = await service.sign_in(), await service.make_item(inventory=10)
    await service.sign_in(username="bob")
    given = ({"item": item} if "$item" in document else {}) | {"key": "one"}
    first = await service.send(document, variables | given, token=token)
    await service.background_done()
    before = await service.count(*TABLES)
    again = await service.send(document, variables | given, token=token)
    mistaken = await service.send(document, others | given, token=token)

    assert "errors" not in first.json(), first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert first.json()["data"][mutation]["__typename"] not in {"InvalidInput", "NotFound"}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json() | {"extensions": {"idempotency": {"replayed": True}}}
    assert mistaken.json()["data"][mutation] == {"__typename": "IdempotencyKeyReused", "code": "IDEMPOTENCY_KEY_REUSED"}
    assert await service.count(*TABLES) == before


async def test_answers_as_it_did_although_the_row_has_changed_since(service: Service) -> None:
    token = await service.sign_in()
    first = await service.ask(CREATE, {"name": "Pan", "key": "one"}, token=token)
    await service.ask(UPDATE, {"item": first["createItem"]["id"], "name": "Pot"}, token=token)
    again = await service.ask(CREATE, {"name": "Pan", "key": "one"}, token=token)
    assert again == first


async def test_answers_a_bulk_again_in_full_and_keeps_next_to_nothing_for_it(service: Service) -> None:
    token = await service.sign_in()
    inputs = [{"name": "" if number % 100 == 7 else f"Pan {number}", "price": "1.5", "tags": ["kitchen"]} for number in range(500)]
    first = await service.ask(BULK, {"inputs": inputs, "key": "one"}, token=token)
    again = await service.ask(BULK, {"inputs": inputs, "key": "one"}, token=token)
    assert first["bulkCreateItems"]["created"] == 495
    assert again == first
    async with service.database.reading() as session:
        kept = (await session.scalars(select(IdempotencyKey.answer))).one()
    assert len(orjson.dumps(kept)) < 80


async def test_is_refused_with_a_key_out_of_bounds(service: Service) -> None:
    token = await service.sign_in()
    for key in ("", "k" * 256, "a\nb"):
        refused = await service.ask(CREATE, {"name": "Pan", "key": key}, token=token)
        assert refused["createItem"] == {"__typename": "InvalidInput", "code": "INVALID_INPUT", "problems": [{"path": ["idempotencyKey"]}]}
    assert await service.count("items", "idempotency_keys") == [0, 0]


async def test_is_nobody_elses(service: Service) -> None:
    ada, bob = await service.sign_in(), await service.sign_in(username="bob")
    first = await service.ask(CREATE, {"name": "Pan", "key": "one"}, token=ada)
    other = await service.ask(CREATE, {"name": "Pan", "key": "one"}, token=bob)
    assert first["createItem"]["id"] != other["createItem"]["id"]


async def test_may_be_repeated_after_a_refusal(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=1)
    refused = await service.ask(PURCHASE, {"item": item, "quantity": 2, "key": "one"}, token=token)
    assert refused["purchaseItem"] == {"__typename": "OutOfStock", "code": "OUT_OF_STOCK"}
    restock = "mutation ($id: ID!) { updateItem(id: $id, input: {inventory: 2}) { __typename } }"
    await service.ask(restock, {"id": item}, token=token)
    bought = await service.ask(PURCHASE, {"item": item, "quantity": 2, "key": "one"}, token=token)
    assert bought["purchaseItem"]["__typename"] == "Purchase"


async def test_is_forgotten_after_a_day(service: Service) -> None:
    token = await service.sign_in()
    for key in ("old", "young"):
        await service.ask(CREATE, {"name": key, "key": key}, token=token)
    async with service.database.transaction() as work:
        ago = utc_now() - timedelta(hours=24, seconds=1)
        await work.session.execute(update(IdempotencyKey).where(IdempotencyKey.key == "old").values(created_at=ago))
    async with service.database.transaction() as work:
        assert await idempotency.prune(work) == 1
    async with service.database.reading() as session:
        assert (await session.scalars(select(IdempotencyKey.key))).all() == ["young"]


async def test_is_forgotten_where_a_caller_has_too_many(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEYS", 3)
    monkeypatch.setattr(idempotency, "PRUNED_AT_ONCE", 4)
    began = utc_now()
    async with service.database.transaction() as work:
        for caller, count in (("user:1", 3), ("user:2", 10)):
            for number in range(count):
                row = {
                    "caller": caller,
                    "key": f"{number:02}",
                    "fingerprint": "",
                    "answer": None,
                    "created_at": began + timedelta(seconds=number),
                }
                await work.session.execute(insert(IdempotencyKey).values(row))
    removed = list[int]()
    while not removed or removed[-1]:
        async with service.database.transaction() as work:
            removed.append(await idempotency.prune(work))
    assert removed == [4, 3, 0]
    async with service.database.reading() as session:
        kept = select(IdempotencyKey.caller, IdempotencyKey.key).order_by(IdempotencyKey.caller, IdempotencyKey.key)
        assert [tuple(row) for row in await session.execute(kept)] == [
            *(("user:1", key) for key in ("00", "01", "02")),
            *(("user:2", key) for key in ("07", "08", "09")),
        ]


async def _keep(service: Service, minutes_ago: list[int], *, callers: tuple[str, ...], answers: tuple[str, ...] = ("",)) -> None:
    """Keys as old as that, of each caller and with each answer."""
    now = utc_now()
    rows = [
        {"caller": caller, "key": f"{answer} {ago}", "fingerprint": "", "answer": answer, "created_at": now - timedelta(minutes=ago)}
        for caller in callers
        for answer in answers
        for ago in minutes_ago
    ]
    async with service.database.transaction() as work:
        await work.session.execute(insert(IdempotencyKey), rows)


async def _kept(service: Service) -> list[tuple[str, str]]:
    async with service.database.reading() as session:
        kept = select(IdempotencyKey.caller, IdempotencyKey.key).order_by(IdempotencyKey.caller, IdempotencyKey.created_at)
        return [(caller, key) for caller, key in await session.execute(kept)]


async def test_is_forgotten_a_few_at_a_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "PRUNED_AT_ONCE", 2)
    await _keep(service, [5_000, 4_000, 3_000, 1], callers=("user:1",))
    for removed in (2, 1, 0):
        async with service.database.transaction() as work:
            assert await idempotency.prune(work) == removed
    assert await _kept(service) == [("user:1", " 1")]


async def test_is_forgotten_with_its_caller_and_no_other(service: Service) -> None:
    await _keep(service, [1, 2], callers=("user:1", "user:2"))
    async with service.database.transaction() as work:
        await idempotency.forget(work, "user:1")
    assert await _kept(service) == [("user:2", " 2"), ("user:2", " 1")]


async def test_is_forgotten_for_what_it_answered_however_old_it_is(service: Service) -> None:
    await _keep(service, [0, 59, 60, 90, 120, 1_000], callers=("user:1", "user:2"), answers=("ada", "bob"))
    await idempotency.forget_answers(service.database, IdempotencyKey.key.startswith("ada"))
    assert await _kept(service) == [(caller, f"bob {ago}") for caller in ("user:1", "user:2") for ago in (1_000, 120, 90, 60, 59, 0)]


async def test_is_forgotten_for_nothing_where_none_are_kept(service: Service) -> None:
    await idempotency.forget_answers(service.database, IdempotencyKey.key.startswith("ada"))
    assert await _kept(service) == []


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_sent_200_times_at_once_to_four_processes_happens_once(backend: str, tmp_path: Path) -> None:
    settings = await settings_for(backend, tmp_path, redis_url=databases.redis(), metrics_folder=tmp_path)
    async with running(settings) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=1_000)
        with serving(settings, tmp_path, "--workers", "4") as process:
            # Each on a connection of its own, so that all processes get some.
            apart = httpx.Limits(max_connections=200, max_keepalive_connections=0)
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=process.url, timeout=300, headers=headers, limits=apart) as http:
                answers = await asyncio.gather(*(_purchase(http, item) for _ in range(200)))
        assert len({orjson.dumps(answer["data"]) for answer in answers}) == 1
        assert answers[0]["data"]["purchaseItem"]["__typename"] == "Purchase"
        assert sum("extensions" not in answer for answer in answers) == 1
        assert await service.count("purchases", "idempotency_keys") == [1, 1]
        left = await service.ask("query ($id: ID!) { item(id: $id) { inventory } }", {"id": item})
        assert left == {"item": {"inventory": 999}}


async def _purchase(http: httpx.AsyncClient, item: str) -> dict[str, Any]:
    """Again while the service says that it has too much to do."""
    body = {"query": PURCHASE, "variables": {"item": item, "key": "one"}}
    while True:
        answer = (await http.post("/graphql", json=body)).json()
        if not any(error["extensions"]["code"] == "SERVICE_UNAVAILABLE" for error in answer.get("errors", ())):
            return answer
