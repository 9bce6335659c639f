"""Brings the catalogue in step with a file, batch by batch at constant memory, and reports what each row did.

A batch is compared without a lock; only one that changes something has a transaction, so that a file which says nothing new writes nothing and keeps nobody
waiting. It can be stopped between any two batches and begun again: rows that are matched change nothing the second time, and of a file whose rows are all
new a journal tells how far it came. What a file does not name is deleted after its last row, and never where a row could not be read.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing, closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import select

from persistence import audit
from persistence.audit import NewAuditEntry
from persistence.items import external_ids, file_import, upserts
from persistence.items import table as items
from persistence.items.file_import import ImportRow, Match, id_key
from persistence.items.import_journal import ImportJournal
from persistence.items.table import Item
from persistence.items.upserts import ItemPatch, Upserted, UpsertOutcome, UpsertResult
from persistence.kit.database.database import Database

BATCH_ROWS = 500  # Of one transaction: other writers wait for some tens of milliseconds.
DELETED, REFUSED = "deleted", "refused"
SPARED_UNREADABLE = "Nothing was deleted: of the rows that are refused, some do not say which item they are about."
SPARED_EMPTY = "Nothing was deleted: the file names no item at all."


@dataclass(frozen=True)
class SyncOptions:
    match: Match
    delete_missing: bool = False
    dry_run: bool = False
    owner_id: int | None = None
    """Whose new items are."""
    actor_id: int | None = None
    """Who is responsible; nobody is an operator at the command line."""


@dataclass(frozen=True)
class RowReport:
    """What a row did, or an item that was deleted as no row names it: `created`, `updated`, `deleted` or `refused`."""

    outcome: str
    line: int | None = None
    item_id: int | None = None
    external_id: str | None = None
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
    options: SyncOptions
    journal: ImportJournal | None = None
    """Of an import that may come again."""
    counts: SyncCounts = field(default_factory=SyncCounts)
    notes: list[str] = field(default_factory=list[str])

    def run(self, rows: Iterable[ImportRow]) -> AsyncGenerator[SyncBatch]:
        """Raises: UnreadableFile, after the rows before; InvalidInput, where another run of the same import has come further."""
        return self._create(rows) if self.options.match is Match.NONE else self._match(rows)

    async def finish(self) -> None:
        """Keep the sums, for when the import comes again."""
        if self.journal and not self.options.dry_run:
            async with self.database.transaction() as work:
                await self.journal.note(work, {**self.journal.state, "counts": self.summary()})

    def summary(self) -> dict[str, Any]:
        return {"outcome": "DONE", **asdict(self.counts), **({"notes": self.notes} if self.notes else {})}

    async def _create(self, rows: Iterable[ImportRow]) -> AsyncGenerator[SyncBatch]:
        if self.journal:
            self.counts.created = self.journal.state.get("created", 0)
        options = self.options
        loading = file_import.load(self.database, rows, owner_id=options.owner_id, dry_run=options.dry_run, journal=self.journal)
        async with aclosing(loading) as batches:
            async for batch in batches:
                self.counts.created += batch.created
                self.counts.refused += len(batch.refused)
                yield SyncBatch([RowReport(REFUSED, row.line, message=row.fault) for row in batch.refused])

    async def _match(self, rows: Iterable[ImportRow]) -> AsyncGenerator[SyncBatch]:
        with closing(_Keys()) as keys:
            async with aclosing(file_import.batches(rows, BATCH_ROWS)) as batches:
                async for batch in batches:
                    yield await self._batch(batch, keys)
            if self.options.delete_missing:
                async with aclosing(self._delete_missing(keys)) as deletions:
                    async for deleted in deletions:
                        yield deleted

    async def _batch(self, batch: Sequence[ImportRow], keys: _Keys) -> SyncBatch:
        rows = [_refuse_repeated(row, keys) for row in batch]
        good = [row for row in rows if row.patch is not None]
        results = dict(zip([row.line for row in good], await self._apply([row.patch for row in good if row.patch]), strict=True))
        if self.options.delete_missing:
            keys.add([id_key(result.item_id) for result in results.values() if isinstance(result, Upserted) and result.item_id is not None])
        reports = [_report(row, results.get(row.line)) for row in rows]
        for report in reports:
            self._count(report)
        return SyncBatch([report for report in reports if report.outcome != UpsertOutcome.UNCHANGED.value])

    def _count(self, report: RowReport) -> None:
        setattr(self.counts, report.outcome, getattr(self.counts, report.outcome) + 1)

    async def _apply(self, patches: Sequence[ItemPatch]) -> list[UpsertResult]:
        async with self.database.reading_latest() as session:
            results = await upserts.plan(session, patches)
        places = [place for place, result in enumerate(results) if _is_change(result)]
        if self.options.dry_run or not places:
            return results
        async with self.database.transaction() as work:
            changed = await upserts.upsert(work, [patches[place] for place in places], owner_id=self.options.owner_id)
            await audit.write(work, "items.imported", actor_id=self.options.actor_id, detail={"rows": sum(map(_is_change, changed))})
        for place, result in zip(places, changed, strict=True):
            results[place] = result
        return results

    async def _delete_missing(self, keys: _Keys) -> AsyncGenerator[SyncBatch]:
        if keys.is_incomplete or not keys:
            self.notes.append(SPARED_UNREADABLE if keys.is_incomplete else SPARED_EMPTY)
            return
        last = 0
        while found := await self._known(last):
            last = found[-1].id
            missing = {row.id: row.external_id for row in found if not keys.has([id_key(row.id), row.external_id])}
            gone = missing.keys() if self.options.dry_run or not missing else await self._delete(missing)
            self.counts.deleted += len(gone)
            yield SyncBatch([RowReport(DELETED, item_id=id_, external_id=missing[id_]) for id_ in gone])

    async def _known(self, after: int) -> Sequence[Any]:
        """The next items that have an external id."""
        having = (Item.id > after, Item.external_id.is_not(None), Item.deleted_at.is_(None))
        statement = select(Item.id, Item.external_id).where(*having).order_by(Item.id).limit(BATCH_ROWS)
        async with self.database.reading_latest() as session:
            return (await session.execute(statement)).all()

    async def _delete(self, missing: Collection[int]) -> Sequence[int]:
        async with self.database.transaction() as work:
            ids = await items.delete_all(work, missing)
            await audit.write_all(work, "item.deleted", [NewAuditEntry(self.options.actor_id, ("Item", id_)) for id_ in ids])
            return ids


class _Keys:
    """The items that a file has named so far, in a temporary file of SQLite: their digests, so that memory stays the same however many they are."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("CREATE TABLE named (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("BEGIN")
        self.is_incomplete = False
        """Whether a row did not say which item it is about."""

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


def _refuse_repeated(row: ImportRow, keys: _Keys) -> ImportRow:
    """The row, refused if an earlier one has named its item. What a refused row names is spared, too."""
    if row.key is None:
        keys.is_incomplete = True
        return row
    if not keys.add_new(row.key) and row.patch is not None:
        return replace(row, patch=None, fault=f"{external_ids.PATH if row.patch.item_id is None else 'id'}: {external_ids.REPEATED}")
    return row


def _is_change(result: UpsertResult) -> bool:
    return isinstance(result, Upserted) and result.outcome is not UpsertOutcome.UNCHANGED


def _report(row: ImportRow, result: UpsertResult | None) -> RowReport:
    if not isinstance(result, Upserted):
        return RowReport(REFUSED, row.line, external_id=row.external_id, message=row.fault if result is None else result.message)
    return RowReport(result.outcome.value, row.line, result.item_id, row.external_id, result.fields)
