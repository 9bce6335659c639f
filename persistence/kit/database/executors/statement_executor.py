"""The interface of statement executors: prepared statements without the ORM, whose rows come as the driver gives them.

For hot reads whose columns are numbers or JSON (`persistence.kit.query`), and for single-statement writes. `asyncpg_executor.py` implements it
for PostgreSQL, `sqlite_executor.py` for SQLite, where text is given as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect

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
    scans: bool = False
    """Whether it looks at many rows for few: SQLite keeps its result until the database changes."""
    beside: PreparedStatement | None = None
    """Further columns for each of the rows, from a statement of their own; only for SQLite."""

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


class InstrumentedExecutor:
    """Calls a hook around each statement."""

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


def prepare(statement: Select[Any], dialect: Dialect) -> PreparedStatement:
    """Compile a statement; the values of its `bindparam("name")` are given when it is run, or those that they have hold."""
    compiled: Any = statement.compile(dialect=dialect)
    processors: Mapping[str, Process] = compiled._bind_processors  # noqa: SLF001 -- as SQLAlchemy's engine does
    needed = {name: process for name, process in processors.items() if not _is_plain_list(compiled.binds[name].type, dialect)}
    return PreparedStatement(str(compiled), tuple(compiled.positiontup or ()), compiled.params, needed)


def _is_plain_list(type_: Any, dialect: Dialect) -> bool:
    """Whether SQLAlchemy would copy a list and change nothing."""
    return isinstance(type_, ARRAY) and cast("Any", type_).item_type.dialect_impl(dialect).bind_processor(dialect) is None
