"""An import whose process is killed, and run again …"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import func, select

from persistence.items import file_import
from persistence.items.table import Item
from persistence.kit.events.log import Event
from persistence.kit.imports.file_rows import Match
from persistence.kit.imports.file_sync import FileSync, SyncOptions
from tests.conftest import settings_for
from tests.support.servers import processes
from tests.support.servers.processes import serving
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

KILLED_RUNS = (sys.executable, "-m", "tests.support.servers.killed_runs")
POINTS = "2,6,9"  # Within the first batch, and after it; and later again.


def feed(rows: range, price: int) -> bytes:
    return b"externalId,name,price\n" + b"".join(b"%d,Item %d,%d\n" % (number, number, price) for number in rows)


async def catalogue(service: Service) -> tuple[list[tuple[int, int, int]], dict[str, int]]:
    """External ids, prices and versions of the items, and how many events of each kind there were."""
    async with service.database.reading_latest() as session:
        rows = await session.scalars(select(Item).where(Item.deleted_at.is_(None)))
        counts = select(Event.kind, func.count()).where(Event.kind.like("item.%")).group_by(Event.kind)
        events = {str(kind): int(count) for kind, count in await session.execute(counts)}
    return sorted((int(item.external_id or 0), int(item.price), item.version) for item in rows), events


async def sync(service: Service, content: bytes) -> None:
    async for _ in FileSync(service.database, file_import.IMPORT, SyncOptions(Match.KEY)).run(
        file_import.from_csv(io.BytesIO(content), match=Match.KEY)
    ):
        pass


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_does_each_row_once_at_the_command_line(backend: str, tmp_path: Path) -> None:
    settings = await settings_for(backend, tmp_path)
    async with running(settings) as service:
        await sync(service, feed(range(700), 1))
        (tmp_path / "feed.csv").write_bytes(feed(range(200, 1_500), 2))
        arguments = (POINTS, "import", "feed.csv", "--match", "external-id", "--delete-missing")
        done = await asyncio.to_thread(processes.run, settings, tmp_path, *arguments, program=KILLED_RUNS)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "killed 3 times"), done
        assert await catalogue(service) == (
            [*((number, 2, 2) for number in range(200, 700)), *((number, 2, 1) for number in range(700, 1_500))],
            {"item.created": 1_500, "item.updated": 500, "item.deleted": 200},
        )
        assert done.stdout.count("Plan: ") == 4


async def imported(url: str, content: bytes, query: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """The report, once a server has lived to its end: until then the client sends the file again."""
    async with asyncio.timeout(120), httpx.AsyncClient(base_url=url, timeout=60) as http:
        while True:
            try:
                answer = await http.post(f"/api/v2/import/items{query}", content=content, headers={"Content-Type": "text/csv", **headers})
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code == 200, answer.text
            return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_does_each_row_once_over_http(backend: str, tmp_path: Path) -> None:
    settings = await settings_for(backend, tmp_path)
    async with running(settings) as service:
        headers = {"Authorization": f"Bearer {await service.sign_in()}"}
        with serving(settings, tmp_path, program=(*KILLED_RUNS, POINTS), LOG_LEVEL="ERROR") as process:
            report = await imported(process.url, feed(range(2_200), 1), "", headers | {"Idempotency-Key": "night"})
            assert report[-1] == {"outcome": "DONE", "created": 2_200, "updated": 0, "unchanged": 0, "deleted": 0, "refused": 0}
            process.stop()
        assert process.log.read_text().splitlines()[-1] == "killed 3 times"
        assert await catalogue(service) == ([(number, 1, 1) for number in range(2_200)], {"item.created": 2_200})
