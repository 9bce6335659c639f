"""Whatever hangs, every request is answered within its deadline, and all is as before once it goes on …"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from graph.kit.errors import Refused
from graph.kit.global_ids import row_id
from graph.server.asgi.deadline import Deadline
from persistence.items.table import Item
from persistence.kit.database.database import Change, Database
from persistence.kit.database.executors.statement_executor import PreparedStatement
from persistence.kit.events import log as events
from persistence.kit.transient_errors import is_transient
from tests.conftest import settings_for
from tests.support.clients.every_kind import REQUESTS, UPDATE, Request
from tests.support.clients.websocket_subscriber import listening
from tests.support.endpoints import Wire
from tests.support.servers.databases import Postgres, Redis
from tests.support.servers.silent_network import silent_proxy
from tests.support.service import Service, running

SECONDS = 1.5  # The deadline of an operation.
WELL_SECONDS = 2  # After which nothing may show that there was an outage,
BUSY_SECONDS = 8  # but for a machine that takes so long for some requests of each kind; what nobody gave up takes longer.
HURRY: dict[str, Any] = {
    "operation_timeout_seconds": SECONDS,
    "database_read_timeout_seconds": 0.5,
    "database_connect_timeout_seconds": 0.5,
    "database_pool_wait_seconds": 0.5,
    "database_statement_timeout_ms": 1_000,
    "response_cache_enabled": False,
}
EVENTS = "subscription ($after: String!) { itemEvents(after: $after) { __typename } }"


async def timed(request: Request, service: Service, token: str, item: str) -> tuple[tuple[int, str], float]:
    began = time.monotonic()
    answer = await request(service.http, token, item)
    return answer, time.monotonic() - began


async def all_at_once(service: Service, token: str, item: str, *, times: int) -> tuple[dict[str, Counter[tuple[int, str]]], float]:
    """How requests of each kind are answered, and how long the slowest took."""
    names = [name for name in REQUESTS for _ in range(times)]
    answers = await asyncio.gather(*(timed(REQUESTS[name], service, token, item) for name in names))
    counted: dict[str, Counter[tuple[int, str]]] = {name: Counter() for name in REQUESTS}
    for name, (answer, _) in zip(names, answers, strict=True):
        counted[name][answer] += 1
    return counted, max(seconds for _, seconds in answers)


WELL = {name: Counter({(201 if name == "upload" else 200, "ok"): 1}) for name in REQUESTS}


async def becomes_well(service: Service, token: str, item: str) -> None:
    """By itself, two seconds after the end of an outage at the latest."""
    async with asyncio.timeout(WELL_SECONDS + BUSY_SECONDS):
        while (await all_at_once(service, token, item, times=1))[0] != WELL:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.1)


async def no_connection_is_busy(service: Service) -> None:
    async with asyncio.timeout(5):
        while any(use.busy for use in service.database.pools().values()):  # noqa: ASYNC110 -- background work has one for a moment
            await asyncio.sleep(0.01)


@asynccontextmanager
async def hurried(folder: Path, **overrides: Any) -> AsyncGenerator[tuple[Service, str, str]]:
    async with running(await settings_for("sqlite", folder, **HURRY | overrides)) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=1_000)
        await becomes_well(service, token, item)
        yield service, token, item


async def hears_of_a_change(service: Service, heard: asyncio.Future[Any], item: str, token: str) -> None:
    await service.ask(UPDATE, {"id": item, "key": f"{time.monotonic_ns()}"}, token=token)
    assert (await asyncio.wait_for(heard, 10))["__typename"] == "ItemUpdated"


async def cursor_of_now(service: Service) -> str:
    async with service.database.reading() as session:
        return events.cursor(await events.identity(session), await events.newest(session))


def refusals(times: int) -> dict[str, Counter[tuple[int, str]]]:
    return {name: Counter({(503, "SERVICE_UNAVAILABLE"): times}) for name in REQUESTS}


async def outlived(service: Service, token: str, item: str, hang: Callable[[], object], go_on: Callable[[], object]) -> None:
    """Requests of every kind, and a subscriber, while the database hangs and after it."""
    process = psutil.Process()
    async with listening(service, EVENTS, {"after": await cursor_of_now(service)}) as listener:
        heard = asyncio.ensure_future(listener.next())
        await hears_of_a_change(service, heard, item, token)
        heard, before = asyncio.ensure_future(listener.next()), process.num_fds()
        hang()
        try:
            for _ in range(2):
                answered, slowest = await all_at_once(service, token, item, times=10)
                assert answered == refusals(10)
                assert slowest < SECONDS + BUSY_SECONDS
            assert process.num_fds() < before + 200
        finally:
            go_on()
        await becomes_well(service, token, item)
        assert (await asyncio.wait_for(heard, 10))["__typename"] in {"ItemUpdated", "ItemPurchased"}
    await no_connection_is_busy(service)


async def test_frozen_postgresql(tmp_path: Path) -> None:
    with Postgres.own() as postgres:
        url = postgres.url.render_as_string(hide_password=False)
        async with hurried(tmp_path, database_url=url) as (service, token, item):
            await outlived(service, token, item, postgres.pause, postgres.resume)


async def test_a_network_that_swallows_what_goes_to_postgresql(tmp_path: Path) -> None:
    with Postgres.own() as postgres:
        async with silent_proxy(postgres.port) as proxy:
            url = postgres.url.set(port=proxy.port).render_as_string(hide_password=False)
            async with hurried(tmp_path, database_url=url) as (service, token, item):
                await outlived(service, token, item, proxy.fall_silent, proxy.speak)


async def test_frozen_redis(tmp_path: Path) -> None:
    """It is used without a deadline of an operation's length: nobody waits longer than a second for it."""
    with Redis.own() as redis, Postgres.own() as postgres:
        url = postgres.url.render_as_string(hide_password=False)
        used = {"database_url": url, "redis_url": redis.url, "rate_limits_enabled": True, "response_cache_enabled": True}
        limits = {"operation_timeout_seconds": 5.0, "database_read_timeout_seconds": 2.0}
        async with hurried(tmp_path, **used, **limits) as (service, token, item):
            redis.pause()
            for _ in range(2):
                answered, slowest = await all_at_once(service, token, item, times=3)
                assert answered == {name: Counter({next(iter(WELL[name])): 3}) for name in REQUESTS}
                assert slowest < 5
            redis.resume()
            await becomes_well(service, token, item)
            async with asyncio.timeout(10):
                while (await service.http.get("/ready")).json()["status"] != "ok":  # noqa: ASYNC110 -- nobody tells
                    await asyncio.sleep(0.1)


