"""Brings an entity's table in step with a file, batch by batch at constant memory, and reports what each row did.

A batch is compared without a lock; only one that changes something has a transaction, so that a file which says nothing new writes nothing and keeps nobody
waiting. It can be stopped between any two batches and begun again: rows that are matched change nothing the second time, and of a file whose rows are all
new a journal tells how far it came. What a file does not name is deleted after its last row, and never where a row could not be read.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, cast, runtime_checkable

from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database.database import Database, UnitOfWork
from persistence.kit.imports.file_rows import FileForm, ImportRow, Match, UnreadableFile, id_key
from persistence.kit.imports.import_journal import ImportJournal
from persistence.kit.imports.outcomes import ImportResult, Upserted, UpsertOutcome

BATCH_ROWS = 500  # Of one transaction: other writers wait for some tens of milliseconds.
SLICE_ROWS = 25  # Read before others have their turn on the event loop: a millisecond or two.
DELETED, REFUSED = "deleted", "refused"
REPEATED = "is that of an earlier row, too"
SPARED_UNREADABLE = "Nothing was deleted: of the rows that are refused, some do not say which {kind} they are about."
SPARED_EMPTY = "Nothing was deleted: the file names no {kind} at all."


@dataclass(frozen=True)
class SyncOptions:
    match: Match
    delete_missing: bool = False
    dry_run: bool = False
    owner_id: int | None = None
    """Whose new rows are."""
    actor_id: int | None = None
    """Who is responsible; nobody is an operator at the command line."""
    of_others: bool = True
    """Whether rows of other users may be changed, where rows have owners."""


class ImportTarget(Protocol):
    """What an import does to the rows of an entity. Contents of rows are what the form has made of them."""

    @property
    def form(self) -> FileForm: ...

    async def compare(self, session: AsyncSession, contents: Sequence[Any], options: SyncOptions) -> Sequence[ImportResult | None]:
        """What each row would do, without a lock; None where only doing it tells."""
        ...

    async def apply(self, work: UnitOfWork, contents: Sequence[Any], options: SyncOptions) -> Sequence[ImportResult]:
        """Create and change rows; one that is refused changes nothing."""
        ...


@runtime_checkable
class DeletingTarget(ImportTarget, Protocol):
    """One whose rows can be deleted because no row of the file names them."""

    async def keyed(self, session: AsyncSession, after: int, most: int) -> Mapping[int, str]:
        """The next rows that have a key, in order of their ids, and these keys."""
        ...

    async def delete(self, work: UnitOfWork, row_ids: Collection[int], options: SyncOptions) -> Sequence[int]:
        """The ids of those that were there."""
        ...


@dataclass(frozen=True)
class RowReport:
    """What a row did, or that one was deleted as no row of the file names it: `created`, `updated`, `deleted` or `refused`."""

    outcome: str
    line: int | None = None
    row_id: int | None = None
    key: str | None = None
    fields: Sequence[str] = ()
    message: str | None = None


@dataclass
class SyncCounts:
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0


@dataclass(frozen=True)
class SyncBatch:
    """Some rows that are done: those that changed something or were refused."""

    rows: Sequence[RowReport]


@dataclass
class FileSync:
    """One run over a file's rows. `counts` and `notes` are complete when `run` has ended."""

    database: Database
    target: ImportTarget
    options: SyncOptions
    journal: ImportJournal | None = None
    """Of an import that may come again."""
    counts: SyncCounts = field(default_factory=SyncCounts)
    notes: list[str] = field(default_factory=list[str])

    async def run(self, rows: Iterable[ImportRow]) -> AsyncGenerator[SyncBatch]:
        """Raises: UnreadableFile, after the rows before; InvalidInput, where another run of the same import has come further."""
        done = 0
        if self.journal and self.options.match is Match.NONE:  # Rows that an earlier run has created are passed over.
            done, self.counts.created = self.journal.state.get("line", 0), self.journal.state.get("created", 0)
        with closing(_Keys()) as keys:
            async with aclosing(batches(rows, BATCH_ROWS)) as parts:
                async for part in parts:
                    if following := [row for row in part if row.line > done]:
                        yield await self._batch(following, keys)
            if self.options.delete_missing:
                async with aclosing(self._delete_missing(keys)) as deletions:
                    async for deleted in deletions:
                        yield deleted

    async def finish(self) -> None:
        """Keep the sums, for when the import comes again."""
        if self.journal and not self.options.dry_run:
            async with self.database.transaction() as work:
                await self.journal.note(work, {**self.journal.state, "counts": self.summary()})

    def summary(self) -> dict[str, Any]:
        return {"outcome": "DONE", **asdict(self.counts), **({"notes": self.notes} if self.notes else {})}

    async def _batch(self, batch: Sequence[ImportRow], keys: _Keys) -> SyncBatch:
        rows = batch if self.options.match is Match.NONE else [self._refuse_repeated(row, keys) for row in batch]
        good = [row for row in rows if row.content is not None]
        results = dict(zip([row.line for row in good], await self._apply(good, rows[-1].line), strict=True))
        if self.options.delete_missing:
            keys.add([id_key(result.row_id) for result in results.values() if isinstance(result, Upserted) and result.row_id is not None])
        reports = [_report(row, results.get(row.line)) for row in rows]
        for report in reports:
            self._count(report)
        return SyncBatch([report for report in reports if report.outcome != UpsertOutcome.UNCHANGED.value])

    def _refuse_repeated(self, row: ImportRow, keys: _Keys) -> ImportRow:
        """The row, refused if an earlier one has named its row of the table. What a refused row names is spared, too."""
        if row.key is None:
            keys.is_incomplete = True
            return row
        if not keys.add_new(row.key) and row.content is not None:
            path = "id" if row.natural_key is None else self.target.form.name(self.target.form.key[0])
            return replace(row, content=None, fault=f"{path}: {REPEATED}")
        return row

    def _count(self, report: RowReport) -> None:
        setattr(self.counts, report.outcome, getattr(self.counts, report.outcome) + 1)

    async def _apply(self, rows: Sequence[ImportRow], last_line: int) -> list[ImportResult]:
        contents, dry_run = [row.content for row in rows], self.options.dry_run
        async with self.database.reading_latest() as session:
            results = [*await self.target.compare(session, contents, self.options)]
        places = [place for place, result in enumerate(results) if result is None or (_is_change(result) and not dry_run)]
        if places:
            with suppress(_DryRun):
                async with self.database.transaction() as work:
                    done = await self.target.apply(work, [contents[place] for place in places], self.options)
                    for place, result in zip(places, done, strict=True):
                        results[place] = result
                    if dry_run:
                        raise _DryRun
                    if self.journal and self.options.match is Match.NONE:
                        created = self.counts.created + sum(map(_is_change, done))
                        await self.journal.note(work, {"line": last_line, "created": created})
        return [result for result in results if result is not None]

    async def _delete_missing(self, keys: _Keys) -> AsyncGenerator[SyncBatch]:
        if keys.is_incomplete or not keys:
            spared = SPARED_UNREADABLE if keys.is_incomplete else SPARED_EMPTY
            self.notes.append(spared.format(kind=self.target.form.type_name.lower()))
            return
        target, last = cast("DeletingTarget", self.target), 0
        while found := await self._keyed(target, last):
            last = max(found)
            missing = {id_: key for id_, key in found.items() if not keys.has([id_key(id_), key])}
            gone = missing.keys() if self.options.dry_run or not missing else await self._delete(target, missing)
            self.counts.deleted += len(gone)
            yield SyncBatch([RowReport(DELETED, row_id=id_, key=missing[id_]) for id_ in gone])

    async def _keyed(self, target: DeletingTarget, after: int) -> Mapping[int, str]:
        async with self.database.reading_latest() as session:
            return await target.keyed(session, after, BATCH_ROWS)

    async def _delete(self, target: DeletingTarget, missing: Collection[int]) -> Sequence[int]:
        async with self.database.transaction() as work:
            return await target.delete(work, missing, self.options)


