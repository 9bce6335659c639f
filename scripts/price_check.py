"""Compares prices with work: documents of every kind are generated from the schema, run, and their processor time is divided by their points.

What is generated: each root field with each of its arguments' heavy values, its leaves, its count, its lists nested as deep as the limits allow, alone
and under as many aliases as a document may have; and each mutation that anybody may try. Each runs as a document that is known, and as one that is new each
time. The time is that of this process, its threads and the database's
own processes. Exit code 1, if something takes more than WORST times the time of the plain page for a point.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import orjson
import psutil
import structlog
from graphql import GraphQLField, GraphQLObjectType, is_composite_type
from sqlalchemy import select, text

from graph.kit.auth import Caller, Principal, Scope
from graph.kit.errors import Refused
from graph.kit.limits.cost_rules import is_list, notation, type_name
from graph.schema import executable
from graph.server.app import create_app
from graph.server.graphql.budget import NEW_DOCUMENT_POINTS
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.requests import GraphQLRequest
from graph.server.process.server import settle
from graph.server.settings import Settings, load
from persistence import users
from persistence.items import table as items
from persistence.kit.column_types import utc_now
from persistence.kit.database.database import Database
from persistence.kit.limits.moving_window import MovingWindow, UnlimitedWindow

WORST = 3.0
LEAST_SECONDS = 0.06  # Of processor time for each document: the kernel counts a database's in hundredths.
MOST_RUNS = 200
AGAIN = (
    4  # Times that what seems too dear is measured: other programs of the machine make work take longer, and nothing makes it take less.
)
ALIASES = 30
MANY_TIMES = ("", "count", "empty")
DEPTHS = (1, 7)
NEW, NUMBERS = ", new", itertools.count()
MAX_COST = Settings.model_fields["max_cost"].default
PLAIN = "{ items(first: 50) { nodes { id name description price tags inventory inStock version owner { username fullName } } } }"

NO_TAGS = "[" + ", ".join(f'"no such tag {number}"' for number in range(20)) + "]"
SEARCHES = ('"a"', '"ka"', '"zzzz"', '"a e i o"')
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "search": SEARCHES,
    "filter": (
        f"{{tagsAll: {NO_TAGS}}}",
        f"{{tagsAny: {NO_TAGS}}}",
        '{tagsAll: ["no such tag"], inStock: true, priceMin: "0.01"}',
        '{priceMin: "9999999"}',
        '{createdAfter: "2999-01-01T00:00:00Z"}',
        '{createdBefore: "1999-01-01T00:00:00Z", priceMax: "100"}',
        '{inStock: false, priceMin: "1", priceMax: "2"}',
        "{status: CANCELLED}",
        '{status: QUEUED, buyerId: "{user}", createdAfter: "1999-01-01T00:00:00Z"}',
        '{itemId: "{item}", sellerId: "{user}"}',
    ),
    "orderBy": ("{field: NAME}", "{field: INVENTORY, direction: DESC}", "{field: CREATED_AT, direction: DESC}"),
    "first": ("50",),
    "n": ("20000", "1000"),
    "page": ("1000",),
    "pageSize": ("100",),
    "by": ("DAY", "MONTH"),
    "username": ('"ada"',),
    "document": ('"{ items { nodes { id } } }"',),
}
REQUIRED: Mapping[str, str] = {
    "id": '"{item}"',
    "ids": "[" + ", ".join(['"{item}", "{user}"'] * 25) + "]",
    "n": "20000",
    "username": '"ada"',
    "from": '"2025-01-01T00:00:00Z"',
    "to": '"2026-12-01T00:00:00Z"',
}
FURTHER = (
    "{ me { logins { id client } } }",
    "{ me { logins { id } items { nodes { owner { logins { id } } } } } }",
    '{ node(id: "{user}") { ... on User { username } } }',
)
MUTATIONS = (
    'mutation { token(username: "ada", password: "not the password") { __typename } }',
    'mutation { signup(input: {username: "ada", password: "correct horse battery"}) { __typename } }',
    'mutation { refreshToken(refreshToken: "none") { __typename } }',
    'mutation { revokeToken(token: "none") { __typename } }',
    'mutation { sendEcho(channel: "a", message: "hello") { text } }',
)


@dataclass(frozen=True)
class Measured:
    name: str
    points: int
    milliseconds: float

    @property
    def per_point(self) -> float:
        """Microseconds."""
        return 1_000 * self.milliseconds / self.points


def documents() -> Iterator[tuple[str, str]]:
    """Names and texts."""
    query = executable.query_type
    assert query is not None
    for name, field in query.fields.items():
        for argued in arguments(field):
            for kind, selection in selections(field):
                call = f"{name}{argued}{selection}"
                label = f"{name}{argued[:60]} {kind}"
                yield label, f"{{ {call} }}"
                if kind in MANY_TIMES:
                    yield f"{ALIASES} × {label}", "{ " + " ".join(f"a{number}: {call}" for number in range(ALIASES)) + " }"
    yield from ((mutation[:50], mutation) for mutation in (*FURTHER, *MUTATIONS))


def arguments(field: GraphQLField) -> Iterator[str]:
    needed = {name: REQUIRED[name] for name, argument in field.args.items() if notation(argument).endswith("!") and name in REQUIRED}
    yield output(needed)
    for name in field.args:
        for value in ARGUMENTS.get(name, ()):
            yield output(needed | {name: value})
            if name in ("search", "filter") and "orderBy" in field.args:
                yield output(needed | {name: value, "orderBy": "{field: NAME, direction: DESC}"})


def output(supplied: Mapping[str, str]) -> str:
    return f"({', '.join(f'{name}: {value}' for name, value in supplied.items())})" if supplied else ""


def selections(field: GraphQLField) -> Iterator[tuple[str, str]]:
    named = executable.type_map[type_name(field)]
    if not is_composite_type(named):
        yield "", ""
        return
    if isinstance(named, GraphQLObjectType) and "totalCount" in named.fields:
        yield "count", " { totalCount }"
        yield "empty", " { pageInfo { hasNextPage } }"
    for depth in DEPTHS:
        yield f"depth {depth}", below(named, depth)


def below(type_: Any, depth: int) -> str:
    if not isinstance(type_, GraphQLObjectType):
        members = "".join(f" ... on {each.name}{below(each, depth)}" for each in executable.get_possible_types(type_))
        return f" {{ __typename{members} }}"
    found = ["__typename"]
    for name, field in type_.fields.items():
        named = executable.type_map[type_name(field)]
        if not is_composite_type(named):
            found.append(name)
        elif depth > 1 and not (type_.name.endswith("Connection") and name == "nodes"):
            sized = "(first: 5)" if "first" in field.args and not is_list(field) else ""
            found.append(f"{name}{sized}{below(named, depth - 1)}")
    return f" {{ {' '.join(found)} }}"


class Meter:
    """Processor time of this process and of the database's."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def seconds(self) -> float:
        total = time.process_time()
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):  # A connection was closed: what it took is not counted.
                used = process.cpu_times()
                total += used.user + used.system
        return total