SLOW = """
WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 1000000000) SELECT count(*) FROM counted
"""


async def test_a_read_that_takes_too_long_is_stopped(service: Service) -> None:
    """On either engine, on the ORM's connections and on the direct ones, and nobody else waits for it afterwards."""
    pool = service.settings.pool
    database = Database.connect(service.settings.database_url, pool=replace(pool, read_seconds=0.3))
    try:
        for _ in range(2):
            with pytest.raises((TimeoutError, DBAPIError)) as stopped:
                async with database.reading() as session:
                    await session.execute(text(SLOW))
            assert is_transient(stopped.value)
            with pytest.raises((asyncpg.QueryCanceledError, sqlite3.OperationalError)) as stopped_too:
                await (await database.executor()).fetch(PreparedStatement(SLOW, (), {}), {})
            assert is_transient(stopped_too.value)
        assert [tuple(row) for row in await (await database.executor()).fetch(PreparedStatement("SELECT 1", (), {}), {})] == [(1,)]
        async with database.reading() as session:
            assert await session.scalar(text("SELECT 1")) == 1
        await nothing_runs(database)
    finally:
        await database.close()


async def nothing_runs(database: Database) -> None:
    """No statement of ours goes on in the server."""
    if database.dialect == "sqlite":
        return
    count = PreparedStatement(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%counted%' AND pid <> pg_backend_pid()", (), {}
    )
    async with asyncio.timeout(10):
        while [tuple(row) for row in await (await database.executor()).fetch(count, {})] != [(0,)]:  # noqa: ASYNC110 -- it ends in another process
            await asyncio.sleep(0.02)


