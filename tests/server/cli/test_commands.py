"""The command line …"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from graph.server.cli import cli, doctor, import_export
from graph.server.settings import Settings
from persistence.demo import seed as seeding
from persistence.demo import shop as demo
from persistence.items import file_import
from persistence.items import table as items
from persistence.kit.database.database import Database
from persistence.kit.imports import import_journal
from persistence.kit.imports.file_rows import ImportRow, Match
from persistence.kit.imports.file_sync import FileSync, SyncBatch, SyncOptions
from persistence.kit.imports.import_journal import ImportJournal
from persistence.kit.parsing import csv_reader
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.servers.processes import ROOT, environment_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from pathlib import Path


@dataclass
class Done:
    code: int
    out: str
    err: str


async def run(settings: Settings, folder: Path, *arguments: str, given: bytes | None = None, **variables: str) -> Done:
    """In this process: a Python of its own takes seconds to start. What differs between the two is tested below."""
    known = dict.fromkeys((name.upper() for name in Settings.model_fields), None)
    with chdir(folder):
        environment = {**known, "COLUMNS": "150", **environment_of(settings), **variables}
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=environment, input=given)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout_bytes.decode(errors="surrogateescape"), done.stderr)


def run_apart(folder: Path, *arguments: str, **variables: str) -> Done:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "graph", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return await settings_for(request.param, tmp_path)


def planned(created: int = 0, updated: int = 0, unchanged: int = 0, deleted: int = 0, refused: int = 0) -> str:
    return f"Plan: {created:,} created, {updated:,} updated, {unchanged:,} unchanged, {deleted:,} deleted, {refused:,} refused.\n"


def applied(created: int = 0, updated: int = 0, unchanged: int = 0, deleted: int = 0, refused: int = 0) -> str:
    """The plan, and that it was carried out."""
    plan = planned(created, updated, unchanged, deleted, refused)
    return plan + plan.replace("Plan:", "Done:")


def imported(created: int, refused: int = 0) -> str:
    """The same of an import that matches nothing."""
    items, rows = ("item" if created == 1 else "items"), ("row" if refused == 1 else "rows")
    return planned(created, refused=refused) + f"{created:,} {items} imported, {refused:,} {rows} refused.\n"


async def test_seeds_a_shop_once_and_only_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    first = await run(settings, tmp_path, "seed", "--items", "700")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("Added 700 items and 2 users with ")
    assert (await run(settings, tmp_path, "seed", "--items", "700")).out == "Added 0 items and 0 users with 0 purchases.\n"
    assert (await run(settings, tmp_path, "seed", "--items", "1000")).out.startswith("Added 300 items and 1 user with ")
    database = Database.connect(settings.database_url)
    async with database.reading() as session:
        shop = await seeding.count_seeded(session)
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
        shop = await seeding.count_seeded(session)
    assert (shop.items, (await seeding.seed(database, 130, lambda _: None)).items) == (80, 50)
    await database.close()


def test_makes_the_same_item_for_a_number_whatever_it_has_made_before() -> None:
    used = Random(1)
    used.gauss(0, 1)
    for number in (0, 7, 99_999):
        item = demo.item(number, used)
        assert item == demo.item(number, Random())
        assert demo.sales(number, item, used) == demo.sales(number, item, Random())


async def test_finds_everything_well(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "BEFORE_US", datetime.min.replace(tzinfo=UTC))  # Whatever day it is here.
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
            "database_url": f"postgresql+asyncpg://nobody@127.0.0.1:{databases.free_port()}/nothing",
            "redis_url": f"redis://127.0.0.1:{databases.free_port()}",
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


async def test_sees_a_clock_that_is_behind_this_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "utc_now", lambda: datetime(2020, 2, 29, 23, 59, tzinfo=UTC))
    told = await run(await settings_for("sqlite", tmp_path), tmp_path, "doctor")
    assert told.code == 1
    assert "bad      Clock     it is 2020-02-29 here, before this version was made" in told.out


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
    assert (done.returncode, done.stdout, done.stderr) == (0, "Added 3 items and 1 user with 6 purchases.\n", "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of its own, with settings of its own."""
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    shutil.copy2(ROOT / "scripts" / "storegraph", project / "scripts")
    for name in (".venv", "graph", "persistence"):
        (project / name).symlink_to(ROOT / name)
    (project / ".env").write_text("DEBUG=true\nDATABASE_URL=sqlite+aiosqlite:///data/shop.db\n")
    return project


