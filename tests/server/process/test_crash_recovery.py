"""When something breaks, what was acknowledged is there, what was not is whole or absent, and the service recovers by itself. Redis: test_redis_unavailable."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text

from persistence.kit.events import log as events
from tests.conftest import settings_for
from tests.server.telemetry.test_metrics import labels, samples
from tests.support.endpoints import until
from tests.support.load.resuming_subscribers import Subscriber
from tests.support.load.retrying_clients import BUYERS, NAMES, PURCHASE, STOCK, Shopping, Uploading
from tests.support.servers.databases import Postgres, free_port
from tests.support.servers.processes import Process, serving
from tests.support.service import Service, running

if TYPE_CHECKING:
    from pathlib import Path


async def busy_connections(process: Process) -> float:
    async with httpx.AsyncClient(base_url=process.url) as http:
        found = samples((await http.get("/metrics")).text)
    return sum(found["storegraph_database_connections", labels(pool=pool, state="busy")] for pool in ("write", "stream"))


async def test_postgresql_stopped_for_five_seconds_under_load(tmp_path: Path) -> None:
    """A clear refusal with a code, recovery without a restart, no leaked connection, and no subscriber that missed anything."""
    with Postgres.own() as postgres:
        url = postgres.url.render_as_string(hide_password=False)
        settings = await settings_for("sqlite", tmp_path, database_url=url)
        async with running(settings) as service:
            token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
            start = await cursor_of_now(service)
            with serving(settings, tmp_path, LOG_LEVEL="ERROR") as process:
                shopping = Shopping(process.url, token, item)
                subscriber = Subscriber(process.url.replace("http", "ws") + "/graphql", start)
                listening = asyncio.create_task(subscriber.listen())

                async def stop(shopping: Shopping) -> None:
                    await asyncio.to_thread(postgres.stop)
                    await asyncio.sleep(5)  # The fault itself.
                    await until(lambda: shopping.refusals.total() > 0)
                    await asyncio.to_thread(postgres.start)

                await shopping.meanwhile(stop)
                assert set(shopping.refusals) <= {(503, "SERVICE_UNAVAILABLE"), (200, "SERVICE_UNAVAILABLE")}
                assert shopping.broken == 0
                await shopping.is_kept_by(service)
                await until(lambda: len(subscriber.heard) >= len(shopping.acknowledged))
                listening.cancel()
                assert (len({event["cursor"] for event in subscriber.heard}), subscriber.refusals) == (len(shopping.acknowledged), [])
                async with asyncio.timeout(30):
                    while await busy_connections(process):  # noqa: ASYNC110 -- background work may hold one for a moment
                        await asyncio.sleep(0.05)


async def cursor_of_now(service: Service) -> str:
    async with service.database.reading() as session:
        return events.cursor(await events.identity(session), await events.newest(session))


async def test_killed_in_the_middle_of_purchases_and_uploads(tmp_path: Path) -> None:
    """On PostgreSQL: test_nginx."""
    settings, port = await settings_for("sqlite", tmp_path), free_port()
    async with running(settings) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
        shopping, uploading = Shopping(f"http://127.0.0.1:{port}", token, item), Uploading(f"http://127.0.0.1:{port}", token)
        with ExitStack() as processes:
            process = processes.enter_context(serving(settings, tmp_path, port=port, LOG_LEVEL="ERROR"))

            async def kill(_: Shopping) -> None:
                process.kill()
                another = serving(settings, tmp_path, port=port, LOG_LEVEL="ERROR")
                await asyncio.to_thread(processes.enter_context, another)

            uploads = asyncio.create_task(uploading.upload())
            await shopping.meanwhile(kill)
            uploading.enough = True
            await uploads
        assert shopping.broken > 0
        await shopping.is_kept_by(service)
        await uploading.is_kept_by(service)


@pytest.mark.parametrize(
    "limits",
    [
        {"database_pool_wait_seconds": 1},
        {"operation_timeout_seconds": 1.5},  # Which is met while SQLite waits in its thread.
    ],
)
async def test_sqlite_locked_by_another_writer(tmp_path: Path, limits: dict[str, Any]) -> None:
    """Reads go on, writes wait, and those that waited long enough are told so."""
    async with running(await settings_for("sqlite", tmp_path, **limits)) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
        other = sqlite3.connect(tmp_path / "storegraph.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(service.refused(PURCHASE, {"item": item, "key": str(number)}, token=token)) for number in range(5)]
        began = time.monotonic()
        assert await service.ask(NAMES) == {"items": {"nodes": [{"name": "Kettle"}]}}
        assert await asyncio.gather(*waiting) == ["SERVICE_UNAVAILABLE"] * 5
        assert time.monotonic() - began < 5
        patient = asyncio.create_task(service.ask(PURCHASE, {"item": item, "key": "0"}, token=token))
        await asyncio.sleep(0.1)
        other.close()
        assert (await patient)["purchaseItem"]["__typename"] == "Purchase"
        assert await service.count("purchases", "idempotency_keys") == [1, 1]


async def test_disk_full_under_the_sqlite_file(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    async with running(settings) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
        with serving(settings, tmp_path, LOG_LEVEL="ERROR") as process:
            shopping, log = Shopping(process.url, token, item), tmp_path / "storegraph.db-wal"

            async def fill(shopping: Shopping) -> None:
                resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
                await until(lambda: shopping.refusals.total() >= 3 * BUYERS)
                async with httpx.AsyncClient(base_url=process.url) as http:
                    assert (await http.post("/graphql", json={"query": NAMES})).json() == {
                        "data": {"items": {"nodes": [{"name": "Kettle"}]}}
                    }
                resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

            await shopping.meanwhile(fill)
            assert {code for _, code in shopping.refusals} == {"SERVICE_UNAVAILABLE"}
            assert shopping.broken == 0
        await shopping.is_kept_by(service)
        async with service.database.reading() as session:
            assert await session.scalar(text("PRAGMA integrity_check")) == "ok"


async def test_a_subscriber_that_reads_slowly_holds_nobody_up_and_misses_nothing(service: Service) -> None:
    start = await cursor_of_now(service)
    quick, slow = (Subscriber(service.socket_url, start) for _ in range(2))
    slow.may_read.clear()
    listening = [asyncio.create_task(subscriber.listen()) for subscriber in (quick, slow)]
    for _ in range(20):
        async with service.database.transaction() as work:
            for item in range(100):  # Together 8 MB: more than sockets hold on the way.
                await events.record(work, "item.updated", item + 1, {"fields": ["x" * 4_000]})
    await until(lambda: len(quick.heard) == 2_000)
    assert slow.heard == []
    slow.may_read.set()
    await until(lambda: len(slow.heard) == 2_000)
    for task in listening:
        task.cancel()
    assert slow.heard == quick.heard
    assert (slow.connections, slow.refusals) == (1, [])
