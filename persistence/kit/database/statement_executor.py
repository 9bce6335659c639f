"""Executes compiled statements without the ORM: rows come as the driver gives them.

For hot reads only, whose columns are numbers or JSON (`persistence.kit.query`), text of SQLite is given as bytes; `RawReads` keeps a few
connections of its own, on which nothing is ever written and no transaction is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Select, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from persistence.kit.database import hosts
from persistence.kit.database.connection_pool import ConnectionPool, PooledConnection
from persistence.kit.database.engines import PoolSize
from persistence.kit.database.sqlite_executor import SqliteExecutor

CONNECTIONS = 4  # Of one process: its single core is busy with fewer.
STATEMENTS = 200  # Prepared on one connection.

Process = Callable[[Any], Any]
Row = Any  # A tuple of the driver's own kind.

# Is told a statement's text, without its parameters, and returns what is to be called once it has been executed, or has failed.
StatementHook = Callable[[str], Callable[[], None]]


@dataclass(frozen=True)
class PreparedStatement:
    """SQL with the driver's own parameters, in which order they take the named values, and what makes of a value what the driver wants."""

    sql: str
    names: tuple[str, ...]
    fixed: Mapping[str, Any]
    processors: Mapping[str, Process] = field(default_factory=dict[str, Process])

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        supplied = [values[name] if name in values else self.fixed[name] for name in self.names]
        if not self.processors:
            return supplied
        return [
            self.processors[name](value) if name in self.processors else value for name, value in zip(self.names, supplied, strict=True)
        ]


class StatementExecutor(Protocol):
    """Rows for prepared statements; values are as the table keeps them (cents, not decimals)."""

    dialect: Dialect

    @property
    def use(self) -> tuple[int, int, int]:
        """How many connections are at work, idle, and allowed."""
        ...

    async def fetch(self, prepared: PreparedStatement, values: Mapping[str, Any]) -> Sequence[Row]: ...

    async def close(self) -> None: ...


class AsyncpgExecutor:
    """Changes, too, of which each is one statement: with `readonly` False, and connections of their own."""

    def __init__(self, url: str, pool: PoolSize, *, connections: int = CONNECTIONS, readonly: bool = True) -> None:
        self.dialect: Dialect = postgresql.asyncpg.dialect()
        _, self._options = self.dialect.create_connect_args(make_url(url))
        self._options.pop("prepared_statement_cache_size", None)  # SQLAlchemy's, in a URL that both read.
        self._statement_cache, self._readonly = pool.statement_cache, readonly
        self._pool = pool.of_reads if readonly else pool
        self._links = ConnectionPool(self._connect, connections, recycle_seconds=pool.recycle_seconds, wait_seconds=pool.wait_seconds)

    @property
    def use(self) -> tuple[int, int, int]:
        """How many connections are at work, idle, and allowed."""
        return self._links.use

    async def fetch(self, prepared: PreparedStatement, values: Mapping[str, Any]) -> Sequence[Row]:
        async with self._links.connection() as link:
            if self._statement_cache:
                return await link.fetch(prepared.sql, *prepared.arguments(values))
            # What parses a statement must also run it; a pooler keeps that for transactions.
            async with link.transaction(readonly=self._readonly):
                return await link.fetch(prepared.sql, *prepared.arguments(values))

    async def _connect(self) -> PooledConnection:
        statements = STATEMENTS if self._statement_cache else 0
        return await hosts.connect(
            **self._options,
            statement_cache_size=statements,
            server_settings=self._pool.session_settings,
            timeout=self._pool.connect_seconds,
            command_timeout=self._pool.command_seconds,
        )

    async def close(self) -> None:
        await self._links.close()


class InstrumentedExecutor:
    """Reads that somebody is told of."""

    def __init__(self, reads: StatementExecutor, watch: StatementHook) -> None:
        self.dialect, self._reads, self._watch = reads.dialect, reads, watch

    @property
    def use(self) -> tuple[int, int, int]:
        return self._reads.use

    async def fetch(self, prepared: PreparedStatement, values: Mapping[str, Any]) -> Sequence[Row]:
        done = self._watch(prepared.sql)
        try:
            return await self._reads.fetch(prepared, values)
        finally:
            done()

    async def close(self) -> None:
        await self._reads.close()


def connect(url: str, pool: PoolSize) -> StatementExecutor:
    return SqliteExecutor(url, read_seconds=pool.read_seconds) if url.startswith("sqlite") else AsyncpgExecutor(url, pool)


def prepare(statement: Select[Any], dialect: Dialect) -> PreparedStatement:
    """Compile a statement; the values of its `bindparam("name")` are given when it is run, or those that they have hold."""
    compiled: Any = statement.compile(dialect=dialect)
    processors: Mapping[str, Process] = compiled._bind_processors  # noqa: SLF001 -- as SQLAlchemy's engine does
    return PreparedStatement(str(compiled), tuple(compiled.positiontup or ()), compiled.params, processors)
