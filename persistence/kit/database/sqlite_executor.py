"""Hot reads of an SQLite file, in one thread. What is asked for while it works gathers, and goes to it in one errand: that costs as much as a small statement."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import make_url
from sqlalchemy.dialects import sqlite

from persistence.kit.database.engines import MAPPED_BYTES

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from persistence.kit.database.statement_executor import Prepared, Row

BUSY_SECONDS = 10

Outcome: TypeAlias = "Sequence[Row] | Exception"


@dataclass(frozen=True)
class Asked:
    sql: str
    arguments: Sequence[Any]
    answer: asyncio.Future[Sequence[Row]]

    def settle(self, outcome: Outcome) -> None:
        if self.answer.done():  # Whoever asked has been cancelled meanwhile.
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class SqliteReads:
    def __init__(self, url: str) -> None:
        self.dialect: Dialect = sqlite.aiosqlite.dialect()
        self._file = make_url(url).database or ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raw-reads")
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[Asked] = []
        self._errands: asyncio.Task[None] | None = None
        self._closed = False

    async def fetch(self, prepared: Prepared, values: Mapping[str, Any]) -> Sequence[Row]:
        if self._closed:
            raise sqlite3.ProgrammingError("the reads of this file have been closed")
        asked = Asked(prepared.sql, prepared.arguments(values), asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._errands is None:
            self._errands = asyncio.create_task(self._run_errands())
        return await asked.answer

    async def _run_errands(self) -> None:
        while self._waiting:
            errand, self._waiting = self._waiting, []
            for asked, outcome in zip(errand, await self._outcomes(errand), strict=True):
                asked.settle(outcome)
        self._errands = None

    async def _outcomes(self, errand: Sequence[Asked]) -> Sequence[Outcome]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: [self._outcome(asked) for asked in errand])
        except RuntimeError as error:  # The machine has no thread to give: all of them must hear of it.
            return [error] * len(errand)

    def _outcome(self, asked: Asked) -> Outcome:
        if asked.answer.cancelled():
            return ()
        try:
            self._connection = self._connection or self._opened()
            return self._connection.execute(asked.sql, asked.arguments).fetchall()
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked for this
            return error

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA query_only=ON")
        connection.execute(f"PRAGMA mmap_size={MAPPED_BYTES}")
        connection.text_factory = bytes
        return connection

    async def close(self) -> None:
        """What has been asked for by now is answered."""
        self._closed = True
        if self._errands:
            await self._errands
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
