"""Executes single-statement writes, each its own transaction in one round trip; PostgreSQL only, where one statement can change several tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect

from persistence.kit.database.commits import Change, committing
from persistence.kit.database.executors.statement_executor import (
    InstrumentedExecutor,
    PreparedStatement,
    Row,
    StatementExecutor,
    StatementHook,
)
from persistence.kit.tasks.detached import DetachedTasks

WRITE_CONNECTIONS = 8  # Each waits for its commit, and those that wait together are synced together.


@dataclass(frozen=True)
class SingleStatementWrite:
    """`changes` reads what it did from its row."""

    prepared: PreparedStatement
    tables: frozenset[str]
    changes: Callable[[Row], Sequence[Change]]


class WriteExecutor:
    def __init__(
        self,
        statements: StatementExecutor,
        notify_tables: Callable[[Collection[str]], Awaitable[None]],
        made: Callable[[Sequence[Change]], Awaitable[None]],
        detached: DetachedTasks,
    ) -> None:
        """`notify_tables` runs before the result is returned, so that caches are invalidated; `made` runs after the commit."""
        self._statements, self._notify_tables, self._made, self._detached = statements, notify_tables, made, detached

    @property
    def dialect(self) -> Dialect:
        return self._statements.dialect

    async def read(self, prepared: PreparedStatement, values: Mapping[str, Any]) -> Sequence[Row]:
        """Rows as they are now, which a change may follow."""
        return await self._statements.fetch(prepared, values)

    async def execute(self, statement: SingleStatementWrite, values: Mapping[str, Any]) -> Row | None:
        """The row of a change that was made; None if its conditions did not hold, so that nothing is changed.

        The statement is its own commit, so a caller that is cancelled leaves it to end by itself.
        """
        return await self._detached.run(self._make(statement, values))

    async def _make(self, statement: SingleStatementWrite, values: Mapping[str, Any]) -> Row | None:
        rows: Sequence[Row] | None = None
        try:
            with committing() as commit:
                rows = await self._statements.fetch(statement.prepared, values)
                commit.changed = bool(rows)
        finally:
            if rows is None or rows:  # It may have been made although its answer was lost.
                await self._notify_tables(statement.tables)
        if not rows:
            return None
        await self._made(statement.changes(rows[0]))
        return rows[0]

    @property
    def use(self) -> tuple[int, int, int]:
        """How many connections are at work, idle, and allowed."""
        return self._statements.use

    def watch(self, watch: StatementHook) -> None:
        self._statements = InstrumentedExecutor(self._statements, watch)

    async def close(self) -> None:
        await self._statements.close()
