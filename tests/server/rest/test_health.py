"""What supervisors ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from tests.conftest import settings_for
from tests.support import servers
from tests.support.service import Service, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

HEALTH = "{ health { status database migrated files redis draining } }"


def told(service: Service, **changed: Any) -> dict[str, Any]:
    redis = None if service.settings.redis_url is None else True
    return {"status": "ok", "database": True, "migrated": True, "files": True, "redis": redis, "draining": False, **changed}


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


async def test_is_degraded_without_its_redis_and_not_without_any(tmp_path: Path) -> None:
    with servers.Redis.own() as redis:
        settings = await settings_for("sqlite", tmp_path, redis_url=redis.url)
        async with running(settings) as service:
            assert (await service.http.get("/ready")).json() == told(service)
            redis.stop()
            answer = await service.http.get("/ready")
            assert (answer.status_code, answer.json()) == (200, told(service, status="degraded", redis=False))
            redis.start()
            assert (await service.http.get("/ready")).json() == told(service)


async def test_is_degraded_without_a_place_for_files(service: Service) -> None:
    service.folder.parent.mkdir(parents=True, exist_ok=True)
    service.folder.write_text("no folder")
    answer = await service.http.get("/ready")
    service.folder.unlink()
    assert (answer.status_code, answer.json()) == (200, told(service, status="degraded", files=False))
    assert (await service.http.get("/ready")).json() == told(service)


async def test_is_down_without_its_database(tmp_path: Path) -> None:
    with servers.Postgres.own() as postgres:
        database_url = await servers.create_database(postgres.url, "health")
        settings = await settings_for("sqlite", tmp_path, database_url=database_url)
        async with running(settings) as service:
            assert (await service.http.get("/ready")).json() == told(service)
            postgres.stop()
            answer = await service.http.get("/ready")
            assert (answer.status_code, answer.json()) == (503, told(service, status="down", database=False, migrated=False))
            assert (await service.http.get("/live")).status_code == 200
            postgres.start()
            assert (await service.http.get("/ready")).json() == told(service)
