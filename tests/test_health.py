"""What supervisors ask."""

from __future__ import annotations

from sqlalchemy import text

from tests.service import Service


async def test_lives_and_is_ready(service: Service) -> None:
    assert (await service.http.get("/live")).json() == {"status": "ok"}
    for path in ("/ready", "/api/v2/health"):
        answer = await service.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": True, "migrated": True})
    assert await service.ask("{ health { status database migrated } }") == {"health": {"status": "OK", "database": True, "migrated": True}}


async def test_is_not_ready_on_the_tables_of_another_version(service: Service) -> None:
    async with service.database.transaction() as work:
        found = await work.session.scalar(text("SELECT version_num FROM alembic_version"))
        await work.session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = await service.http.get("/ready")
    async with service.database.transaction() as work:
        await work.session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    assert (answer.status_code, answer.json()) == (503, {"status": "down", "database": True, "migrated": False})
