"""Documents made of the schema, and those of real clients, have the same answer from the planner and from the reference executor.

`./scripts/fuzz --examples N` makes more of them, other ones each time.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import orjson
import pytest
from graphql import GraphQLObjectType, get_named_type, get_operation_ast, is_composite_type, is_required_argument, parse
from hypothesis import given

from graph.kit.cache_control import CacheDependencies, DependencyAnalyzer
from graph.kit.errors import Refused
from graph.schema import executable
from persistence.kit.database.database import Base
from scripts.benchmark import corpus
from tests.support.fuzz.invariants import counted, fuzzed
from tests.support.planner.comparison import STRANGER, in_order
from tests.support.planner.documents import Document, documents
from tests.support.planner.shop import READING, Shop

FROM = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")


async def compare(shop: Shop, document: Document, viewer: str) -> set[str]:
    """The planner twice, since the first run makes the plan. Returns the tables that were read."""
    counted()
    query = shop.fill(document.query)
    variables = {name: shop.fill(value) for name, value in document.variables.items()}
    request = shop.request("", {})
    request.query, request.variables, request.extensions = query, variables, {"cost": True}
    sent = list[str]()
    READING.set(sent)
    first, again, wanted = [in_order(await shop.answer(way, request, viewer)) for way in ("fast", "fast", "reference")]
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
    """Triggers keep words and spellings with the rows whose they are: they change when these do."""
    named = {name for statement in sent for name in FROM.findall(statement)}
    return {name.removesuffix("_search").removesuffix("_spellings") for name in named} & set(Base.metadata.tables)


@fuzzed(0.5)
@given(document=documents())
async def test_answers_any_document_as_the_reference_executor_does(shop: Shop, document: Document) -> None:
    for viewer in shop.viewers:  # To make the document takes longer than to answer it.
        await compare(shop, document, viewer)


RESOLVED: set[str] = set()
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
    bodies = await asyncio.gather(*(shop.answer("fast", request, viewer) for viewer in order))
    alone = {viewer: await shop.answer("reference", request, viewer) for viewer in shop.viewers}
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


ARGUMENTS = {
    "id": '"{item}"',
    "ids": '["{item}"]',
    "username": '"ada"',
    "externalId": '"x"',
    "from": '"2000-01-01T00:00:00Z"',
    "to": '"2000-01-03T00:00:00Z"',
    "search": '"mot"',
}


def declaration(type_: GraphQLObjectType, name: str) -> Any:
    return type_.fields[name].extensions["strawberry-definition"]


def ways_down() -> Iterator[tuple[str, str]]:
    """Each field that says which tables it reads, with the shortest document that shows it."""
    query = executable.query_type
    assert query
    seen, waiting = {query.name}, deque[tuple[GraphQLObjectType, str]]([(query, "{ HERE }")])
    while waiting:
        type_, document = waiting.popleft()
        for name, field in type_.fields.items():
            if "cache" not in declaration(type_, name).metadata:
                continue
            arguments = ", ".join(
                f"{each}: {ARGUMENTS[each]}" for each, of in field.args.items() if each == "search" or is_required_argument(of)
            )
            named: Any = cast("Any", get_named_type)(field.type)
            inside = " { __typename HERE }" if is_composite_type(named) else ""
            longer = document.replace("HERE", f"{name}{f'({arguments})' if arguments else ''}{inside}")
            yield f"{type_.name}.{name}", longer.replace("HERE", "")
            if isinstance(named, GraphQLObjectType) and named.name not in seen:
                seen.add(named.name)
                waiting.append((named, longer))


@pytest.mark.parametrize(("field", "document"), list(ways_down()), ids=[field for field, _ in ways_down()])
async def test_finds_a_field_that_names_the_wrong_tables(shop: Shop, monkeypatch: pytest.MonkeyPatch, field: str, document: str) -> None:
    read = await compare(shop, Document(document, {}), "auditor")  # Which says so, if the right ones are wrong.
    parsed = parse(shop.fill(document))
    operation = get_operation_ast(parsed)
    type_, _, name = field.partition(".")
    declared = declaration(cast("GraphQLObjectType", executable.type_map[type_]), name)
    right: CacheDependencies = declared.metadata["cache"]
    assert operation
    assert (kept := DependencyAnalyzer(executable).of(parsed, operation))
    assert read <= set(kept.tables)
    monkeypatch.setattr(declared, "metadata", {**declared.metadata, "cache": CacheDependencies((), right.personal)})
    wrong = DependencyAnalyzer(executable).of(parsed, operation)
    assert wrong
    beside = set(right.tables) <= set(wrong.tables)  # Another field of the document names them.
    assert beside or not read <= set(wrong.tables), "the field names tables that it does not read, or the document does not show it"


async def test_the_comparison_of_tables_can_fail(shop: Shop) -> None:
    request = shop.request("{ items { nodes { id } } }", {})
    await judge_tables(shop, request, ["SELECT 1 FROM items JOIN items_search ON true"])
    with pytest.raises(AssertionError):
        await judge_tables(shop, request, ["SELECT 1 FROM items JOIN users AS edge_0 ON true"])
