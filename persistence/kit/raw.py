"""Reads without the ORM and its result objects: a statement compiled once, and rows as the driver gives them.

For hot reads only, whose columns are numbers or JSON (`persistence.kit.written`), text of SQLite is given as bytes; `RawReads` keeps a few
connections of its own, on which nothing is ever written and no transaction is opened.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from sqlalchemy import Select, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

from persistence.kit.engines import MAPPED_BYTES, PoolSize
from persistence.kit.links import Link, Links

CONNECTIONS = 4  # Of one process: its single core is busy with fewer.
SQLITE_BUSY_SECONDS = 10
STATEMENTS = 200  # Prepared on one connection.
COMPOSED = 500  # Forms of statements: which filters are set, by which order.

Row = Any  # A tuple of the driver's own kind.

# Is told a statement's text, without its parameters, and returns what is to be called once it has been executed, or has failed.
Watch = Callable[[str], Callable[[], None]]


@dataclass(frozen=True)
class Prepared:
    """SQL with the driver's own parameters, and in which order they take the named values."""

    sql: str
    names: tuple[str, ...]
    fixed: Mapping[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] if name in values else self.fixed[name] for name in self.names]


class RawReads(Protocol):
    """Rows for prepared statements; values are as the table keeps them (cents, not decimals)."""

    dialect: Dialect

    async def fetch(self, prepared: Prepared, values: Mapping[str, Any]) -> Sequence[Row]: ...

    async def close(self) -> None: ...


class PostgresReads:
    """Changes, too, of which each is one statement: with `readonly` False, and connections of their own."""

    def __init__(self, url: str, pool: PoolSize, *, connections: int = CONNECTIONS, readonly: bool = True) -> None:
        self.dialect: Dialect = postgresql.asyncpg.dialect()
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._statement_cache, self._settings, self._readonly = pool.statement_cache, pool.session_settings, readonly
        self._links = Links(self._connect, connections, recycle_seconds=pool.recycle_seconds)

    async def fetch(self, prepared: Prepared, values: Mapping[str, Any]) -> Sequence[Row]:
        async with self._links.link() as link:
            if self._statement_cache:
                return await link.fetch(prepared.sql, *prepared.arguments(values))
            # What parses a statement must also run it; a pooler keeps that for transactions.
            async with link.transaction(readonly=self._readonly):
                return await link.fetch(prepared.sql, *prepared.arguments(values))

    async def _connect(self) -> Link:
        statements = STATEMENTS if self._statement_cache else 0
        return await asyncpg.connect(self._dsn, statement_cache_size=statements, server_settings=self._settings)

    async def close(self) -> None:
        await self._links.close()


class SqliteReads:
    def __init__(self, url: str) -> None:
        self.dialect: Dialect = sqlite.aiosqlite.dialect()
        self._file = make_url(url).database or ""
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="raw-reads")
        self._local = threading.local()

    async def fetch(self, prepared: Prepared, values: Mapping[str, Any]) -> Sequence[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, prepared.sql, prepared.arguments(values))

    def _fetch(self, sql: str, arguments: list[Any]) -> list[Row]:
        connection = getattr(self._local, "connection", None) or self._open()
        return connection.execute(sql, arguments).fetchall()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=SQLITE_BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA query_only=ON")
        connection.execute(f"PRAGMA mmap_size={MAPPED_BYTES}")
        connection.text_factory = bytes
        self._local.connection = connection
        return connection

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._close)
        self._threads.shutdown()

    def _close(self) -> None:
        if (connection := getattr(self._local, "connection", None)) is not None:
            connection.close()


class WatchedReads:
    """Reads that somebody is told of."""

    def __init__(self, reads: RawReads, watch: Watch) -> None:
        self.dialect, self._reads, self._watch = reads.dialect, reads, watch

    async def fetch(self, prepared: Prepared, values: Mapping[str, Any]) -> Sequence[Row]:
        done = self._watch(prepared.sql)
        try:
            return await self._reads.fetch(prepared, values)
        finally:
            done()

    async def close(self) -> None:
        await self._reads.close()


def connect(url: str, pool: PoolSize) -> RawReads:
    return SqliteReads(url) if url.startswith("sqlite") else PostgresReads(url, pool)


def prepare(statement: Select[Any], dialect: Dialect) -> Prepared:
    """Compile a statement whose changing values are `bindparam("name")`."""
    compiled = statement.compile(dialect=dialect)
    return Prepared(str(compiled), tuple(compiled.positiontup or ()), compiled.params)


class Composed:
    """Statements that differ in more than their values: each form is compiled once, and kept by SQLAlchemy's own key for it."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect, self._compiled = dialect, LRUCache[Any, Any](COMPOSED)

    def prepare(self, statement: Any) -> Prepared:
        compiled, extracted, *_ = statement._compile_w_cache(self._dialect, compiled_cache=self._compiled, column_keys=[])  # noqa: SLF001 -- as its engine does
        processors: Mapping[str, Callable[[Any], Any]] = compiled._bind_processors  # noqa: SLF001 -- the same
        values = compiled.construct_params(extracted_parameters=extracted)
        values = {name: processors[name](value) if name in processors else value for name, value in values.items()}
        return Prepared(compiled.string, tuple(compiled.positiontup or ()), values)
