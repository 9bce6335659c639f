"""The command line …"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from graph.server.cli import cli
from graph.server.settings import Settings
from persistence.demo import seed as seeding
from persistence.demo import shop as demo
from persistence.kit.database.database import Database
from tests.conftest import settings_for
from tests.support import servers
from tests.support.processes import ROOT, environment_of

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Done:
    code: int
    out: str
    err: str


async def run(settings: Settings, folder: Path, *arguments: str, **variables: str) -> Done:
    """In this process: a Python of its own takes seconds to start. What differs between the two is tested below."""
    known = dict.fromkeys((name.upper() for name in Settings.model_fields), None)
    with chdir(folder):
        environment = {**known, "COLUMNS": "150", **environment_of(settings), **variables}
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=environment)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def run_apart(folder: Path, *arguments: str, **variables: str) -> Done:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "graph", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return await settings_for(request.param, tmp_path)


async def test_seeds_a_shop_once_and_only_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    first = await run(settings, tmp_path, "seed", "--items", "700")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("Added 700 items and 2 users with ")
    assert (await run(settings, tmp_path, "seed", "--items", "700")).out == "Added 0 items and 0 users with 0 purchases.\n"
    assert (await run(settings, tmp_path, "seed", "--items", "1000")).out.startswith("Added 300 items and 1 users with ")
    database = Database.connect(settings.database_url)
    async with database.reading() as session:
        shop = await seeding.found(session)
    await database.close()
    assert (shop.users, shop.items) == (3, 1000)


async def test_keeps_whole_batches_of_a_shop_whose_making_is_interrupted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "BATCH", 40)

    def interrupt(done: int) -> None:
        if done == 80:
            raise InterruptedError

    database = Database.connect(settings.database_url)
    with pytest.raises(InterruptedError):
        await seeding.seed(database, 130, interrupt)
    async with database.reading() as session:
        shop = await seeding.found(session)
    assert (shop.items, (await seeding.seed(database, 130, lambda _: None)).items) == (80, 50)
    await database.close()


def test_makes_the_same_item_for_a_number_whatever_it_has_made_before() -> None:
    used = Random(1)
    used.gauss(0, 1)
    for number in (0, 7, 99_999):
        item = demo.item(number, used)
        assert item == demo.item(number, Random())
        assert demo.sales(number, item, used) == demo.sales(number, item, Random())


async def test_finds_everything_well(settings: Settings, tmp_path: Path) -> None:
    told = await run(settings, tmp_path, "doctor", DEBUG="false")
    assert (told.code, told.err) == (0, "")
    findings = {line.split()[1]: line.split()[0] for line in told.out.splitlines() if not line.startswith(" ")}
    expected = dict.fromkeys(("Python", "Mode", "Secret", "Clock", "Database", "Replica", "Redis", "Files"), "good")
    assert {about: verdict for about, verdict in findings.items() if about != "Explorer"} == expected


async def test_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings.model_validate(
        {
            "debug": True,
            "database_url": f"postgresql+asyncpg://nobody@127.0.0.1:{servers.free_port()}/nothing",
            "redis_url": f"redis://127.0.0.1:{servers.free_port()}",
            "files_url": (tmp_path / "file" / "below").as_uri(),
        }
    )
    told = await run(settings, tmp_path, "doctor")
    assert told.code == 1
    lines = told.out.splitlines()
    for about, advice in {
        "Database": "Is DATABASE_URL right",
        "Redis": "Is REDIS_URL right",
        "Files": "Does FILES_URL name a folder",
    }.items():
        place = next(number for number, line in enumerate(lines) if line.startswith(f"bad      {about}"))
        assert lines[place + 1].strip().startswith(advice)


async def test_sees_that_migrations_are_missing(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    empty = settings.model_copy(update={"database_url": f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"})
    told = await run(Settings.model_validate(empty.model_dump(exclude_unset=True)), tmp_path, "doctor")
    assert told.code == 1
    assert re.search(r"bad +Database +sqlite\+aiosqlite [0-9.]+, at migration none instead of \d{4}\n +Run scripts/migrate", told.out)


def test_needs_no_settings_on_the_machine_of_a_developer(tmp_path: Path) -> None:
    named = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in named}
    environment |= {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'new.db'}"}
    done = subprocess.run(
        [ROOT / "scripts/storegraph", "seed", "--items", "3"], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Added 3 items and 1 users with 6 purchases.\n", "")


async def test_refuses_bad_settings_by_name_with_code_2(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_ULR=sqlite+aiosqlite:///x.db\nLOG_LEVEL=LOUD\nDEBUG=true\n")
    told = await run(Settings.model_construct(), tmp_path, "migrate")
    assert (told.code, told.out) == (2, "")
    assert "DATABASE_ULR: there is no such setting; remove it from .env or correct its name" in told.err
    assert "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'" in told.err


async def test_tells_every_command_in_a_sentence_and_the_exit_codes(tmp_path: Path) -> None:
    told = await run(Settings.model_construct(), tmp_path, "--help")
    assert told.code == 0
    commands = re.findall(r"^│ ([a-z]+) {2,}(\S.+?) *│$", told.out, re.MULTILINE)
    assert {name for name, _ in commands} >= {"serve", "migrate", "doctor", "seed", "schema", "deprecations"}
    assert "Exit codes: 0 done; 1 refused" in told.out


def test_completes_its_commands_in_a_shell(tmp_path: Path) -> None:
    asked = {"_STOREGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": "storegraph do", "COMP_CWORD": "1"}
    assert run_apart(tmp_path, **asked).out.split() == ["doctor"]


async def test_ends_with_code_2_when_it_is_used_wrongly(tmp_path: Path) -> None:
    assert (await run(Settings.model_construct(), tmp_path, "seed", "--items", "none")).code == 2


YEAR = ("--from", "2025-11-01", "--to", "2026-10-31")  # The last one of the demo shop.


async def test_draws_what_was_sold(settings: Settings, tmp_path: Path) -> None:
    await run(settings, tmp_path, "seed", "--items", "300")
    told = await run(settings, tmp_path, "report", "--out", "sales.svg", "--by", "week", *YEAR)
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(r"sales\.svg: [0-9,]+\.\d\d in \d+ purchases\.\n", told.out)
    picture = (tmp_path / "sales.svg").read_text()
    assert all(f">{label}<" in picture for label in ("Revenue", "Units"))
    await run(settings, tmp_path, "report", "--out", "again.svg", "--by", "week", *YEAR)
    assert (tmp_path / "again.svg").read_text() == picture
    assert (await run(settings, tmp_path, "report", "--out", "sales.txt")).code == 2
    backwards = await run(settings, tmp_path, "report", "--from", "2026-02-01", "--to", "2026-01-01")
    assert (backwards.code, backwards.err) == (1, "to: must be later than from\n")


async def test_says_that_nobody_uses_what_is_deprecated(settings: Settings, tmp_path: Path) -> None:
    told = await run(settings, tmp_path, "deprecations")
    assert (told.code, told.out) == (0, "Nobody used anything deprecated in the last 30 days.\n")


async def test_imports_a_file_and_exports_it_again(settings: Settings, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_bytes(b"name;price;tags\nKettle;9,99;x\nPan;free;\n=Pot;1;\n")
    imported = await run(settings, tmp_path, "import", "given.csv")
    assert (imported.code, imported.out) == (1, "2 items imported, 1 rows refused.\n")
    assert imported.err == "line 3: price: must be a decimal number such as 9.99\n"
    exported = await run(settings, tmp_path, "export", "all.csv")
    assert (exported.code, exported.out, exported.err) == (0, "", "")
    assert [line.rsplit(",", 2)[0] for line in (tmp_path / "all.csv").read_text().splitlines()] == [
        "name,description,price,tags,inventory",
        "Kettle,,9.99,x,0",
        "'=Pot,,1.00,,0",
    ]
    assert (await run(settings, tmp_path, "export", "--format", "txt", "--search", "ket")).out.endswith("  Kettle [x]: 9.99, 0 in stock\n")
    assert (await run(settings, tmp_path, "import", "all.csv")).out == "2 items imported, 0 rows refused.\n"


async def test_refuses_a_file_that_holds_no_items(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_bytes(b"colour\nred\n")
    refused = await run(settings, tmp_path, "import", "given.csv")
    assert (refused.code, refused.err) == (
        1,
        "The first line must name the columns, with name and price among them; it has no column name and price.\n",
    )
    unknown = await run(settings, tmp_path, "import", "given.csv", "--owner", "nobody")
    assert (unknown.code, unknown.err) == (1, "There is no user 'nobody': they must sign up first.\n")
    assert (await run(settings, tmp_path, "export", "--format", "xlsx")).code == 2
    assert (await run(settings, tmp_path, "export", "--format", "jsonl")).out == ""
