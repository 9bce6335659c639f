"""Executes hot reads of a SQLite file in one thread; reads that arrive while it works go to it as one batch."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect

from persistence.kit.database.engines import MAPPED_BYTES
from persistence.kit.database.executors.statement_executor import PreparedStatement, Row
from persistence.kit.lru_cache import LruCache

BUSY_SECONDS = 1.0  # Readers of a log in WAL mode wait for a moment only, while it is recovered or emptied.
STEPS = 20_000  # Of SQLite's machine between two looks at the clock: a millisecond or so.

SCAN_BYTES = 8 * 2**20  # Of results that are kept until the database changes: hundreds of pages.

ReadResult: TypeAlias = "Sequence[Row] | Exception"


@dataclass(frozen=True)
class PendingRead:
    prepared: PreparedStatement
    values: Mapping[str, Any]
    answer: asyncio.Future[Sequence[Row]]

    def resolve(self, outcome: ReadResult) -> None:
        if self.answer.done():  # Whoever asked has been cancelled meanwhile.
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


def _scan_bytes(key: tuple[Any, ...], known: tuple[int, Sequence[Row]]) -> int:
    # The statement's text is the prepared one's.
    return sum(map(sys.getsizeof, key[1:])) + sum(sys.getsizeof(cell) for row in known[1] for cell in (row, *row))


class SqliteExecutor:
    def __init__(self, url: str, *, read_seconds: float | None = None) -> None:
        """`read_seconds` is for a statement: there is one thread, for which all others wait."""
        self.dialect: Dialect = sqlite.aiosqlite.dialect()
        self._file = make_url(url).database or ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raw-reads")
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[PendingRead] = []
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._read_seconds = read_seconds or math.inf
        self._running: PendingRead | None = None
        self._scans = LruCache[tuple[Any, ...], tuple[int, Sequence[Row]]](SCAN_BYTES, _scan_bytes)  # Of the thread alone.
        self._ends_at = math.inf

    @property
    def use(self) -> tuple[int, int, int]:
        """One connection: how many are at work, idle, and allowed."""
        return int(self._running is not None), int(self._running is None), 1

    async def fetch(self, prepared: PreparedStatement, values: Mapping[str, Any]) -> Sequence[Row]:
        if self._closed:
            raise sqlite3.ProgrammingError("the reads of this file have been closed")
        pending = PendingRead(prepared, values, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        return await pending.answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for pending, outcome in zip(batch, await self._results(batch), strict=True):
                    pending.resolve(outcome)
        finally:
            for pending in self._waiting:  # Of a task that was cancelled: nobody else would come for them.
                pending.answer.cancel()
            self._waiting, self._worker = [], None

    async def _results(self, batch: Sequence[PendingRead]) -> Sequence[ReadResult]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: [self._result(pending) for pending in batch])
        except RuntimeError as error:  # The machine has no thread to give: all of them must hear of it.
            return [error] * len(batch)
        except asyncio.CancelledError:
            for pending in batch:
                pending.answer.cancel()
            raise

    def _result(self, pending: PendingRead) -> ReadResult:
        if pending.answer.cancelled():
            return ()
        try:
            self._connection = self._connection or self._opened()
            self._running, self._ends_at = pending, time.monotonic() + self._read_seconds
            return self._rows(self._connection, pending.prepared, pending.values)
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked for this
            return error
        finally:
            self._running = None

    def _rows(self, connection: sqlite3.Connection, prepared: PreparedStatement, values: Mapping[str, Any]) -> Sequence[Row]:
        arguments = prepared.arguments(values)
        rows = (
            self._cached(connection, prepared.sql, arguments) if prepared.scans else connection.execute(prepared.sql, arguments).fetchall()
        )
        if prepared.beside is None:
            return rows
        return [(*row, *further) for row, further in zip(rows, self._rows(connection, prepared.beside, values), strict=True)]

    def _cached(self, connection: sqlite3.Connection, sql: str, arguments: Sequence[Any]) -> Sequence[Row]:
        """The version is read before the rows: what a commit in between has changed is kept under a version that is over."""
        [version] = connection.execute("PRAGMA data_version").fetchone()
        known = self._scans.get(key := (sql, *arguments))
        if known is None or known[0] != version:
            known = version, connection.execute(sql, arguments).fetchall()
            self._scans.put(key, known)
        return known[1]

    def _is_to_stop(self) -> bool:
        """SQLite asks this in the midst of a statement, and fails it with "interrupted" when it is true."""
        return time.monotonic() > self._ends_at or (self._running is not None and self._running.answer.cancelled())

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA query_only=ON")
        connection.execute(f"PRAGMA mmap_size={MAPPED_BYTES}")
        connection.text_factory = bytes
        connection.set_progress_handler(self._is_to_stop, STEPS)
        return connection

    async def close(self) -> None:
        """What has been asked for by now is answered."""
        self._closed = True
        if self._worker:
            await self._worker
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
