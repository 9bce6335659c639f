"""Who sees what: docs/access.md, which a reviewer can read, is made from a running service and stays true."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from graphql import GraphQLObjectType, build_schema, get_named_type, is_composite_type
from sqlalchemy import select
from starlette.routing import Route

from graph.schema import executable
from persistence.kit.database.database import Base
from tests.conftest import settings_for
from tests.support.access import MARK, VIEWERS, Way, World, code, marked
from tests.support.access_ways import FRESH, ROOTS, ROUTES, WAYS, missing
from tests.support.service import running

if TYPE_CHECKING:
    from graphql import GraphQLField, GraphQLNamedType

TABLE = Path(__file__).parents[3] / "docs" / "access.md"
INTRODUCTION = f"""# Access

The access table: what each kind of caller gets from every field of the root types, every type's fields and every REST route. It is for reviewers of
security: a change of this page is a change of permissions.

It is generated from a running service: `WRITE_ACCESS=1 ./scripts/test tests/server/graphql/test_access.py` writes it, and without the variable the test compares it.

- **anonymous** sends no token; **owner** is the user whose item, file, purchase or account it is; the others look at what is the owner's.
- Tokens carry: owner and reader `{"` `".join(scope.value for scope in VIEWERS["reader"])}`; writer `{"` `".join(scope.value for scope in VIEWERS["writer"])}`;
  admin every scope.
- **yes**: the value; **null**: none, without an error; **empty**: a list without the rows, their count or their sum, 0; **no row**: no object, as if it did not exist;
  a code in capitals: the error's `extensions.code`, or for REST the status. A mutation's cell is the member of its result union.