class _DryRun(Exception):
    """What was done is rolled back: it was to be seen only whether it can be done."""


async def batches(rows: Iterable[ImportRow], most: int) -> AsyncGenerator[list[ImportRow]]:
    """Rows before one that makes the rest unreadable are a batch, too. Raises: UnreadableFile."""
    batch, unreadable = list[ImportRow](), None
    try:
        for number, row in enumerate(rows, 1):
            batch.append(row)
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(0)
            if len(batch) == most:
                yield batch
                batch = []
    except UnreadableFile as error:
        unreadable = error
    if batch:
        yield batch
    if unreadable:
        raise unreadable


class _Keys:
    """What a file has named so far, in a temporary file of SQLite: their digests, so that memory stays the same however many they are."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("CREATE TABLE named (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("BEGIN")
        self.is_incomplete = False
        """Whether a row did not say what it is about."""

    def add(self, keys: Iterable[str]) -> None:
        self._table.executemany("INSERT OR IGNORE INTO named VALUES (?)", [(_digest(key),) for key in keys])

    def add_new(self, key: str) -> bool:
        """Whether nothing has named it before."""
        return self._table.execute("INSERT OR IGNORE INTO named VALUES (?)", (_digest(key),)).rowcount > 0

    def has(self, keys: Iterable[str]) -> bool:
        """Whether one of them was named."""
        return any(self._table.execute("SELECT 1 FROM named WHERE digest = ?", (_digest(key),)).fetchone() for key in keys)

    def __bool__(self) -> bool:
        return self._table.execute("SELECT 1 FROM named LIMIT 1").fetchone() is not None

    def close(self) -> None:
        self._table.close()


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _is_change(result: ImportResult) -> bool:
    return isinstance(result, Upserted) and result.is_change


def _report(row: ImportRow, result: ImportResult | None) -> RowReport:
    if not isinstance(result, Upserted):
        return RowReport(REFUSED, row.line, key=row.natural_key, message=row.fault if result is None else result.message)
    return RowReport(result.outcome.value, row.line, result.row_id, row.natural_key, result.fields)
