"""What supervisors ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from sqlalchemy import text
from starlette.applications import Starlette

from graph.server.graphql.budget import HELD_SECONDS
from graph.server.rest import health
from graph.server.rest.health import HealthRoutes
from persistence import health_checks
from persistence.health_checks import HealthChecks, HealthReport
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.limits.token_bucket import Budget
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.service import Service, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

HEALTH = "{ health { status database migrated files redis draining } }"


def told(service: Service, **changed: Any) -> dict[str, Any]:
    redis = None if service.settings.redis_url is None else True
    return {"status": "ok", "database": True, "migrated": True, "files": True, "redis": redis, "draining": False, **changed}


KEPT = {name: getattr(health_checks, name) for name in ("CACHE_SECONDS", "TROUBLE_SECONDS")}


@pytest.fixture(autouse=True)
def _unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a new one, instead of a wait for the second to be over, and is waited for on a busy machine, too."""
    for name in KEPT:
        monkeypatch.setattr(health_checks, name, 0.0)
    monkeypatch.setattr(health_checks, "PROMPT_SECONDS", 60.0)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, _unkept: None) -> None:
    for name, seconds in KEPT.items():
        monkeypatch.setattr(health_checks, name, seconds)


async def test_lives_and_is_ready(service: Service) -> None:
    assert (await service.http.get("/live")).json() == {"status": "ok"}
    for path in ("/ready", "/api/v2/health"):
        answer = await service.http.get(path)
        assert (answer.status_code, answer.json()) == (200, told(service))
    assert await service.ask(HEALTH) == {"health": told(service, status="OK")}


async def test_lives_without_a_look_at_anything(service: Service, statements: Callable[[], AbstractContextManager[list[str]]]) -> None:
    with statements() as sent:
        assert (await service.http.get("/live")).status_code == 200
    assert sent == []


async def test_is_not_ready_on_the_tables_of_another_version(service: Service) -> None:
    async with service.database.transaction() as work:
        found = await work.session.scalar(text("SELECT version_num FROM alembic_version"))
        await work.session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = await service.http.get("/ready")
    async with service.database.transaction() as work:
        await work.session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    assert (answer.status_code, answer.json()) == (503, told(service, status="down", migrated=False))


async def test_is_not_ready_while_it_drains(service: Service) -> None:
    connections = service.app.state.connections
    connections.draining = True
    answer, live = await service.http.get("/ready"), await service.http.get("/live")
    connections.draining = False
    assert (answer.status_code, answer.json()) == (503, told(service, status="down", draining=True))
    assert live.status_code == 200
    assert (await service.http.get("/ready")).status_code == 200


async def becomes(service: Service, report: dict[str, Any]) -> None:
    """Each look has a time-out, which a server that has just started may need more of."""
    async with asyncio.timeout(60):
        while (await service.http.get("/ready")).json() != report:  # noqa: ASYNC110 -- a server tells nobody
            await asyncio.sleep(0.05)


async def test_is_degraded_without_its_redis_and_not_without_any(tmp_path: Path) -> None:
    with databases.Redis.own() as redis:
        settings = await settings_for("sqlite", tmp_path, redis_url=redis.url)
        async with running(settings) as service:
            assert (await service.http.get("/ready")).json() == told(service)
            redis.stop()
            answer = await service.http.get("/ready")
            assert (answer.status_code, answer.json()) == (200, told(service, status="degraded", redis=False))
            redis.start()
            await becomes(service, told(service))


async def test_is_degraded_without_a_place_for_files(service: Service) -> None:
    service.folder.parent.mkdir(parents=True, exist_ok=True)
    service.folder.write_text("no folder")
    answer = await service.http.get("/ready")
    service.folder.unlink()
    assert (answer.status_code, answer.json()) == (200, told(service, status="degraded", files=False))
    assert (await service.http.get("/ready")).json() == told(service)


