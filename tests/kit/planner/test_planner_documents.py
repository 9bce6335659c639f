"""Documents made of the schema, and those of real clients, have the same answer from the planner and from the reference executor.

`./scripts/fuzz --examples N` makes more of them, other ones each time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from sqlalchemy import insert, select

from graph.kit.auth import Caller, Principal, Scope
from graph.kit.errors import Refused
from graph.kit.global_ids import global_id
from graph.schema import executable
from persistence import audit, files
from persistence.items import table as items
from persistence.kit.database.database import Base
from persistence.purchases import table as purchases
from scripts.benchmark import corpus
from tests.conftest import settings_for
from tests.support.fuzz.invariants import counted, fuzzed
from tests.support.planner.comparison import STRANGER, Ways, answer, in_order
from tests.support.planner.documents import Document, documents
from tests.support.service import running

NAME = re.compile(r"\{(\w+)\}")


def caller(user_id: int, name: str, *scopes: Scope) -> Caller:
    return Caller(Principal(user_id, name, frozenset(scopes), datetime.now(UTC) + timedelta(hours=1), "token"), "127.0.0.1", "test")


FROM = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
READING = ContextVar[list[str]]("READING")


def note(statement: str) -> Callable[[], None]:
    if (sent := READING.get(None)) is not None:
        sent.append(statement)
    return lambda: None


class Shop(Ways):
    viewers: dict[str, Caller]

    def fill(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.fill(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return NAME.sub(lambda found: self.names.get(found[1], found[0]), value) if isinstance(value, str) else value


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Shop]:
    async with running(await settings_for(request.param, tmp_path_factory.mktemp("planner"))) as service:
        ada = await service.make_user("ada", email="ada@example.com", full_name="Ada “Countess” Lovelace")
        bob = await service.make_user("bob", (Scope.ITEMS_READ,), email="bob@example.com")
        async with service.database.transaction() as work:
            drafts = [
                items.ItemValues("Motörhead", Decimal("4.99"), 'Quotes " and \\ and\nlines', ("rock", "loud"), 30),
                items.ItemValues("Moth", Decimal("0.1"), None, (), 0),
                items.ItemValues("安い", Decimal("9999999999.99"), "", ("ro,ck",), 2**31 - 1),
                items.ItemValues("zebra", Decimal(5), "\u2028 \U0001f600", ("rock",), 1),
                items.ItemValues("deleted", Decimal(1)),
            ]
            owners = (None, ada.id, ada.id, bob.id, ada.id)
            rows = [await items.create(work, draft, owner_id=owner) for draft, owner in zip(drafts, owners, strict=True)]
            for buyer, quantity in ((ada, 1), (bob, 2), (ada, 3), (bob, 2_000_000)):
                await purchases.purchase(work, rows[2 if quantity > 9 else 0].id, buyer_id=buyer.id, quantity=quantity)
            await items.delete(work, rows[-1].id)
            details: dict[str, Any] = {"b": [1, 2.5, None, {"ü": "\u2028"}], "a": "x"}
            await audit.write(work, "test", actor_id=ada.id, subject=("Item", rows[0].id), detail=details)
            await audit.write(work, "other", actor_id=None)
            file = {"filename": "a b/ü?.txt", "content_type": "text/plain", "sha256": "0" * 64, "uploaded_at": datetime.now(UTC)}
            sizes = ((1, ada.id), (2**53 - 1, None), (2**53, bob.id))
            every = [{**file, "filename": f"{n}{file['filename']}", "blob_key": str(n), "size_bytes": n, "owner_id": o} for n, o in sizes]
            await work.session.execute(insert(files.StoredFile), every)
        await service.background_done()
        service.database.watch(note)
        shop = Shop(service)
        async with service.database.reading() as session:
            bought = {row.buyer_id: row.id for row in await session.scalars(select(purchases.Purchase))}
            entry, stored = [await session.scalar(select(model.id)) for model in (audit.AuditEntry, files.StoredFile)]
        page = await service.ask("{ items(first: 1) { pageInfo { endCursor } nodes { id } } }")
        of_ada = "query ($id: ID!) { node(id: $id) { ... on User { items(first: 1) { pageInfo { endCursor } } } } }"
        adas = await service.ask(of_ada, {"id": global_id("User", ada.id)})
        shop.names = {
            "item": global_id("Item", rows[0].id),
            "other": global_id("Item", rows[1].id),
            "deleted": global_id("Item", rows[-1].id),
            "ada": global_id("User", ada.id),
            "bob": global_id("User", bob.id),
            "purchase": global_id("Purchase", bought[ada.id]),
            "bobs": global_id("Purchase", bought[bob.id]),
            "file": global_id("StoredFile", stored or 0),
            "audit": global_id("Audit", entry or 0),
            "cursor": page["items"]["pageInfo"]["endCursor"],
            "adas_cursor": adas["node"]["items"]["pageInfo"]["endCursor"],
        }
        shop.viewers = {
            "nobody": STRANGER,
            "ada": caller(ada.id, "ada", Scope.ITEMS_READ),
            "bob": caller(bob.id, "bob"),
            "auditor": caller(bob.id, "bob", *Scope),
        }
        yield shop


async def compare(shop: Shop, document: Document, viewer: str) -> set[str]:
    """The planner twice, since the first run makes the plan. Returns the tables that were read."""
    counted()
    query = shop.fill(document.query)
    variables = {name: shop.fill(value) for name, value in document.variables.items()}
    request = shop.request("", {})
    request.query, request.variables, request.extensions = query, variables, {"cost": True}
    sent = list[str]()
    READING.set(sent)
    first, again, wanted = [in_order(await answer_of(shop, way, request, viewer)) for way in ("fast", "fast", "reference")]
    assert first == wanted == again, (query, variables, viewer)
    await judge_tables(shop, request, sent)
    return tables(sent)


async def judge_tables(shop: Shop, request: Any, sent: Sequence[str]) -> None:
    """What is kept until its tables change is made of no other tables."""
    with suppress(Refused):
        operation = await shop.fast.prepare(request, STRANGER)
        if operation.reads is not None:
            assert tables(sent) <= set(operation.reads.tables), (request.query, sent)


def tables(sent: Sequence[str]) -> set[str]:
    named = {name for statement in sent for name in FROM.findall(statement)}
    return {name.removesuffix("_search") for name in named} & set(Base.metadata.tables)


async def answer_of(shop: Shop, way: str, request: Any, viewer: str) -> bytes:
    return await answer(getattr(shop, way), request, shop.viewers[viewer])


@fuzzed(0.5)
@given(document=documents())
async def test_answers_any_document_as_the_reference_executor_does(shop: Shop, document: Document) -> None:
    for viewer in shop.viewers:  # To make the document takes longer than to answer it.
        await compare(shop, document, viewer)


RESOLVED = {"items-page"}
"""Documents of nothing but resolvers."""


@pytest.mark.parametrize("document", corpus.documents(), ids=lambda document: document.name)
async def test_plans_what_clients_send(shop: Shop, document: corpus.Document) -> None:
    renamed = {
        "ITEM": "item",
        "OTHER": "other",
        "USER": "ada",
        "PURCHASE": "purchase",
        "FILE": "file",
        "GONE": "deleted",
        "AFTER": "cursor",
    }
    names = {name: shop.names[own] for name, own in renamed.items()} | {"USERNAME": "ada"}
    variables = document.filled(names)
    for viewer in shop.viewers:
        await compare(shop, Document(document.query, variables), viewer)
    request = shop.request("", {})
    request.query, request.variables = document.query, variables
    everybody = shop.viewers["auditor"]
    operation = await shop.fast.prepare(request, everybody)
    planned = await shop.planner.answer(operation, variables, shop.fast.context(operation, everybody))
    assert (planned is None) == (document.name in RESOLVED)
    if planned:
        assert not planned.errors
        assert b"{" in planned.json


async def test_shows_no_viewer_what_is_anothers(shop: Shop) -> None:
    """At the same time, so that their reads share statements."""
    query = "{ items { nodes { owner { username email scopes purchases(first: 9) { nodes { id } } } } } }"
    request = shop.request(query, {})
    order = ["nobody", "ada", "bob", "auditor"] * 5
    bodies = await asyncio.gather(*(answer_of(shop, "fast", request, viewer) for viewer in order))
    alone = {viewer: await answer_of(shop, "reference", request, viewer) for viewer in shop.viewers}
    assert bodies == [alone[viewer] for viewer in order]
    owners = {viewer: {node["owner"]["username"]: node["owner"] for node in nodes(body) if node["owner"]} for viewer, body in alone.items()}
    assert [(name, owner["email"]) for name, owner in owners["nobody"].items()] == [("ada", None), ("bob", None)]
    assert [(name, owner["email"]) for name, owner in owners["ada"].items()] == [("ada", "ada@example.com"), ("bob", None)]
    assert [len(owner["purchases"]["nodes"]) for owner in owners["bob"].values()] == [0, 2]
    assert [len(owner["purchases"]["nodes"]) for owner in owners["auditor"].values()] == [2, 2]


def nodes(body: bytes) -> Any:
    return orjson.loads(body)["data"]["items"]["nodes"]


# A document for each root field of a resolver whose answer may be kept.
RESOLVERS = {
    "salesReport": '{ salesReport(from: "2000-01-01T00:00:00Z", to: "2000-01-03T00:00:00Z") { revenue units purchases periods { startsAt } } }',
}


async def test_knows_the_tables_of_every_answer_that_it_keeps(shop: Shop) -> None:
    """Those of planned fields are declared with them; those of resolvers are compared with what they read."""
    query = executable.query_type
    assert query
    kept = {name for name, each in query.fields.items() if "cache" in each.extensions["strawberry-definition"].metadata}
    planned = {name for name, each in query.fields.items() if "plan" in each.extensions["strawberry-definition"].metadata}
    assert kept - planned == set(RESOLVERS)
    for document in RESOLVERS.values():
        assert await compare(shop, Document(document, {}), "auditor") == {"purchases"}
    owners = Document("{ items { totalCount nodes { owner { username } } } }", {})
    assert await compare(shop, owners, "nobody") == {"items", "users"}


async def test_the_comparison_of_tables_can_fail(shop: Shop) -> None:
    request = shop.request("{ items { nodes { id } } }", {})
    await judge_tables(shop, request, ["SELECT 1 FROM items JOIN items_search ON true"])
    with pytest.raises(AssertionError):
        await judge_tables(shop, request, ["SELECT 1 FROM items JOIN users AS edge_0 ON true"])
