"""Reads without the ORM and its result objects: a statement compiled once, and rows as the driver gives them.

For hot reads only. A row holds what the driver makes of a column, so `plain` says how each kind of column is shown; `RawReads` keeps a few
connections of its own, on which nothing is ever written and no transaction is opened.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from sqlalchemy import BigInteger, ColumnElement, Select, String, make_url, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

from persistence.kit.columns import Money, UtcDateTime
from persistence.kit.engines import PoolSize

CONNECTIONS = 4  # Of one process: its single core is busy with fewer.
SQLITE_BUSY_SECONDS = 10
COMPOSED = 500  # Forms of statements: which filters are set, by which order.

Row = Any  # A tuple of the driver's own kind.
Show = Callable[[Any], Any]

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
        self._statement_cache, self._settings = pool.statement_cache, pool.session_settings
        self._connections, self._readonly = connections, readonly
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, prepared: Prepared, values: Mapping[str, Any]) -> Sequence[Row]:
        pool = self._pool or await self._open()
        async with pool.acquire() as connection:
            if self._statement_cache:
                return await connection.fetch(prepared.sql, *prepared.arguments(values))
            async with connection.transaction(
                readonly=self._readonly
            ):  # What parses a statement must also run it; a pooler keeps that for transactions.
                return await connection.fetch(prepared.sql, *prepared.arguments(values))

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=1,
                    max_size=self._connections,
                    statement_cache_size=200 if self._statement_cache else 0,
                    server_settings=self._settings,
                    reset=_nothing_to_reset,
                )
            return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


async def _nothing_to_reset(_connection: object) -> None:
    """These connections only ever run single statements: there is no state that another user could meet."""


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
        connection.execute("PRAGMA mmap_size=268435456")
        connection.create_function("base64", 1, _base64, deterministic=True)
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


@dataclass(frozen=True)
class Plain:
    """A sort key as the driver gives it, and how such a value is shown in a cursor; None if as it is."""

    column: ColumnElement[Any]
    show: Show | None


def plain(column: Any, dialect: Dialect) -> Plain:
    sqlite_file = dialect.name == "sqlite"
    if isinstance(column.type, Money):
        return Plain(type_coerce(column, BigInteger), money)
    if isinstance(column.type, UtcDateTime):
        return Plain(type_coerce(column, String) if sqlite_file else column, _sqlite_instant if sqlite_file else _instant)
    return Plain(column, None)


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _instant(moment: Any) -> str:
    return moment.isoformat()


def _sqlite_instant(text: str) -> str:
    """From `2026-11-24 08:00:00.123456`, as `isoformat` writes the same instant in UTC."""
    return f"{text[:10]}T{text[11:].removesuffix('.000000')}+00:00"