async def test_is_down_without_its_database(tmp_path: Path) -> None:
    with databases.Postgres.own() as postgres:
        database_url = await databases.create_database(postgres.url, "health")
        settings = await settings_for("sqlite", tmp_path, database_url=database_url)
        async with running(settings) as service:
            assert (await service.http.get("/ready")).json() == told(service)
            postgres.stop()
            answer = await service.http.get("/ready")
            assert (answer.status_code, answer.json()) == (503, told(service, status="down", database=False, migrated=False))
            assert (await service.http.get("/live")).status_code == 200
            postgres.start()
            await becomes(service, told(service))


class Looks(Blobs):
    """Counts the looks at the files, which go on until they are let go."""

    def __init__(self) -> None:
        self.looks, self.lost, self.begun, self.gate = 0, False, asyncio.Event(), asyncio.Event()

    async def check(self) -> None:
        self.looks += 1
        self.begun.set()
        await self.gate.wait()
        if self.lost:
            raise FileNotFoundError

    async def write(self, key: str, parts: object) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        yield b""

    async def older_than(self, age: object) -> AsyncGenerator[str]:
        yield ""


@pytest.mark.usefixtures("kept")
async def test_is_looked_at_once_a_second_however_many_ask(embedded: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    files, now, draining = Looks(), 0.0, False
    vitals = HealthChecks(embedded.database, files, None, draining=lambda: draining, clock=lambda: now)
    whole = HealthReport(database=True, migrated=True)
    asking = [asyncio.create_task(vitals.run()) for _ in range(50)]
    await files.begun.wait()
    asking[0].cancel()  # Whoever came first went away.
    now = 5.0
    files.gate.set()
    assert await asyncio.gather(*asking[1:]) == [whole] * 49
    now = 5.99
    assert (await vitals.run(), files.looks) == (whole, 1)
    draining = True  # Known without a look.
    assert (await vitals.run()).draining
    now = 6.0
    await vitals.run()
    assert files.looks == 2
    # While a look takes long, what was known is told, but not for ever.
    files.gate.clear()
    monkeypatch.setattr(health_checks, "PROMPT_SECONDS", 0.0)
    draining, now = False, 8.0
    assert (await vitals.run(), files.looks) == (whole, 3)
    now = 9.0
    waiting = asyncio.create_task(vitals.run())
    await asyncio.sleep(0)
    assert not waiting.done()
    files.lost = True
    files.gate.set()
    assert await waiting == replace(whole, files=False)
    files.lost, now = True, 9.1
    monkeypatch.setattr(health_checks, "PROMPT_SECONDS", 60.0)
    assert await vitals.run() == replace(whole, files=False)
    now = 9.14
    assert ((await vitals.run()).files, files.looks) == (False, 4)
    files.lost, now = False, 9.16
    assert (await vitals.run(), files.looks) == (whole, 5)


@pytest.mark.parametrize("path", ["/ready", "/api/v2/health"])
async def test_costs_no_statement_while_it_is_kept(
    service: Service, path: str, statements: Callable[[], AbstractContextManager[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await service.http.get(path)).status_code == 200
    monkeypatch.setattr(health_checks, "CACHE_SECONDS", 60.0)
    with statements() as sent:
        answers = await asyncio.gather(*(service.http.get(path) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert sent == []


async def test_holds_up_who_asks_too_often_and_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []

    async def hold(seconds: float) -> None:
        held.append(seconds)

    async def look() -> HealthReport:
        return HealthReport(database=True, migrated=True)

    monkeypatch.setattr(health, "asyncio", SimpleNamespace(sleep=hold))  # Not the module's own: servers of other tests sleep by it.
    monkeypatch.setattr(health, "PROBES", Budget(capacity=200, per_second=1e-6))
    vitals = cast("HealthChecks", type("Well", (), {"run": staticmethod(look)}))
    for limited in (True, False):
        app = Starlette(routes=HealthRoutes(vitals, limited=limited).routes)
        for address in ("192.0.2.1", "2001:db8::1"):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://shop.test") as client:
                held.clear()
                answers = [await client.get(path) for path in ("/live", "/ready", "/api/v2/health") * 200]
            assert {answer.status_code for answer in answers} == {200}
            assert held == ([HELD_SECONDS] * 400 if limited else [])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=("192.0.2.9", 1)), base_url="http://shop.test") as client:
        held.clear()
        assert (await client.get("/ready")).status_code == 200
    assert held == []