async def test_a_read_is_cancelled_with_whoever_waits_for_it(service: Service) -> None:
    database = Database.connect(service.settings.database_url, pool=replace(service.settings.pool, read_seconds=60))
    try:
        rows = await database.executor()
        reading = asyncio.create_task(rows.fetch(PreparedStatement(SLOW, (), {}), {}))
        executing = asyncio.create_task(executed(database))
        await asyncio.sleep(0.1)  # It has begun by then, or is refused before: both are an end.
        for task in (reading, executing):
            task.cancel()
        await asyncio.wait([reading, executing])
        async with asyncio.timeout(10):
            await rows.fetch(PreparedStatement("SELECT 1", (), {}), {})
            async with database.reading() as session:
                await session.scalar(text("SELECT 1"))
        await nothing_runs(database)
    finally:
        async with asyncio.timeout(10):
            await database.close()


async def executed(database: Database) -> None:
    async with database.reading() as session:
        await session.execute(text(SLOW))


async def test_a_query_ends_with_its_client(service: Service) -> None:
    """A client that closes its connection while its query runs needs no answer."""
    gone, running_ = asyncio.Event(), asyncio.Event()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(service.app.state.pipeline, name)

        async def run(self, *_: Any) -> Any:
            running_.set()
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

    received = asyncio.Queue[Any]()
    body = json.dumps({"query": "{ __typename }"}).encode()
    received.put_nowait({"type": "http.request", "body": body, "more_body": False})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    endpoint = Wire(service).http(Slow())
    asked = asyncio.create_task(endpoint(scope_of("POST"), received.get, send))
    await running_.wait()
    received.put_nowait({"type": "http.disconnect"})
    async with asyncio.timeout(10):
        await gone.wait()
        await asked
    assert sent == []


def scope_of(method: str) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    return {
        "type": "http",
        "method": method,
        "path": "/graphql",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "state": {},
    }


@pytest.mark.parametrize(("committed", "outcome"), [("before", "NOT_COMMITTED"), ("during", "UNKNOWN"), ("after", "COMMITTED")])
async def test_says_what_has_become_of_a_change(service: Service, committed: str, outcome: str) -> None:
    """Nothing cuts a commit in two: what was refused in the middle of one is there afterwards, and its listeners hear of it."""
    hang, heard = asyncio.Event(), asyncio.Event()
    item = row_id("Item", await service.make_item("Kettle"))
    assert item is not None

    async def hear(changes: Any) -> None:
        heard.set()

    async def change() -> None:
        async with service.database.transaction() as work:
            await work.session.execute(update(Item).where(Item.id == item).values(name="Pan"))
            work.changes.append(Change("item.updated", item))
            if committed == "during":
                commit = work.session.commit

                async def late() -> None:
                    await hang.wait()
                    await commit()

                work.session.commit = late  # A database that hangs in the middle of it.
            if committed == "before":
                await hang.wait()
        await hang.wait()

    service.database.listen(hear)
    with pytest.raises(Refused) as refused, Deadline(0.3):
        await change()
    assert refused.value.errors[0].extensions == {"code": "SERVICE_UNAVAILABLE", "outcome": outcome}
    hang.set()
    if committed != "before":
        await asyncio.wait_for(heard.wait(), 10)
    async with asyncio.timeout(10), service.database.transaction() as work:  # As soon as nobody else writes.
        name = await work.session.scalar(select(Item.name).where(Item.id == item))
    assert name == ("Kettle" if committed == "before" else "Pan")
    service.database._listeners.remove(hear)  # pyright: ignore[reportPrivateUsage] -- nobody else stops listening
