"""The commands `import` and `export` …"""

from __future__ import annotations

import asyncio
import os
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from graph.server.cli import import_export
from graph.server.settings import Settings
from persistence.items import file_import
from persistence.items import table as items
from persistence.kit.database.database import Database
from persistence.kit.imports import import_journal
from persistence.kit.imports.file_rows import ImportRow, Match
from persistence.kit.imports.file_sync import FileSync, SyncBatch, SyncOptions
from persistence.kit.imports.import_journal import ImportJournal
from persistence.kit.parsing import csv_reader
from tests.conftest import settings_for
from tests.support.command_line import applied, imported, names, planned, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from pathlib import Path


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
        journal = await ImportJournal.begin(database, import_journal.attempt(file, "items", None, False, False))
        batches = FileSync(database, file_import.IMPORT, SyncOptions(Match.NONE), journal).run(file_import.from_csv(file))
        await anext(batches)
        await batches.aclose()
    await database.close()
    # Read in another way it is another import.
    other = await run(settings, tmp_path, "import", "new.csv", "--format", "jsonl")
    assert (other.code, other.out.splitlines()[-1]) == (1, "0 items imported, 1,201 rows refused.")
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
