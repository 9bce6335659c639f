"""The planner gives what the reference executor gives, byte by byte, and leaves to it what it cannot."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import orjson
import pytest
from sqlalchemy import insert

from graph.kit.auth import Scope
from graph.kit.execution.engine import MAX_PLANS
from graph.kit.global_ids import global_id, required_row_id
from graph.kit.planner import planner
from graph.kit.planner.planner import Planner
from graph.server.graphql.requests import GraphQLRequest
from persistence.items import table as items
from persistence.items.listing import Filter, ItemList
from persistence.kit.database.statement_executor import InstrumentedExecutor, PreparedStatement
from persistence.kit.query import reader
from persistence.kit.query.paging import PageArguments
from persistence.kit.query.reader import EntityReader, Lookup, RowForm
from persistence.kit.query.row_json import JsonColumn
from tests.support.planner.comparison import STRANGER, Ways, answer, caller
from tests.support.service import Service

# Each with variables; {id} and {deleted} stand for global ids, {after} for a cursor of the default order.
Case = tuple[str, dict[str, Any]]

SIMPLE: dict[str, Case] = {
    "one item by its external id": ("query ($id: String!) { itemByExternalId(externalId: $id) { name externalId } }", {"id": "A-1"}),
    "no item by its external id": ('{ itemByExternalId(externalId: "a-1") { name } }', {}),
    "by an external id that nothing can have": ('{ itemByExternalId(externalId: "a\\u0000") { name } }', {}),
    "one item": (
        "query ($id: ID!) { item(id: $id) { id name description price tags inventory inStock version createdAt updatedAt } }",
        {"id": "{id}"},
    ),
    "no such item": ('{ item(id: "SXRlbTo5OTk5OTk=") { id } }', {}),
    "a deleted item": ("query ($id: ID!) { item(id: $id) { id } }", {"id": "{deleted}"}),
    "garbage for an id": ('{ item(id: "garbage") { id } }', {}),
    "an alias": ("query ($id: ID!) { a: item(id: $id) { n: name m: name name } b: item(id: $id) { price } }", {"id": "{id}"}),
    "type names": (
        "{ items(first: 2) { __typename edges { __typename } nodes { __typename owner { __typename } } pageInfo { __typename } } }",
        {},
    ),
    "an owner": ("{ items { nodes { name owner { id username fullName createdAt } } } }", {}),
    "nothing but owners": ("{ items { nodes { owner { username } } } }", {}),
    "a fragment": ("{ items(first: 3) { nodes { ...F ... on Item { price } ... { tags } } } } fragment F on Item { name }", {}),
    "merged fields": (
        "{ items(first: 1) { nodes { name } nodes { price owner { username } owner { id } } } items(first: 1) { pageInfo { hasNextPage } } }",
        {},
    ),
    "edges": ("{ items(first: 2) { edges { cursor node { name } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }", {}),
    "an empty page": ("{ items(first: 0) { nodes { id } edges { cursor } pageInfo { hasNextPage startCursor endCursor } } }", {}),
    "the next page": (
        "query ($after: String) { items(first: 2, after: $after) { nodes { name } pageInfo { hasNextPage hasPreviousPage } } }",
        {"after": "{after}"},
    ),
    "the page before": (
        "query ($c: String) { items(last: 1, before: $c) { nodes { name } pageInfo { hasNextPage hasPreviousPage } } }",
        {"c": "{after}"},
    ),
    "the last page": ("{ items(last: 2) { nodes { name } pageInfo { hasNextPage hasPreviousPage startCursor } } }", {}),
    "variables with defaults": ("query ($n: Int = 2) { items(first: $n) { nodes { name } } }", {}),
    "null for an argument": ("query ($s: String) { items(search: $s, first: 1) { nodes { name } } }", {"s": None}),
    "a filter": ('{ items(filter: {priceMin: "1", priceMax: 5, inStock: true, tagsAny: ["rock"]}) { nodes { name price } } }', {}),
    "a filter in a variable": ("query ($f: ItemFilter) { items(filter: $f) { nodes { name } } }", {"f": {"tagsAll": ["rock", "loud"]}}),
    "another filter of the same form": ("query ($f: ItemFilter) { items(filter: $f) { nodes { name } } }", {"f": {"tagsAll": ["rock"]}}),
    "a filter's next page": (
        "{ items(filter: {inStock: true}, first: 1, orderBy: {field: PRICE}) { edges { cursor node { id } } pageInfo { endCursor } } }",
        {},
    ),
    "a search without a word": ('{ items(search: " , ") { nodes { name } } }', {}),
    "nothing but a page's ends": ("{ items(first: 2) { pageInfo { hasNextPage hasPreviousPage } } }", {}),
    "two forms of one list": (
        "{ items(first: 2) { nodes { name } others: nodes { price } edges { node { id } a: cursor } again: edges { node { tags } } } }",
        {},
    ),
    **{
        f"nothing selected: {selected}": (f"{{ items(first: 2) {selected} }}", {})
        for selected in (
            "{}",
            "{ nodes {} }",
            "{ edges {} }",
            "{ edges { node {} } }",
            "{ edges { ... {} cursor } }",
            "{ pageInfo {} }",
            "{ nodes { owner {} } }",
            "{ nodes { owner {} name } edges {} ... {} }",
        )
    },
    "nothing selected of an item": ("query ($id: ID!) { item(id: $id) {} }", {"id": "{id}"}),
    "nothing selected of no item": ("query ($id: ID!) { item(id: $id) { ... {} } }", {"id": "{deleted}"}),
    "a search": ('{ items(search: "mot") { nodes { name } } }', {}),
    **{
        f"by {field} {direction}": (
            f"{{ items(first: 3, orderBy: {{field: {field}, direction: {direction}}}) {{ edges {{ cursor node {{ id }} }} pageInfo {{ endCursor }} }} }}",
            {},
        )
        for field in ("NAME", "PRICE", "CREATED_AT", "INVENTORY")
        for direction in ("ASC", "DESC")
    },
}

THREE = """
{ items { totalCount nodes { owner { items(first: 2) { totalCount edges { cursor node { name owner { items(last: 1) { ...P } } } } } } } } }
fragment P on ItemConnection { totalCount nodes { id } pageInfo { startCursor hasPreviousPage } }
"""
FORMERLY_SLOW: dict[str, Case] = {
    "the root's type name": ("{ __typename items { nodes { id } } t: __typename }", {}),
    "a count": ("{ items { totalCount } }", {}),
    "a count of a search": ('{ items(search: "mot", first: 1) { totalCount nodes { name } n: totalCount } }', {}),
    "a directive": ("query ($no: Boolean = false) { items(first: 1) { nodes { name @include(if: $no) price } } }", {}),
    "a directive that holds": (
        "query ($yes: Boolean!) { items(first: 1) { nodes { name @include(if: $yes) price @skip(if: $yes) } } }",
        {"yes": True},
    ),
    "a directive at the root": (
        "query ($no: Boolean!) { items { totalCount } ... @include(if: $no) { a: items { nodes { id } } } }",
        {"no": False},
    ),
    "directives in words": ("{ items(first: 2) { nodes { name @skip(if: true) ...F @include(if: true) } } } fragment F on Item { id }", {}),
    "a fragment on an interface": ("{ items(first: 1) { nodes { ... on Node { id __typename ... on Item { name } } } } }", {}),
    **{
        f"nothing of {name}": (f"query ($no: Boolean = false) {{ items(first: 3) {{ {selection} }} }}", {})
        for name, selection in {
            "a connection": "totalCount @include(if: $no)",
            "edges": "edges { cursor @include(if: $no) }",
            "edges' nodes": "edges { node { id @include(if: $no) } }",
            "nodes": "nodes { id @include(if: $no) }",
            "page info": "pageInfo { endCursor @include(if: $no) }",
            "owners": "nodes { owner { id @include(if: $no) } }",
            "owners' lists": "nodes { owner { items { nodes @include(if: $no) { id } } } }",
            "owners' edges": "nodes { owner { items(first: 2) { edges { node @include(if: $no) { id } } } } }",
        }.items()
    },
    "a node": (
        "query ($id: ID!) { node(id: $id) { __typename id ... on Item { name owner { username } } ... on User { username } } }",
        {"id": "{id}"},
    ),
    "a node of a deleted item": ("query ($id: ID!) { node(id: $id) { id } }", {"id": "{deleted}"}),
    "a node that is a user": ("query ($id: ID!) { node(id: $id) { ... on User { username email } } }", {"id": "{user}"}),
    "a node of another type": ("query ($id: ID!) { node(id: $id) { ... on Item { name } } }", {"id": "{user}"}),
    "a node of nothing": ('{ node(id: "x") { id } b: node(id: 1) { id } }', {}),
    "an item by a user's id": ("query ($id: ID!) { item(id: $id) { name } }", {"id": "{user}"}),
    "nodes": (
        'query ($a: ID!, $b: ID!, $c: ID!) { nodes(ids: [$a, $b, $c, $a, "x"]) { __typename id ... on Item { name } ... on User { fullName } } }',
        {"a": "{id}", "b": "{user}", "c": "{deleted}"},
    ),
    "no nodes": ("{ nodes(ids: []) { id } }", {}),
    "a nested list": (
        "{ items { nodes { name owner { username items(first: 1) { nodes { name } pageInfo { hasNextPage endCursor } } } } } }",
        {},
    ),
    "three lists": (
        THREE,
        {},
    ),
    "one field under two names": (
        "{ items(first: 2) { nodes { owner { a: items(first: 1) { nodes { name } } b: items(last: 1) { nodes { name } } } } } }",
        {},
    ),
    "nothing but a nested total": ("{ items { nodes { owner { items { totalCount __typename } } } } }", {}),
    "an empty nested page": (
        "{ items { nodes { owner { items(first: 0) { edges { node { id } } pageInfo { endCursor hasNextPage } } } } } }",
        {},
    ),
    "hidden fields": ("{ items { nodes { owner { username email isActive scopes purchases { totalCount nodes { id } } } } } }", {}),
    "facets, highlights and words of a nested list": (
        """
        { items(first: 2) { nodes { owner { items(first: 1) { matching didYouMean edges { cursor highlights { field } } facets {
          precision tags(first: 2) { tag count selected } price { min max buckets { to count } } stock { inStock } } } } } } }
        """,
        {},
    ),
    "a variable in a nested list": (
        "query ($n: Int = 1, $m: Int) { items(first: $m) { nodes { owner { items(first: $n) { nodes { id } } } } } }",
        {"m": 3},
    ),
}

FAST = SIMPLE | FORMERLY_SLOW

BESIDE: dict[str, Case] = {
    "introspection": ("{ __schema { queryType { name } } items(first: 1) { nodes { id } } }", {}),
    "a field with scopes": ("{ itemsPage { total } items(first: 1) { nodes { id } } }", {}),
    "a resolver between": ("{ a: items(first: 1) { nodes { id } } compute(n: 20) b: items { totalCount } }", {}),
    "a summary": ("query ($id: ID!) { item(id: $id) { name } itemSummary(id: $id) { price item { name } } }", {"id": "{id}"}),
    "an error beside": ("{ items(first: 1) { nodes { id } } compute(n: -1) }", {}),
    "an error of a root that may be null": ('{ items(first: 1) { nodes { id } } user(username: "ada") { id } }', {}),
    "a list that is refused": ("{ items(first: 1) { nodes { id } } b: items(first: 101) { nodes { id } } }", {}),
    "a nested list that is refused": (
        "{ items(first: 2) { totalCount } b: items { nodes { owner { items(first: 101) { nodes { id } } } } } }",
        {},
    ),
    "a nested list that is refused nowhere": (
        "{ items(first: 1) { nodes { owner { items(first: 101) { nodes { id } } } } } b: items { totalCount } }",
        {},
    ),
}

SLOW: dict[str, Case] = {
    "nothing but resolvers": ("{ compute(n: 3) __typename }", {}),
    "nothing": ("{ __typename }", {}),
    "introspection": ("{ __schema { queryType { name } } }", {}),
}

REFUSED: dict[str, Case] = {
    "too many": ("{ items(first: 101) { nodes { id } } }", {}),
    "both ends": ("{ items(first: 1, last: 1) { nodes { id } } }", {}),
    "a foreign cursor": ('{ items(after: "WyJ4IiwxLDFd") { nodes { id } } }', {}),
    "a cursor of another order": ("query ($c: String) { items(after: $c, orderBy: {field: NAME}) { nodes { id } } }", {"c": "{after}"}),
    "a bad price": ('{ items(filter: {priceMin: "-1"}) { nodes { id } } }', {}),
}


@pytest.fixture
async def paths(service: Service) -> Ways:
    ada = await service.make_user()
    drafts = [
        items.ItemValues("Motörhead", Decimal("4.99"), 'Quotes " and \\ and\nlines', ("rock", "loud"), 3, "A-1"),
        items.ItemValues("Moth", Decimal("0.1"), None, (), 0),
        items.ItemValues("安い", Decimal("9999999999.99"), "", ("rock",), 2**31 - 1),
        items.ItemValues("zebra", Decimal(5), "\u2028 \U0001f600", ("rock",), 1),
        items.ItemValues("deleted", Decimal(1)),
    ]
    async with service.database.transaction() as work:
        rows = [await items.create(work, draft, owner_id=ada.id if place % 2 else None) for place, draft in enumerate(drafts)]
        await items.delete(work, rows[-1].id)
    both = Ways(service)
    first_page = await service.ask("{ items(first: 2) { pageInfo { endCursor } } }")
    both.names = {
        "id": global_id("Item", rows[0].id),
        "deleted": global_id("Item", rows[-1].id),
        "user": global_id("User", ada.id),
        "after": first_page["items"]["pageInfo"]["endCursor"],
    }
    return both


@pytest.mark.parametrize("name", FAST)
async def test_takes_the_fast_path_and_answers_the_same(paths: Ways, name: str) -> None:
    assert await paths.is_planned(*FAST[name])
    fast, reference = await paths.answers(*FAST[name])
    assert fast == reference
    assert b"errors" not in fast


@pytest.mark.parametrize("name", BESIDE)
async def test_runs_what_it_cannot_plan_beside_what_it_can(paths: Ways, name: str) -> None:
    assert await paths.is_planned(*BESIDE[name])
    fast, reference = await paths.answers(*BESIDE[name])
    assert fast == reference


@pytest.mark.parametrize("name", SLOW)
async def test_leaves_to_the_reference_executor(paths: Ways, name: str) -> None:
    assert not await paths.is_planned(*SLOW[name])
    fast, reference = await paths.answers(*SLOW[name])
    assert fast == reference


@pytest.mark.parametrize("name", REFUSED)
async def test_refuses_in_the_reference_executors_words(paths: Ways, name: str) -> None:
    fast, reference = await paths.answers(*REFUSED[name])
    assert fast == reference
    assert b"BAD_USER_INPUT" in fast


async def test_shares_a_statement_between_callers_who_ask_at_the_same_time(
    paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, variables = FAST["one item"]
    sent = list[str]()
    monkeypatch.setattr(
        service.database, "_executor", InstrumentedExecutor(await service.database.executor(), lambda sql: partial(sent.append, sql))
    )
    answers = await asyncio.gather(*(paths.answers(document, variables) for _ in range(20)))
    assert {fast for fast, _ in answers} == {answers[0][1]}
    assert len(sent) == 1


@pytest.mark.parametrize(
    "order", ["", *(f", orderBy: {{field: {field}, direction: DESC}}" for field in ("NAME", "PRICE", "CREATED_AT", "INVENTORY"))]
)
async def test_reads_the_pages_that_are_asked_for_at_the_same_time_each_for_itself(
    paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    every = f"{{ items(first: 100{order}) {{ edges {{ cursor }} }} }}"
    cursors = [edge["cursor"] for edge in (await service.ask(every))["items"]["edges"]]
    wanted = [(size, cursor) for cursor in cursors for size in (0, 1, 2, 100)]
    sent = list[str]()
    monkeypatch.setattr(
        service.database, "_executor", InstrumentedExecutor(await service.database.executor(), lambda sql: partial(sent.append, sql))
    )
    for end, size_of in (("after", "first"), ("before", "last")):
        document = (
            f"query ($n: Int, $c: String) {{ items({size_of}: $n, {end}: $c{order}) "
            "{ nodes { id name owner { username } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
        )
        assert await paths.is_planned(document, {"n": 1, "c": cursors[0]})
        requests = [GraphQLRequest(query=document, variables={"n": size, "c": cursor}) for size, cursor in wanted]
        one_by_one = [await answer(paths.reference, request) for request in requests]
        sent.clear()
        assert await asyncio.gather(*(answer(paths.fast, request) for request in requests)) == one_by_one
        assert len(sent) <= (2 if service.database.dialect == "postgresql" else len(wanted))


FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "prices": (
        {"priceMin": "1", "priceMax": "5"},
        {"priceMin": "0.1", "priceMax": "0.1"},
        {"priceMin": "4.99", "priceMax": "9999999999.99"},
    ),
    "an instant": ({"createdAfter": "2000-01-01T00:00:00Z"}, {"createdAfter": "2100-01-01T00:00:00+02:00"}),
    "another instant": ({"createdBefore": "2000-01-01T00:00:00Z"}, {"createdBefore": "2100-01-01T00:00:00Z"}),
    "stock": ({"inStock": True}, {"inStock": False}),
    "tags": ({"tagsAny": ["loud", "rock"]}, {"tagsAny": ["none"]}, {"tagsAny": []}, {"tagsAll": []}, {"tagsAll": ["rock", "loud", "rock"]}),
    "words": (
        {"search": "moth"},
        {"search": "zebra"},
        {"search": "moto live"},
        {"search": "moto moto"},
        {"search": "安い"},
        {"search": " "},
    ),
    "both": ({"search": "mot", "priceMin": "1"}, {"search": "zeb", "priceMin": "5"}, {"search": "zeb", "priceMin": "6"}),
}


@pytest.mark.parametrize("name", FORMS)
async def test_keeps_filters_of_one_form_apart(paths: Ways, name: str) -> None:
    document = (
        "query ($f: ItemFilter, $s: String, $after: String) { items(first: 1, filter: $f, search: $s, after: $after) "
        "{ nodes { name } pageInfo { hasNextPage endCursor } } }"
    )
    after: list[str | None] = [None]
    for given in FORMS[name] * 2:
        filter_ = {field: value for field, value in given.items() if field != "search"}
        variables = {"f": filter_, "s": given.get("search")}
        fast, reference = await paths.answers(document, variables)
        assert fast == reference
        after.append(orjson.loads(fast)["data"]["items"]["pageInfo"]["endCursor"])
        for cursor in filter(None, after):  # Its own, and those of the filters before, which are refused.
            request = GraphQLRequest(query=document, variables={**variables, "after": cursor})
            assert await answer(paths.fast, request) == await answer(paths.reference, request)


async def test_keeps_few_statements_however_many_forms_are_thought_of(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "FORMS", 4)
    entities, before = EntityReader(service.database), _living(PreparedStatement)
    for name in ("name", "price", "tags", "version"):
        for filter_ in (Filter(), Filter(in_stock=True), Filter(in_stock=False), Filter(price_min=Decimal(1))):
            await entities.pages(RowForm(items.ENTITY, (JsonColumn(name),))).page(ItemList(filter_), PageArguments())
    assert _living(PreparedStatement) - before <= 12  # Two caches, of which each lets half as many more in before it tidies up.


def _living(kind: type[Any]) -> int:
    gc.collect()
    return sum(isinstance(each, kind) for each in gc.get_objects())


async def test_tells_whoever_brings_a_bad_cursor_alone(paths: Ways) -> None:
    document, variables = FAST["the next page"]
    bad = GraphQLRequest(query=document, variables={"after": "bad"})
    (good, reference), refused = await asyncio.gather(paths.answers(document, variables), answer(paths.fast, bad))
    assert good == reference
    assert b"BAD_USER_INPUT" in refused


HARD = [
    "".join(map(chr, range(1, 32))) + "\x7f\x80\u2028\ufeff\ufffd\U0010ffff",
    '"', '", "', "\\", '\\"', "\\u0041", "a, b", "','", '","', "</script>", "é", "",
]  # fmt: skip


async def test_writes_whatever_a_row_can_hold(paths: Ways, service: Service) -> None:
    moments = [datetime(2026, 1, 2, 3, 4, 5, micros, UTC) for micros in (0, 1, 100_000, 123_400, 999_999)]
    common = {"inventory": 0, "version": 1, "search_words": ""}
    rows = [
        {
            "name": text,
            "description": text,
            "price": Decimal(place) / 100,
            "tags": HARD[:place],
            "created_at": moments[place % 5],
            "updated_at": moments[-1 - place % 5],
            **common,
        }
        for place, text in enumerate(HARD)
    ]
    async with service.database.transaction() as work:
        await work.session.execute(insert(items.Item), rows)
    fields = "id name description price tags inventory inStock version createdAt updatedAt owner { username }"
    document = f"{{ items(last: 100) {{ nodes {{ {fields} }} }} }}"
    assert await paths.is_planned(document, {})
    fast, reference = await paths.answers(document, {})
    assert fast == reference
    assert [node["name"] for node in orjson.loads(fast)["data"]["items"]["nodes"]][-len(HARD) :] == HARD


@pytest.mark.parametrize("name", [*FAST, *BESIDE])
async def test_charges_what_the_reference_executor_charges(paths: Ways, name: str) -> None:
    document, variables = (FAST | BESIDE)[name]
    request = paths.request(document, variables)
    request.extensions = {"cost": True}
    costs = [orjson.loads(await answer(pipeline, request))["extensions"]["cost"] for pipeline in (paths.fast, paths.reference)]
    assert costs[0] == costs[1]


async def test_sees_a_write_at_once(paths: Ways, service: Service) -> None:
    document, variables = FAST["one item"]
    before, _ = await paths.answers(document, variables)
    async with service.database.transaction() as work:
        row = await items.change(work, required_row_id("Item", paths.names["id"]), {"name": "Renamed"})
    after, reference = await paths.answers(document, variables)
    assert row.name == "Renamed"
    assert before != after == reference


async def test_counts_and_searches_again_once_something_has_changed(paths: Ways, service: Service) -> None:
    document = (
        '{ items(search: "mo", filter: {priceMin: "0.1"}) { totalCount nodes { name } } itemsPage(search: "mo") { total items { name } } }'
    )
    everybody = caller(1, *Scope)
    found = list[Any]()
    for name in ("Mole", "Mouse", "Zebu"):
        both = await paths.answers(document, {}, everybody), await paths.answers(document, {}, everybody)
        assert len({body for pair in both for body in pair}) == 1
        data = orjson.loads(both[0][0])["data"]
        found.append((data["items"]["totalCount"], data["itemsPage"]["total"], [each["name"] for each in data["itemsPage"]["items"]]))
        await service.make_item(name)
    first = ["Motörhead", "Moth"]
    assert found == [(2, 2, first), (3, 3, [*first, "Mole"]), (4, 4, [*first, "Mole", "Mouse"])]


async def test_drops_a_plan_that_raises_and_counts_it(paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        async def run(self, _: Any) -> Any:
            raise KeyError("column")

    outcomes = list[str]()
    monkeypatch.setattr(service.services.observer, "plan", outcomes.append)

    def compile_broken(*_: Any) -> Broken:
        return Broken()

    monkeypatch.setattr(planner, "build_root", compile_broken)
    monkeypatch.setattr(Planner, "strict", False)
    document, variables = FAST["one item"]
    request, pipeline = paths.request(document, variables), paths.pipeline(fast=True)
    answers = {await answer(pipeline, request) for _ in range(3)}
    assert answers == {await answer(paths.reference, request)}
    assert outcomes == ["made", "failed"]
    monkeypatch.setattr(Planner, "strict", True)
    assert b"Internal error" in await answer(paths.pipeline(fast=True), request)


async def test_keeps_a_plan_whose_database_is_away_for_a_moment(paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    outcomes, away = list[str](), [True]
    monkeypatch.setattr(service.services.observer, "plan", outcomes.append)
    one = Lookup.one

    async def sometimes(self: Lookup, key: Any) -> Any:
        if away.pop() if away else False:
            raise busy
        return await one(self, key)

    monkeypatch.setattr(Lookup, "one", sometimes)
    document, variables = FAST["one item"]
    for _ in range(2):
        fast, reference = await paths.answers(document, variables)
        assert fast == reference
    assert outcomes == ["made"]
    assert await paths.is_planned(document, variables)


async def test_reads_thirty_roots_of_one_field_by_one_statement(paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await service.make_item(f"Kettle {place}") for place in range(30)]
    document = "{ " + " ".join(f'a{place}: item(id: "{id_}") {{ name }}' for place, id_ in enumerate(ids)) + " }"
    sent = list[str]()
    monkeypatch.setattr(
        service.database, "_executor", InstrumentedExecutor(await service.database.executor(), lambda sql: partial(sent.append, sql))
    )
    answered = orjson.loads(await answer(paths.fast, GraphQLRequest(query=document)))
    assert answered["data"] == {f"a{place}": {"name": f"Kettle {place}"} for place in range(30)}
    assert len(sent) == 1


@pytest.mark.parametrize("width", [1, 20])
async def test_reads_each_level_by_one_statement_whatever_its_width(
    paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    users = [await service.make_user(f"seller{place}") for place in range(width)]
    async with service.database.transaction() as work:
        for place, user in enumerate(users):
            for name in ("Kettle", "Lamp"):
                await items.create(work, items.ItemValues(f"{name} {place}", Decimal(1)), owner_id=user.id)
    sent = list[str]()
    monkeypatch.setattr(
        service.database, "_executor", InstrumentedExecutor(await service.database.executor(), lambda sql: partial(sent.append, sql))
    )
    document = THREE.replace("items {", f"items(last: {2 * width}) {{", 1)
    nodes = orjson.loads(await answer(paths.fast, GraphQLRequest(query=document)))["data"]["items"]["nodes"]
    assert [node["owner"]["items"]["totalCount"] for node in nodes] == [2] * 2 * width
    assert len(sent) == 3


async def test_keeps_few_plans_of_one_document_and_ends_them_with_it(
    paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = list[str]()
    monkeypatch.setattr(service.services.observer, "plan", outcomes.append)
    names = [f"c{place}" for place in range(6)]
    fields = " ".join(f"name{name}: name @include(if: ${name})" for name in names)
    document = f"query ({' '.join(f'${name}: Boolean!' for name in names)}) {{ items(first: 1) {{ nodes {{ id {fields} }} }} }}"
    for value in range(64):
        variables = {name: bool(value >> place & 1) for place, name in enumerate(names)}
        fast, reference = await paths.answers(document, variables)
        assert fast == reference
    operation = await paths.fast.prepare(paths.request(document, {}), STRANGER)
    [plans] = operation.plans
    assert len(plans.by_conditions) == MAX_PLANS
    assert outcomes == ["made"] * 64
    await paths.answers(document, dict.fromkeys(names, True))
    assert len(outcomes) == 64  # The last one is kept.
