"""Commands `import` and `export`: items from and to files, and rows of other entities from files."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from graph.kit.operations.imports import Import, imports
from graph.server.cli.terminal import (
    STANDARD,
    Force,
    fail,
    load_settings,
    new_file,
    open_database,
    plural,
    progress,
    readable_file,
    stored_input,
    whole_number,
)
from graph.server.rest.export_formats import FORMATS, ExportRequest
from graph.server.settings import Settings
from persistence import users
from persistence.items import listing
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput
from persistence.kit.imports import import_journal
from persistence.kit.imports.file_rows import ImportRow, Match, UnreadableFile
from persistence.kit.imports.file_sync import REFUSED, FileSync, SyncCounts, SyncOptions
from persistence.kit.imports.import_journal import ImportJournal
from persistence.kit.query.entity import counted

JSON_LINES = {".jsonl", ".jsonlines", ".ndjson"}


def import_items(
    file: Annotated[
        Path,
        typer.Argument(
            parser=readable_file,
            metavar="FILE",
            help="FILE.csv with commas, semicolons, tabs or |, or FILE.jsonl; UTF-8 or UTF-16. -: standard input.",
        ),
    ],
    owner: Annotated[str | None, typer.Option(help="Username of the owner of new items. Default: none.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep an apostrophe before = + - @: the file was exported with --raw.")] = False,
    into: Annotated[str, typer.Option(metavar="NAME", help="What the rows are, as in /api/v2/import/NAME.")] = "items",
    match: Annotated[
        str,
        typer.Option(
            metavar="none|external-id|id",
            help="How a row finds its item: by external-id or id (of an export); with none, each row is a new item. Other rows go by key, not external-id.",
        ),
    ] = "none",
    delete_missing: Annotated[
        bool, typer.Option("--delete-missing", help="Delete items with an external id that no row names. Those whose row is refused stay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without applying it.")] = False,
    kind: Annotated[str | None, typer.Option("--format", help="csv or jsonl. Default: by the file's name; csv for standard input.")] = None,
) -> None:
    """Import items from CSV or JSON Lines, or synchronise the catalogue with the file: print a plan, then apply it.

    Invalid rows are reported by line number and skipped. It can be stopped and run again: each row counts once.

    Exit codes: 0 every row was imported; 1 rows were refused, or the file cannot be read to its end; 2 the command or a setting is wrong.
    """
    declared = imports().get(into)
    if declared is None:
        raise typer.BadParameter(f"there is no import into {into!r}, but into {', '.join(imports())}")
    try:
        options = declared.options(match, delete_missing=delete_missing, dry_run=dry_run)
    except InvalidInput as error:
        raise typer.BadParameter(str(error)) from None
    if kind not in {None, "csv", "jsonl"}:
        raise typer.BadParameter(f"the format must be csv or jsonl, not {kind!r}")
    run = _Import(file, declared, options, raw, f".{kind}" if kind else file.suffix.lower())
    try:
        asyncio.run(run.run(load_settings(), owner))
    except (OSError, LookupError, UnreadableFile, InvalidInput) as error:
        fail(f"{run.so_far()}{error}")
    if not dry_run:
        typer.echo(run.summary())
    for note in run.notes:
        typer.echo(note, err=True)
    if run.counts.refused or run.notes:
        raise typer.Exit(1)


class _Lines:
    """Lines that were reported, in a bit each: a file of eight million lines takes a megabyte."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, line: int) -> bool:
        """Whether it was not among them."""
        place, bit = line >> 3, 1 << (line & 7)
        self._bits.extend(bytes(max(0, place + 1 - len(self._bits))))
        is_new = not self._bits[place] & bit
        self._bits[place] |= bit
        return is_new


