"""The command line …"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest

from graph.server.cli import doctor
from graph.server.settings import Settings
from persistence.demo import seed as seeding
from persistence.demo import shop as demo
from persistence.kit.database.database import Database
from tests.conftest import settings_for
from tests.support.command_line import imported, names, run, run_apart
from tests.support.servers import databases
from tests.support.servers.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


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
        (("import", "a" * 300), "cannot be read: File name too long"),
        (("restore", "a" * 300), "cannot be read: File name too long"),
        (("report", "--out", "sales.png"), "the chart is SVG: name it 'sales.svg', not 'sales.png'"),
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


@pytest.mark.parametrize(("name", "command"), WRITERS.items())
async def test_names_the_file_that_it_was_given_where_it_cannot_write(name: str, command: tuple[str, ...], tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    (tmp_path / "file").touch()
    for file, reason in {
        f"nowhere/{name}": f"There is no folder nowhere for {name}.\n",
        f"file/{name}": f"There is no folder file for {name}.\n",
        f"{'a' * 300}{name}": f"{'a' * 300}{name} cannot be written: File name too long\n",
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
