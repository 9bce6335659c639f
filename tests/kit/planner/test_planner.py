"""The planner gives what the reference executor gives, byte by byte, and leaves to it what it cannot."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import product
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
from persistence import logins, users
from persistence.items import listing
from persistence.items import table as items
from persistence.kit.database.executors.statement_executor import InstrumentedExecutor, PreparedStatement
from persistence.kit.json_rows import statements
from persistence.kit.json_rows.json_page import RowForm
from persistence.kit.json_rows.reader import EntityReader, Lookup
from persistence.kit.json_rows.row_json import JsonColumn
from persistence.kit.query.entity_list import Comparison, Condition
from persistence.kit.query.paging import PageArguments
from tests.support.planner.cases import BESIDE, FAST, REFUSED, SLOW, THREE_LISTS
from tests.support.planner.comparison import STRANGER, Ways, answer, caller
from tests.support.service import Service


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


async def test_runs_a_resolver_of_rows_as_the_reference_executor_does(paths: Ways, service: Service) -> None:
    """A user's logins: no column of the row, and shown to nobody else."""
    document = (
        "{ items { nodes { name owner { username logins { id client isCurrent createdAt __typename } again: logins { client } } } } }"
    )
    user_id = required_row_id("User", paths.names["user"])
    async with service.database.transaction() as work:
        user = await work.session.get_one(users.User, user_id)
        for client in ('a phone, "old"', "a browser"):
            await logins.begin(work, user, scopes=None, client=client)
    for viewer, clients in ((caller(user_id), [b"a browser", b"old"]), (STRANGER, [])):
        assert await paths.is_planned(document, {}, viewer)
        fast, reference = await paths.answers(document, {}, viewer)
        assert fast == reference
        assert [client for client in (b"a browser", b"old") if client in fast] == clients


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
    monkeypatch.setattr(statements, "FORMS", 4)
    entities, before = EntityReader(service.database), _living(PreparedStatement)
    for name in ("name", "price", "tags", "version"):
        for conditions in (
            (),
            *((Condition("in_stock", "in_stock", Comparison.EQUAL, value),) for value in (True, False)),
            (Condition("price_min", "price", Comparison.AT_LEAST, Decimal(1)),),
        ):
            await entities.pages(RowForm(items.ENTITY, (JsonColumn(name),))).page(
                replace(listing.ALL, conditions=conditions), PageArguments()
            )
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


@pytest.mark.parametrize(
    ("document", "statements"),
    [
        ("{ a: item(id: $id) { name } b: item(id: $other) { price owner { username } } c: node(id: $id) { id ... on Item { tags } } }", 1),
        ("{ a: item(id: $other) { ...F } b: nodes(ids: [$id, $other, $user]) { __typename id ...F } } fragment F on Item { name }", 2),
        ("{ a: node(id: $user) { ... on User { email } } b: item(id: $id) { owner { id } } c: item(id: $other) { price } }", 2),
        ("{ " + " ".join(f"a{place}: item(id: $id) {{ b{place}: name }}" for place in range(12)) + " }", 2),
    ],
)
async def test_reads_what_roots_show_of_one_entity_by_one_statement_for_eight_of_them(
    paths: Ways, service: Service, monkeypatch: pytest.MonkeyPatch, document: str, statements: int
) -> None:
    variables = {"id": await service.make_item("Kettle"), "other": await service.make_item("Lamp"), "user": "{user}"}
    declared = ", ".join(f"${name}: ID!" for name in variables if f"${name}" in document)
    query = f"query ({declared}) {document}", {name: value for name, value in variables.items() if f"${name}" in document}
    fast, reference = await paths.answers(*query)
    assert fast == reference
    assert b"data" in fast
    assert b"errors" not in fast
    sent = list[str]()
    monkeypatch.setattr(
        service.database, "_executor", InstrumentedExecutor(await service.database.executor(), lambda sql: partial(sent.append, sql))
    )
    await paths.answers(*query)
    assert len(sent) == statements


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
    document = THREE_LISTS.replace("items {", f"items(last: {2 * width}) {{", 1)
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
    assert len(plans.by_key) == MAX_PLANS
    assert outcomes == ["made"] * 64
    await paths.answers(document, dict.fromkeys(names, True))
    assert len(outcomes) == 64  # The last one is kept.


async def test_leaves_nothing_to_ask_for_viewers_who_hold_the_scopes(paths: Ways, service: Service) -> None:
    cleo, dora = [await service.make_user(name, email=f"{name}@shop.example") for name in ("cleo", "dora")]
    async with service.database.transaction() as work:
        for user in (cleo, dora):
            await items.create(work, items.ItemValues("Kettle", Decimal(1)), owner_id=user.id)
    owners = "items(last: 2) { nodes { owner { email isActive scopes purchases { totalCount } } } }"
    document, both = f"{{ {owners} }}", f'{{ {owners} node(id: "{global_id("Audit", 1)}") {{ id }} }}'
    viewers = {
        "stranger": (STRANGER, [None, None]),
        "cleo": (caller(cleo.id), ["cleo@shop.example", None]),
        "staff": (caller(2**40, Scope.USERS_READ), ["cleo@shop.example", "dora@shop.example"]),
        "auditor": (caller(2**40, Scope.AUDIT_READ), [None, None]),
        "everything": (caller(2**40, *Scope), ["cleo@shop.example", "dora@shop.example"]),
    }
    for name, asked in product([*viewers, *reversed(viewers)], (document, both)):
        viewer, emails = viewers[name]
        assert await paths.is_planned(asked, {}, viewer)
        fast, reference = await paths.answers(asked, {}, viewer)
        assert fast == reference
        assert [node["owner"]["email"] for node in orjson.loads(fast)["data"]["items"]["nodes"]] == emails
    keys = [await keys_of(paths, asked) for asked in (document, both)]
    assert keys == [{frozenset(), frozenset({Scope.USERS_READ})}, {frozenset(), frozenset({Scope.USERS_READ, Scope.AUDIT_READ})}]


async def keys_of(paths: Ways, document: str) -> set[frozenset[Scope]]:
    [plans] = (await paths.fast.prepare(paths.request(document, {}), STRANGER)).plans
    return {key.held for key in plans.by_key}
