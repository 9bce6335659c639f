"""Executes prepared statements on PostgreSQL with asyncpg, on a few connections of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from persistence.kit.database import hosts
from persistence.kit.database.connection_pool import ConnectionPool, PooledConnection
from persistence.kit.database.engines import PoolSize
from persistence.kit.database.executors.statement_executor import PreparedStatement, Row

CONNECTIONS = 4  # Of one process: its single core is busy with fewer.
STATEMENTS = 200  # Prepared on one connection.


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
            max_cacheable_statement_size=0,  # None is too long: one that selects much would be prepared anew each time.
            server_settings=self._pool.session_settings,
            timeout=self._pool.connect_seconds,
            command_timeout=self._pool.command_seconds,
        )

    async def close(self) -> None:
        await self._links.close()