"""
Rows = list[tuple[str, ...]]


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    if unknown := missing(executable):
        pytest.fail("\n".join(unknown), pytrace=False)
    settings = await settings_for("sqlite", tmp_path_factory.mktemp("access"))
    async with running(settings) as service:
        world = World(service, FRESH)
        await world.settle()
        yield world


async def test_is_as_the_table_says(world: World):
    # In this order: what changes the shop comes last.
    parts = [INTRODUCTION, *[await _root(world, name) for name in ("Query", "Subscription")]]
    parts += [await _type(world, type_.name, way) for type_ in _objects() for way in _ways(type_.name)]
    parts += [await _rest(world), await _root(world, "Mutation")]
    text = "\n".join(parts)
    if "WRITE_ACCESS" in os.environ:
        TABLE.write_text(text)
    assert TABLE.read_text() == text, "docs/access.md is stale: write it with WRITE_ACCESS=1 and review its diff, as its first lines say"


def test_says_in_a_sentence_what_it_does_not_know_how_to_ask_for():
    new = build_schema(
        "type Query { zeppelins: [Zeppelin] } type Zeppelin { name: String } type Mutation { moor: Int } type Subscription { moored: Int }"
    )
    assert missing(new) == [
        'Say how to ask for Query.zeppelins: ACCESS = {"Query.zeppelins": "zeppelins(…)"} in the tests of its entity.',
        'Say how to ask for Mutation.moor: ACCESS = {"Mutation.moor": "moor(…)"} in the tests of its entity.',
        'Say how to ask for Subscription.moored: ACCESS = {"Subscription.moored": "moored(…)"} in the tests of its entity.',
        'Say how to come to a Zeppelin: ACCESS = {"Zeppelin": "{ … { * } }"} in the tests of its entity.',
    ]


async def test_changes_nothing_where_it_refuses(world: World):
    await world.idle()
    before = await _everything(world)
    for name, field in ROOTS["Mutation"].items():
        if "$fresh" not in field:
            for viewer in VIEWERS:
                scopes = {scope.value for scope in VIEWERS[viewer]}
                needed = _needed(executable.mutation_type, name)
                if needed is not None and (viewer == "anonymous" or not set(needed) <= scopes):
                    assert code(await world.sees(f"mutation {{ {field} {{ __typename }} }}", viewer)) in {"UNAUTHENTICATED", "FORBIDDEN"}
    assert await _everything(world) == before


@pytest.mark.parametrize(
    "question",
    [
        "subscription { purchaseStatus(id: $purchase) { id } }",
        "{ node(id: $purchase) { id } }",
        "{ node(id: $entry) { id } }",
        "{ node(id: $hermit) { id } }",
        "{ nodes(ids: [$purchase, $entry, $hermit]) { id } }",
    ],
)
async def test_does_not_tell_a_hidden_row_from_none(world: World, question: str):
    of_nothing = re.sub(r"\$(\w+)", r"$no_\1", question)
    assert await world.sees(question, "writer") == await world.sees(of_nothing, "writer")
    assert await world.sees(question, "admin") != await world.sees(of_nothing, "admin")


async def _everything(world: World) -> list[Any]:
    async with world.service.database.reading() as session:
        return [(await session.execute(select(table))).all() for table in Base.metadata.sorted_tables]


def _objects() -> list[GraphQLObjectType]:
    roots = set(ROOTS)
    types = [type_ for name, type_ in executable.type_map.items() if isinstance(type_, GraphQLObjectType) and not name.startswith("__")]
    return sorted((type_ for type_ in types if type_.name not in roots), key=lambda type_: type_.name)


def _ways(name: str) -> tuple[Way, ...]:
    ways = WAYS[name]
    return ways if isinstance(ways, tuple) else (ways,)


async def _root(world: World, name: str) -> str:
    root = executable.type_map[name]
    assert isinstance(root, GraphQLObjectType)
    rows: Rows = []
    for field, definition in root.fields.items():
        asked = f"{name.lower()} {{ value: {ROOTS[name][field]}{_selection(definition.type)} }}"
        needed = _needed(root, field)
        rows.append(
            (
                f"`{field}`",
                "nothing" if needed is None else " ".join(f"`{scope}`" for scope in needed) or "any token",
                *[_shown(await world.sees(asked, viewer), union=name == "Mutation") for viewer in VIEWERS],
            )
        )
    return _table(name, ("field", "asks for", *VIEWERS), rows)


def _shown(answer: dict[str, Any], *, union: bool) -> str:
    if answer.get("errors"):
        return code(answer)
    value = answer["data"]["value"]
    return value["__typename"] if union else _word(value)


async def _type(world: World, name: str, way: Way) -> str:
    type_ = executable.type_map[name]
    assert isinstance(type_, GraphQLObjectType)
    fields = " ".join(f"{field}{_selection(definition.type)}" for field, definition in type_.fields.items())
    asked = way.operation.replace("*", f"{MARK} {fields}")
    people = [way.own if viewer == "owner" else viewer for viewer in VIEWERS]
    columns = [_cells(await world.sees(asked, viewer, before=way.before), type_.fields) for viewer in people]
    rows = [(f"`{field}`", *(column[field] for column in columns)) for field in type_.fields]
    return _table(way.heading or name, ("field", *VIEWERS), _collapsed(rows))


def _cells(answer: dict[str, Any], fields: Iterable[str]) -> dict[str, str]:
    found = marked(answer.get("data"))
    if found is None:
        return dict.fromkeys(fields, code(answer) if "errors" in answer else "no row")
    assert "errors" not in answer, answer
    return {field: _word(found[field]) for field in fields}


def _word(value: Any) -> str:
    if value is None:
        return "null"
    return "empty" if value in ([], {"totalCount": 0}, "0.00") or (type(value) is int and value == 0) else "yes"


async def _rest(world: World) -> str:
    rows: Rows = []
    for route in world.service.app.routes:
        if isinstance(route, Route) and route.path != "/graphql":
            method = "POST" if "POST" in (route.methods or ()) else "GET"
            path = ROUTES.get(route.path, route.path)
            statuses: list[str] = []
            for viewer in VIEWERS:
                files = {"file": (f"{viewer}.txt", b"text")} if method == "POST" else None
                answer = await world.service.http.request(method, path, headers=world.headers(viewer), files=files)
                statuses.append(str(answer.status_code))
            rows.append((f"`{method} {route.path}`", *statuses))
    return _table("REST", ("route", *VIEWERS), rows)


def _selection(type_: Any) -> str:
    named = cast("GraphQLNamedType", get_named_type(type_))
    if not is_composite_type(named):
        return ""
    return " { totalCount }" if named.name.endswith("Connection") else " { __typename }"


def _needed(root: GraphQLObjectType | None, field: str) -> list[str] | None:
    """The scopes that a field of a root asks for, as the schema prints them."""
    assert root is not None
    definition: GraphQLField = root.fields[field]
    declared = definition.extensions["strawberry-definition"].directives
    return None if not declared else [scope.value for scope in declared[0].scopes]


def _collapsed(rows: Rows) -> Rows:
    """One row for all that are alike."""
    fields = dict[tuple[str, ...], list[str]]()
    for field, *cells in rows:
        fields.setdefault(tuple(cells), []).append(field)
    return [(", ".join(names), *cells) for cells, names in fields.items()]


def _table(heading: str, columns: tuple[str, ...], rows: Rows) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join([f"\n## {heading}\n", *(f"| {' | '.join(line)} |" for line in lines), ""])