def test_takes_files_from_the_callers_folder_and_settings_from_the_projects(project: Path, tmp_path: Path) -> None:
    here, named = tmp_path / "here", {name.upper() for name in Settings.model_fields}
    here.mkdir()
    # Neither settings nor modules of the caller's are taken for the project's.
    (here / ".env").write_text("DATABASE_URL=sqlite+aiosqlite:///wrong.db\n")
    (here / "graph.py").write_text("raise SystemExit('wrong graph')\n")
    (here / "given.csv").write_text("name,price\nKettle,9.99\n")
    (tmp_path / "storegraph").symlink_to(project / "scripts" / "storegraph")

    def call(*arguments: str, program: Path = project / "scripts" / "storegraph") -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in named}
        done = subprocess.run([program, *arguments], cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout, done.stderr

    assert call("import", "given.csv") == (0, imported(1), "")
    assert call("export", "out.csv", program=tmp_path / "storegraph") == (0, "out.csv: 1 item.\n", "")
    code, said, _ = call("backup", "copy.db")
    assert (code, said) == (0, f"copy.db: {(here / 'copy.db').stat().st_size:,} bytes, whole and checked.\n")
    assert {path.name for path in here.iterdir()} == {".env", "graph.py", "given.csv", "out.csv", "copy.db"}
    assert (project / "data" / "shop.db").is_file()
    assert {path.name for path in project.iterdir()} == {".env", ".venv", "data", "graph", "persistence", "scripts"}


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
    # Whatever the day: without days the picture ends with the newest purchase.
    for arguments in (YEAR, ()):
        again = await run(settings, tmp_path, "report", "--out", "again.svg", "--by", "week", "--force", *arguments)
        assert (again.code, again.out) == (0, told.out.replace("sales", "again"))
        assert (tmp_path / "again.svg").read_text() == picture
    backwards = await run(settings, tmp_path, "report", "--out", "none.svg", "--from", "2026-02-01", "--to", "2026-01-01")
    assert (backwards.code, backwards.err) == (1, "to: must be later than from\n")
    assert {name for name in names(tmp_path) if name.endswith(".svg")} == {"sales.svg", "again.svg"}


async def test_says_that_nobody_uses_what_is_deprecated(settings: Settings, tmp_path: Path) -> None:
    told = await run(settings, tmp_path, "deprecations")
    assert (told.code, told.out) == (0, "Nobody used anything deprecated in the last 30 days.\n")


async def test_imports_a_file_and_exports_it_again(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_bytes(b"name;price;tags\nKettle;9,99;x\nPan;free;\n=Pot;1;\n")
    given = await run(settings, tmp_path, "import", "given.csv")
    assert (given.code, given.out) == (1, imported(2, refused=1))
    assert given.err == "line 3: price: must be a decimal number such as 9.99\n"
    exported = await run(settings, tmp_path, "export", "all.csv")
    assert (exported.code, exported.out, exported.err) == (0, "all.csv: 2 items.\n", "")
    assert [line.rsplit(",", 3)[0] for line in (tmp_path / "all.csv").read_text().splitlines()] == [
        "name,description,price,tags,inventory",
        "Kettle,,9.99,x,0",
        "'=Pot,,1.00,,0",
    ]
    assert (await run(settings, tmp_path, "export", "--format", "txt", "--search", "ket")).out.endswith("  Kettle [x]: 9.99, 0 in stock\n")
    assert (await run(settings, tmp_path, "import", "all.csv")).out == imported(2)


async def test_brings_the_catalogue_in_step_with_a_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "night.tsv").write_bytes(b"externalId\tname\tprice\nA\tKettle\t1\nB\tPan\t2\nA\tPot\t3\n")
    by_id = ("import", "night.tsv", "--match", "external-id")
    twice = "line 4: externalId: is that of an earlier row, too\n"
    plan = await run(settings, tmp_path, *by_id, "--dry-run")
    assert (plan.code, plan.out, plan.err) == (1, planned(created=2, refused=1), twice)
    assert (await run(settings, tmp_path, "export", "-")).out.count("\n") == 1
    first = await run(settings, tmp_path, *by_id)
    assert (first.code, first.out, first.err) == (1, applied(created=2, refused=1), twice)
    again = await run(settings, tmp_path, *by_id)
    assert (again.code, again.out, again.err) == (1, applied(unchanged=2, refused=1), twice)
    await run(settings, tmp_path, "export", "all.csv")
    own = await run(settings, tmp_path, "import", "all.csv", "--match", "external-id", "--delete-missing")
    assert (own.code, own.out) == (0, applied(unchanged=2))
    (tmp_path / "rest.jsonl").write_text('{"externalId": "B", "price": "2.50"}\n')
    rest = await run(settings, tmp_path, "import", "rest.jsonl", "--match", "external-id", "--delete-missing")
    assert (rest.code, rest.out) == (0, applied(updated=1, deleted=1))
    refused = await run(settings, tmp_path, "import", "rest.jsonl", "--delete-missing")
    assert (refused.code, refused.out) == (2, "")


async def test_goes_on_after_the_last_row_of_an_import_that_was_killed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_bytes(b"name,price\n" + b"".join(b"Item %d,1\n" % number for number in range(1_200)))
    database = Database.connect(settings.database_url)
    with (tmp_path / "new.csv").open("rb") as file:
        journal = await ImportJournal.begin(database, import_journal.attempt(file, None, False))
        batches = FileSync(database, file_import.IMPORT, SyncOptions(Match.NONE), journal).run(file_import.from_csv(file))
        await anext(batches)
        await batches.aclose()
    await database.close()
    rest = await run(settings, tmp_path, "import", "new.csv")
    assert (rest.code, rest.out) == (0, imported(1_200))
    assert rest.err == "An earlier run was interrupted: this one goes on after line 501.\n"
    assert (await run(settings, tmp_path, "import", "new.csv")).out == imported(1_200)
    assert (await run(settings, tmp_path, "export", "all.csv")).out == "all.csv: 2,400 items.\n"


async def test_says_nothing_twice_and_reads_twice_only_what_changes_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, runs = await settings_for("sqlite", tmp_path), list[bool]()
    run_of = FileSync.run

    def counting(sync: FileSync, rows: Iterable[ImportRow]) -> AsyncGenerator[SyncBatch]:
        runs.append(sync.options.dry_run)
        return run_of(sync, rows)

    monkeypatch.setattr(FileSync, "run", counting)
    (tmp_path / "night.csv").write_bytes(b"externalId,name,price,colour\nA,Pot,1,red\nA,Pan,2,red\nB,Cup,,red\n")
    told = "These columns are not read: colour.\nline 3: externalId: is that of an earlier row, too\nline 4: price: must be given: no item has this external id yet\n"
    first = await run(settings, tmp_path, "import", "night.csv", "--match", "external-id")
    assert (first.out, first.err, runs) == (applied(created=1, refused=2), told, [True, False])
    again = await run(settings, tmp_path, "import", "night.csv", "--match", "external-id")
    assert (again.out, again.err, runs) == (applied(unchanged=1, refused=2), told, [True, False, True])


@pytest.mark.parametrize("arguments", [("--match", "external-id"), ()])
async def test_reads_a_pipe(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    settings, pipe = await settings_for("sqlite", tmp_path), tmp_path / "feed.csv"
    os.mkfifo(pipe)
    writing = asyncio.create_task(asyncio.to_thread(pipe.write_bytes, b"externalId,name,price\nA,Pot,1\n"))
    read = await run(settings, tmp_path, "import", "feed.csv", *arguments)
    await writing
    assert (read.code, read.out, read.err) == (0, applied(created=1) if arguments else imported(1), "")


CSV, JSON_LINE = b"name,price\nPot,1\nPan,x\n", b'{"name": "Pot", "price": 1}\n{"name": "Pan", "price": "x"}\n'


@pytest.mark.parametrize(
    ("content", "arguments", "line"),
    [
        (CSV, (), 3),
        (CSV, ("--format", "csv"), 3),
        (CSV.decode().encode("utf-16"), (), 3),
        (CSV.replace(b",", b"|"), (), 3),
        (JSON_LINE, ("--format", "jsonl"), 2),
    ],
)
async def test_reads_standard_input(tmp_path: Path, content: bytes, arguments: tuple[str, ...], line: int) -> None:
    settings = await settings_for("sqlite", tmp_path)
    read = await run(settings, tmp_path, "import", "-", *arguments, given=content)
    refusal = f"line {line}: price: must be a decimal number such as 9.99\n"
    assert (read.code, read.out, read.err) == (1, imported(1, refused=1), refusal)
    assert (await run(settings, tmp_path, "import", "-", "--format", "xlsx", given=content)).code == 2
    (tmp_path / "named.txt").write_bytes(content)
    assert (await run(settings, tmp_path, "import", "named.txt", *arguments)).out == imported(1, refused=1)
    assert (await run(settings, tmp_path, "export")).out.count("Pot,,1.00,") == 2


async def test_writes_to_standard_output_and_reads_it_back(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    await run(settings, tmp_path, "seed", "--items", "3")
    before = names(tmp_path)
    exported = await run(settings, tmp_path, "export", "-", "--format", "jsonl")
    copied = await run(settings, tmp_path, "backup", "-")
    drawn = await run(settings, tmp_path, "report", "--out", "-")
    copy = copied.out.encode(errors="surrogateescape")
    assert (exported.out.count("\n"), copy[:16], drawn.out[:4]) == (3, b"SQLite format 3\0", "<svg")
    assert copied.err == f"-: {len(copy):,} bytes, whole and checked.\n"
    assert re.fullmatch(r"-: [0-9,]+\.\d\d in \d+ purchases\.\n", drawn.err)
    assert [each.code for each in (exported, copied, drawn)] == [0, 0, 0]
    assert names(tmp_path) == before
    assert (await run(settings, tmp_path, "import", "-", given=b"name,price\nPot,1\n")).code == 0
    assert (await run(settings, tmp_path, "restore", "-", given=copy)).code == 0
    assert (await run(settings, tmp_path, "export", "--format", "jsonl")).out == exported.out
    refused = await run(settings, tmp_path, "restore", "-", given=b"nonsense")
    assert (refused.code, refused.err.startswith("Nothing was changed: ")) == (1, True)


async def test_says_its_version(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for option in ("--version", "-V"):
        assert (await run(Settings.model_construct(), tmp_path, option)).out == f"storegraph {version}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exprot",), "No such command 'exprot'. Did you mean 'export'?"),
        (("jobs", "lst"), "No such command 'lst'. Did you mean 'list'?"),
        (("export", "--forse"), "No such option: --forse (Possible options: --force, --format)"),
        (("import", "none.csv"), "file 'none.csv' does not exist"),
    ],
)
async def test_says_what_may_have_been_meant(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    told = await run(Settings.model_construct(), tmp_path, *arguments)
    assert (told.code, told.out) == (2, "")
    assert message in told.err


async def test_helps_with_each_command_by_either_option(tmp_path: Path) -> None:
    told = await run(Settings.model_construct(), tmp_path, "--help")
    commands = [[name] for name in re.findall(r"^│ ([a-z]+) {2,}\S", told.out, re.MULTILINE)]
    for command in [*commands, ["jobs", "list"], ["jobs", "retry"]]:
        short, long = [await run(Settings.model_construct(), tmp_path, *command, option) for option in ("-h", "--help")]
        assert (short.code, short.out) == (0, long.out)
        assert f"Usage: storegraph {' '.join(command)}" in short.out.replace("root", "storegraph")


WRITERS = {"all.csv": ("export",), "copy.db": ("backup",), "sales.svg": ("report", "--out")}


@pytest.mark.parametrize(("name", "command"), WRITERS.items())
async def test_replaces_a_file_only_when_it_is_told_to(name: str, command: tuple[str, ...], tmp_path: Path) -> None:
    settings, file = await settings_for("sqlite", tmp_path), tmp_path / name
    file.write_text("mine")
    before = names(tmp_path)
    refused = await run(settings, tmp_path, *command, name)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == f"There is a file {name} already: give another name, or --force to replace it.\n"
    assert (file.read_text(), names(tmp_path)) == ("mine", before)
    link = tmp_path / f"link-{name}"
    link.symlink_to(file)
    assert (await run(settings, tmp_path, *command, link.name)).code == 1
    assert file.read_text() == "mine"
    replaced = await run(settings, tmp_path, *command, link.name, "--force")
    assert (replaced.code, replaced.err) == (0, "")
    assert file.read_bytes()[:4] != b"mine"
    assert link.readlink() == file
    assert names(tmp_path) == before | {link.name}


@pytest.mark.parametrize("command", WRITERS.values())
async def test_names_the_file_that_it_was_given_where_it_cannot_write(command: tuple[str, ...], tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    (tmp_path / "file").touch()
    for file, reason in {
        "nowhere/a.csv": "There is no folder nowhere for a.csv.\n",
        "file/a.csv": "There is no folder file for a.csv.\n",
        f"{'a' * 300}.csv": f"{'a' * 300}.csv cannot be written: File name too long\n",
    }.items():
        refused = await run(settings, tmp_path, *command, file, "--force")
        assert (refused.code, refused.out, refused.err) == (1, "", reason)
    assert (await run(settings, tmp_path, *command, ".")).code == 2
    assert (await run(settings, tmp_path, *command, "")).code == 2


async def test_keeps_its_log_out_of_what_it_was_asked_for(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path, redis_url="redis://127.0.0.1:1")
    seeded = await run(settings, tmp_path, "seed", "--items", "1")
    assert (seeded.code, seeded.out) == (0, "Added 1 item and 1 user with 0 purchases.\n")
    assert "a shared service is unavailable" in seeded.err
    assert "\x1b" not in seeded.err
    exported = await run(settings, tmp_path, "export", "-")
    assert (exported.code, exported.out.count("\n"), exported.err) == (0, 2, "")
    assert "-" not in names(tmp_path)


async def test_writes_to_a_device_as_it_is(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    exported = await run(settings, tmp_path, "export", "/dev/null", "--format", "csv")
    assert (exported.code, exported.out, exported.err) == (0, "", "")


@pytest.mark.parametrize("kind", ["csv", "txt", "json", "jsonl"])
async def test_counts_the_items_that_it_exports(settings: Settings, kind: str, tmp_path: Path) -> None:
    assert (await run(settings, tmp_path, "export", f"none.{kind}")).out == f"none.{kind}: 0 items.\n"
    database = Database.connect(settings.database_url)
    async with database.transaction() as work:
        for name in ('A "quoted", name', "Plain"):
            await items.create(work, items.ItemValues(name, Decimal(1), 'Two\nlines, "both" of them\r\nand a third'), owner_id=None)
    await database.close()
    assert (await run(settings, tmp_path, "export", f"all.{kind}")).out == f"all.{kind}: 2 items.\n"
    assert (await run(settings, tmp_path, "export", f"one.{kind}", "--limit", "1")).out == f"one.{kind}: 1 item.\n"


def test_counts_rows_wherever_a_part_is_cut() -> None:
    text = b'name\r\n"a ""b""\nc"\r\n"""\n"\r\nd\r\n'
    for cut in range(len(text) + 1):
        rows = import_export.RowCounter("csv")
        rows.add(text[:cut])
        rows.add(text[cut:])
        assert rows.count == 3


async def test_tells_by_its_exit_code_that_a_file_was_not_read_to_its_end(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_bytes(b'name,price,tags\nKettle,1,x\nA,1,"oops\nPan,1,x\n')
    refused = await run(settings, tmp_path, "import", "given.csv")
    assert (refused.code, refused.out, refused.err) == (1, imported(1, refused=1), f"line 3: {csv_reader.UNCLOSED}\n")
    (tmp_path / "given.csv").write_bytes("name,price\nPot,1\n".encode("utf-16") + b"x")
    refused = await run(settings, tmp_path, "import", "given.csv")
    assert (refused.code, refused.out, refused.err) == (
        1,
        "",
        "From line 3 on, the file is not in UTF-16: save it as UTF-8.\n",
    )
    (tmp_path / "given.csv").write_bytes(b"name;price;inventry;ID;createdAt;\nPot;1;5;;;\n")
    loaded = await run(settings, tmp_path, "import", "given.csv")
    assert (loaded.code, loaded.err) == (0, "These columns are not read: inventry.\n")
    (tmp_path / "given.ndjson").write_text('{"name": "Pan", "price": 1, "price": 2}\n{"name": "Pan", "price": 1}\n')
    refused = await run(settings, tmp_path, "import", "given.ndjson")
    assert (refused.code, refused.out) == (1, imported(1, refused=1))
    exported = await run(settings, tmp_path, "export", "--bom", "--limit", "02")
    assert [line.split(",")[0] for line in exported.out.splitlines()] == ["\ufeffname", "Kettle", "Pot"]
    assert (await run(settings, tmp_path, "export", "--format", "jsonl")).out.count("\n") == 3
    for command in ("import", "export"):
        told = await run(settings, tmp_path, command, "--help")
        assert (told.code, command == "export" or "Exit codes: 0 every row was imported; 1 rows were refused" in told.out) == (0, True)


@pytest.mark.parametrize("number", ["1_0", "+5", "０5", "0", "-1", "1e1", " 5", "", "2147483648"])  # noqa: RUF001
async def test_takes_numbers_as_the_api_does(tmp_path: Path, number: str) -> None:
    settings = await settings_for("sqlite", tmp_path)
    for arguments in (
        ["export", "--limit", number],
        ["seed", "--items", number],
        ["deprecations", "--days", number],
        ["jobs", "retry", "--", number],
    ):
        told = await run(settings, tmp_path, *arguments)
        assert (told.code, told.out) == (1 if arguments[0] == "jobs" and number == "2147483648" else 2, ""), arguments


@pytest.mark.parametrize("day", ["2026-1-1", "20260101", "２０２６-01-01", "2026-02-29", "9999-12-31", "0001-01-01"])  # noqa: RUF001
async def test_takes_days_in_one_form(tmp_path: Path, day: str) -> None:
    settings = await settings_for("sqlite", tmp_path)
    for end in ("--from", "--to"):
        told = await run(settings, tmp_path, "report", end, day)
        assert (told.code, told.out) == (2, "")


async def test_refuses_a_file_that_holds_no_items(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_bytes(b"colour\nred\n")
    refused = await run(settings, tmp_path, "import", "given.csv")
    assert (refused.code, refused.err) == (
        1,
        "The first line must name the columns, with name and price among them; it has no column name and price.\n",
    )
    unknown = await run(settings, tmp_path, "import", "given.csv", "--owner", "nobody")
    assert (unknown.code, unknown.err) == (1, "There is no user 'nobody': they must sign up first.\n")
    (tmp_path / "given.json").write_bytes(b"[]")
    array = await run(settings, tmp_path, "import", "given.json")
    assert (array.code, array.err) == (1, "A .json file is one array: import reads JSON Lines, which `export --format jsonl` writes.\n")
    assert (await run(settings, tmp_path, "export", "--format", "xlsx")).code == 2
    assert (await run(settings, tmp_path, "export", "--format", "jsonl")).out == ""