async def main() -> int:
    settings = load(
        debug=False,
        secret_key="p" * 40,
        response_cache_enabled=False,
        budget_points=2_000_000_000,
        budget_points_per_second=1e9,
        log_level="ERROR",
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    app = create_app(settings, {MovingWindow: UnlimitedWindow()})
    async with app.router.lifespan_context(app):
        database: Database = app.state.services.database
        caller, filled = await buyer(database)
        worst = 0.0
        settle()
        for who, asking in (("anonymous", Caller(None, "192.0.2.1", "")), ("signed in", caller)):
            worst = max(worst, await compared(app.state.pipeline, database, who, asking, filled))
    return int(worst > WORST)


async def buyer(database: Database) -> tuple[Caller, dict[str, str]]:
    """A user with every right, and ids to ask for."""
    from graph.kit.global_ids import global_id

    if database.dialect == "postgresql":
        async with database.engines[0].connect() as connection:  # As autovacuum does within a minute or two of a large import.
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE"))
    async with database.reading() as session:
        user = (await session.scalars(select(users.User).order_by(users.User.id).limit(1))).one()
        item = (await session.scalars(select(items.Item.id).limit(1))).one()
    principal = Principal(user.id, user.username, frozenset(Scope), utc_now(), "token")
    return Caller(principal, "192.0.2.1", ""), {"{item}": global_id("Item", item), "{user}": global_id("User", user.id)}


async def compared(pipeline: Pipeline, database: Database, who: str, caller: Caller, filled: Mapping[str, str]) -> float:
    async def one(name: str, document: str) -> Measured | None:
        return await (measured_new if name.endswith(NEW) else measured)(pipeline, database, name, document, caller)

    plain = await one("plain page of 50", PLAIN)
    assert plain is not None
    for _ in range(AGAIN):
        plain = await cheapest(plain, one, PLAIN)
    found = list[Measured]()
    requested = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, document in documents():
        for mark, id_ in filled.items():
            document = document.replace(mark, id_)  # noqa: PLW2901
        for each in (name, name + NEW) if requested in name else ():
            if (best := await one(each, document)) is None:
                continue
            for _ in range(AGAIN):
                if best.per_point > WORST * plain.per_point:
                    best = await cheapest(best, one, document)
            found.append(best)
    found.sort(key=lambda one: one.per_point, reverse=True)
    print(
        f"\n{who}, {database.dialect}: {len(found)} documents; plain page: {plain.points} points, {plain.milliseconds:.2f} ms, {plain.per_point:.1f} µs a point"
    )
    for best in found[:25]:
        print(f"  {best.per_point / plain.per_point:6.2f} × {best.points:6} points {best.milliseconds:9.2f} ms  {best.name}", flush=True)
    return found[0].per_point / plain.per_point


async def cheapest(best: Measured, measure: Callable[[str, str], Awaitable[Measured | None]], document: str) -> Measured:
    other = await measure(best.name, document)
    return best if other is None else min(best, other, key=lambda one: one.per_point)


async def measured(pipeline: Pipeline, database: Database, name: str, document: str, caller: Caller) -> Measured | None:
    """None, if it is refused or fails."""
    request = GraphQLRequest(query=document, extensions={"cost": True})
    try:
        operation = await pipeline.prepare(request, caller)
        answer: Any = orjson.loads((await pipeline.run(operation, request, caller)).body)
    except Refused:
        return None
    if answer.get("data") is None or any(value is None for value in cast("dict[str, Any]", answer["data"]).values()):
        return None
    # The first time plans are made and pages read; connections may have been opened for it.
    meter, runs = Meter(await backends(database)), 0
    began = now = meter.seconds()
    while now - began < LEAST_SECONDS and runs < MOST_RUNS:
        await pipeline.run(operation, request, caller)
        runs, now = runs + 1, meter.seconds()
    return Measured(name, answer["extensions"]["cost"]["actual"], 1_000 * (now - began) / runs)


async def measured_new(pipeline: Pipeline, database: Database, name: str, document: str, caller: Caller) -> Measured | None:
    """Of texts that were never seen, whose forms are known. None, if it is refused."""
    meter, runs, points = Meter(await backends(database)), 0, 0
    began = now = meter.seconds()
    try:
        while now - began < LEAST_SECONDS and runs < MOST_RUNS:
            request = GraphQLRequest(query=f"{document}#{next(NUMBERS)}", extensions={"cost": True})
            answer: Any = orjson.loads((await pipeline.run(await pipeline.prepare(request, caller), request, caller)).body)
            points = answer["extensions"]["cost"]["actual"] + NEW_DOCUMENT_POINTS + min(len(document), MAX_COST)
            runs, now = runs + 1, meter.seconds()
    except Refused:
        return None
    return Measured(name, points, 1_000 * (now - began) / runs)


async def backends(database: Database) -> list[int]:
    if database.dialect != "postgresql":
        return []
    async with database.reading() as session:
        return list(
            (
                await session.scalars(
                    text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'")
                )
            ).all()
        )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