@dataclass
class _Import:
    """One run of the command, which reads its file twice: what is to be done is known before anything is. Where that is nothing, once is enough."""

    path: Path
    declared: Import
    options: SyncOptions
    raw: bool
    ending: str
    counts: SyncCounts = field(default_factory=SyncCounts)
    notes: Sequence[str] = ()
    _has_plan: bool = False
    _reported: _Lines = field(default_factory=_Lines)

    def summary(self) -> str:
        if self.options.match is Match.NONE:
            return f"{plural(self.counts.created, self._kind)} imported, {plural(self.counts.refused, 'row')} refused."
        return f"Done: {self._sums()}"

    def so_far(self) -> str:
        """How far it came before it failed."""
        changed = self.counts.created + self.counts.updated
        return f"After {plural(changed, self._kind)}: " if self._has_plan and changed else ""

    @property
    def _kind(self) -> str:
        return self.declared.target.form.type_name.lower()

    def _sums(self) -> str:
        return ", ".join(f"{count:,} {outcome}" for outcome, count in asdict(self.counts).items()) + "."

    async def run(self, settings: Settings, owner: str | None) -> None:
        async with open_database(settings) as database:
            owner_id = None if owner is None else await _user_id(database, owner)
            with stored_input(self.path) as path, _read_twice(path) as file:
                journal = await self._journal(database, file, owner)
                options = replace(self.options, owner_id=owner_id)
                if self.declared.target.form.needs_owner and owner_id is None:
                    raise LookupError(f"Each {self._kind} has an owner: name a user by --owner.")
                await self._read(database, file, replace(options, dry_run=True), journal)
                typer.echo(f"Plan: {self._sums()}")
                self._has_plan = True
                if not options.dry_run and (self.counts.created or self.counts.updated or self.counts.deleted):
                    await self._read(database, file, options, journal)
                if journal:
                    await journal.forget(database)

    async def _read(self, database: Database, file: BinaryIO, options: SyncOptions, journal: ImportJournal | None) -> None:
        """The file from its start to its end."""
        file.seek(0)
        self.counts = SyncCounts()
        sync = FileSync(database, self.declared.target, options, journal, self.counts)
        self.notes = sync.notes
        with progress("Planning" if options.dry_run else "Applying", os.fstat(file.fileno()).st_size) as report:
            async with aclosing(sync.run(self._rows(file))) as batches:
                async for batch in batches:
                    report(file.tell())
                    for row in batch.rows:
                        if row.outcome == REFUSED and self._reported.add(row.line or 0):
                            typer.echo(f"line {row.line}: {row.message}", err=True)

    async def _journal(self, database: Database, file: BinaryIO, owner: str | None) -> ImportJournal | None:
        """Of an import that creates: one that matches does nothing a second time anyway."""
        if self.options.match is not Match.NONE or self.options.dry_run:
            return None
        journal = await ImportJournal.begin(
            database, import_journal.attempt(file, self.declared.name, owner, self.raw, self.ending in JSON_LINES)
        )
        if line := journal.state.get("line"):
            typer.echo(f"An earlier run was interrupted: this one goes on after line {line:,}.", err=True)
        return journal

    def _rows(self, file: BinaryIO) -> Iterator[ImportRow]:
        if self.ending == ".json":
            raise UnreadableFile("A .json file is one array: import reads JSON Lines, which `export --format jsonl` writes.")
        if self.ending in JSON_LINES:
            return self.declared.target.form.from_json_lines(file, match=self.options.match)
        return self.declared.target.form.from_csv(file, raw=self.raw, unread=self._say_unread, match=self.options.match)

    def _say_unread(self, note: str) -> None:
        if not self._has_plan:
            typer.echo(note, err=True)


@contextmanager
def _read_twice(path: Path) -> Generator[BinaryIO]:
    """The file; what comes through a pipe is stored first."""
    with path.open("rb") as file:
        if file.seekable():
            yield file
            return
        with tempfile.TemporaryFile() as stored:
            shutil.copyfileobj(file, stored)
            yield stored


def export_items(
    file: Annotated[Path | None, typer.Argument(dir_okay=False, help="File to write. Default, and -: standard output.")] = None,
    kind: Annotated[str | None, typer.Option("--format", help="csv, txt, json or jsonl. Default: by the file's name.")] = None,
    search: Annotated[str | None, typer.Option(help="Only items with words that begin with these.")] = None,
    limit: Annotated[int | None, typer.Option(parser=whole_number(), metavar="NUMBER", help="Maximum number of items.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="CSV for programs: leave cells that look like formulas as they are.")] = False,
    force: Force = False,
    bom: Annotated[bool, typer.Option("--bom", help="CSV with a byte order mark, by which Excel recognises UTF-8.")] = False,
) -> None:
    """Export a consistent snapshot of the items; the file appears once it is complete."""
    if file == STANDARD:
        file = None
    form = kind or (file.suffix.lstrip(".").lower() if file and file.suffix else "csv")
    if form not in FORMATS:
        raise typer.BadParameter(f"the format must be one of {', '.join(FORMATS)}, not {form!r}")
    try:
        rows = asyncio.run(
            _exported(load_settings(), file, form, ExportRequest(replace(listing.ALL, search=search), limit, raw, bom), force=force)
        )
    except BrokenPipeError:  # Whoever reads has enough, as `head` does; what is left has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, InvalidInput) as error:
        fail(str(error))
    else:
        if file and file.is_file():
            typer.echo(f"{file}: {plural(rows, 'item')}.")


async def _exported(settings: Settings, path: Path | None, kind: str, request: ExportRequest, *, force: bool) -> int:
    """How many items were written."""
    rows = RowCounter(kind)
    async with open_database(settings) as database:
        async with database.reading() as session:
            total = await session.scalar(counted(request.items.listing())) or 0
        with _target(path, force=force) as file, progress("Items", min(total, request.limit or total)) as report:
            async with aclosing(FORMATS[kind].parts(database, request)) as parts:
                async for part in parts:
                    file.write(part)
                    rows.add(part)
                    report(rows.count)
    return rows.count


class RowCounter:
    """Counts the items of an export from its bytes, cut anywhere: only in CSV a line end may stand within a text, and then within quotes."""

    def __init__(self, kind: str) -> None:
        self._is_csv, self._is_quoted = kind == "csv", False
        self.count = -1 if self._is_csv else 0  # The header is no item.

    def add(self, part: bytes) -> None:
        if not self._is_csv:
            self.count += 0 if part == b"[]\n" else part.count(b"\n")
            return
        for place, piece in enumerate(part.split(b'"')):
            self._is_quoted ^= place > 0
            self.count += 0 if self._is_quoted else piece.count(b"\n")


async def _user_id(database: Database, username: str) -> int:
    async with database.reading_latest() as session:
        user = (await users.by_username(session, [username])).get(username)
    if user is None:
        raise LookupError(f"There is no user {username!r}: they must sign up first.")
    return user.id


@contextmanager
def _target(path: Path | None, *, force: bool) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with new_file(path, force=force) as place, place.open("wb") as file:
        yield file
