"""A backup …"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from graph.kit.global_ids import row_id
from persistence.items.table import Item
from persistence.kit import backups
from persistence.kit.events import log as events
from persistence.purchases.table import Purchase
from tests.conftest import settings_for
from tests.support.clients.websocket_subscriber import listening
from tests.support.command_line import run
from tests.support.load.retrying_clients import PURCHASE, STOCK, Shopping
from tests.support.servers import databases
from tests.support.servers.processes import serving
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

GAP = "subscription ($after: String!) { itemEvents(after: $after) { __typename ... on Gap { reason } } }"


def found(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def test_is_whole_while_the_service_writes_and_brings_the_service_back(tmp_path: Path) -> None:
    settings, copy = await settings_for("sqlite", tmp_path), tmp_path / "copy.db"
    async with running(settings) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
        with serving(settings, tmp_path, LOG_LEVEL="ERROR") as process:
            shopping, before = Shopping(process.url, token, item), list[str]()

            async def back_up(shopping: Shopping) -> None:
                before.extend(shopping.acknowledged)
                done = await run(settings, tmp_path, "backup", str(copy))
                assert (done.code, done.err) == (0, "")

            await shopping.meanwhile(back_up)
            refused = await run(settings, tmp_path, "restore", str(copy))
            assert (refused.code, refused.err) == (
                1,
                "Nothing was changed: the database is open. Stop the service, and whatever else uses it.\n",
            )
        await shopping.is_kept_by(service)
        async with service.database.reading() as session:
            newest = events.cursor(await events.identity(session), await events.newest(session))

    restored = await run(settings, tmp_path, "restore", str(copy))
    assert restored.code == 0, restored.err
    assert len(found(tmp_path, "storegraph.db.before-*")) == 1
    async with running(settings) as service:
        async with service.database.reading() as session:
            kept = (await session.scalars(select(Purchase.id))).all()
            stock = await session.scalar(select(Item.inventory).where(Item.id == row_id("Item", item)))
        assert {row_id("Purchase", id_) for id_ in before} <= set(kept) < {row_id("Purchase", id_) for id_ in shopping.acknowledged}
        assert stock == STOCK - len(kept)
        async with listening(service, GAP, {"after": newest}) as listener:
            assert await listener.next() == {"__typename": "Gap", "reason": "UNKNOWN"}
        assert (await service.ask(PURCHASE, {"item": item, "key": "new"}, token=token))["purchaseItem"]["__typename"] == "Purchase"


def test_keeps_to_one_instant_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of it is followed by a commit here, which would begin it anew or mix two instants without an open read."""
    monkeypatch.setattr(backups, "PAGES_AT_ONCE", 64)
    file, copy = tmp_path / "kept.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.executescript("CREATE TABLE event_log (identity TEXT); CREATE TABLE large (number INTEGER, filling TEXT)")
        writer.executemany("INSERT INTO large VALUES (0, ?)", [("x" * 4_000,)] * 256)
        steps: list[int] = []

        def write(done: int, total: int) -> None:
            steps.append(done)
            writer.execute("UPDATE large SET number = number + 1")

        backups.back_up(file, copy, write)
        assert len(steps) > 3
        assert steps == sorted(steps)
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT min(number), max(number) FROM large").fetchone() == (0, 0)


async def test_is_put_back_twice_within_a_second_and_loses_neither_of_what_was_there(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    assert (await run(settings, tmp_path, "backup", "copy.db")).code == 0
    for _ in range(2):
        assert (await run(settings, tmp_path, "restore", "copy.db")).code == 0
    assert len(found(tmp_path, "storegraph.db.before-*")) == 2


async def test_is_refused_in_place_of_another_file_and_from_what_is_none(tmp_path: Path) -> None:
    settings, other = await settings_for("sqlite", tmp_path), tmp_path / "other.txt"
    other.write_text("mine")
    kept = (tmp_path / "storegraph.db").read_bytes()
    over = await run(settings, tmp_path, "backup", str(other))
    assert (over.code, over.err) == (1, f"There is a file {other} already: give another name, or --force to replace it.\n")
    none = await run(settings, tmp_path, "restore", str(other))
    assert none.code == 1
    assert none.err.startswith(f"Nothing was changed: {other} is no database of this service")
    assert other.read_text() == "mine"
    assert (tmp_path / "storegraph.db").read_bytes() == kept
    assert found(tmp_path, "*partial*") == []


async def test_of_postgresql_is_pg_dumps_to_make(tmp_path: Path) -> None:
    url = databases.postgres().render_as_string(hide_password=False)
    settings = await settings_for("sqlite", tmp_path)
    elsewhere = settings.model_copy(update={"database_url": url})
    told = await run(elsewhere, tmp_path, "backup", "copy.db")
    assert told.code == 2
    assert "pg_dump --format=custom --file=copy.db" in told.err


async def test_keeps_out_a_service_that_starts_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the lock taken, from the first look to the last byte: whatever it could acknowledge meanwhile would be lost."""
    settings = await settings_for("sqlite", tmp_path)
    file, copy, aside = tmp_path / "storegraph.db", tmp_path / "copy.db", tmp_path / "aside.db"
    backups.back_up(file, copy, lambda _done, _total: None)
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE newer (number INTEGER)")
    refused, copied = list[str](), backups._copy  # pyright: ignore[reportPrivateUsage] -- the place where another could come in between

    def start(*arguments: Any) -> None:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as service:
            try:
                service.execute("INSERT INTO newer VALUES (1)")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
        copied(*arguments)

    monkeypatch.setattr(backups, "_copy", start)
    backups.restore(copy, file, aside=aside)
    assert refused == ["database is locked"]
    assert sorted(path.name for path in found(tmp_path, "*.db*")) == ["aside.db", "copy.db", "storegraph.db"]
    with closing(sqlite3.connect(file)) as restored, closing(sqlite3.connect(aside)) as kept:
        assert restored.execute("SELECT count(*) FROM sqlite_master WHERE name = 'newer'").fetchone() == (0,)
        assert kept.execute("SELECT count(*) FROM newer").fetchone() == (0,)
        assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    async with running(settings) as service:
        assert await service.ask("{ __typename }") == {"__typename": "Query"}
