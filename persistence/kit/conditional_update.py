"""Updates one row, and adds rows that tell of it, as one SQL statement: if the row is still as it was read, and else not at all.

What a locked row, its new values, an event and an audit entry take six round trips for, takes two this way: `find` the row, then `write`. Only where the
database supports it (`Database.write_executor`); whoever gets None goes the long way, through a transaction that locks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from sqlalchemy import CTE, JSON, BindParameter, Column, Label, bindparam, insert, inspect, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from persistence.kit.database.database import Base, Change
from persistence.kit.database.executors.statement_executor import PreparedStatement, Row, prepare
from persistence.kit.database.executors.write_executor import SingleStatementWrite, WriteExecutor
from persistence.kit.query.entity import Entity

R = TypeVar("R", bound=Base)
Columns = Mapping[str, Column[Any]]
Values = Mapping[str, Any]
Addition = tuple[type[Base], Values]
"""A row that is added if the update is made: its table, and its values by attribute."""
Additions = Sequence[Addition]


async def find(writes: WriteExecutor, entity: Entity[R], row_id: int) -> R | None:
    """The row as it is now, unless it has left; it belongs to no session."""
    rows = await writes.read(_lookup(entity, writes.dialect), {"id": row_id})
    return _row(entity, rows[0], writes.dialect) if rows else None


async def write(
    writes: WriteExecutor, entity: Entity[R], row_id: int, values: Values, *, unless: Values, tell: str, also: Additions
) -> R | None:
    """Set these values, and add these rows. The row as it is then; None if it has left, or any value of `unless` is another by now.

    `tell` is the kind of change that listeners hear of. Raises: asyncpg.UniqueViolationError, if one of the rows is there already.
    """
    added = tuple((model, tuple(supplied)) for model, supplied in also)
    statement = _statement(entity, tuple(values), tuple(unless), added, tell, writes.dialect)
    parameters = {"id": row_id, **_named("new", values), **_named("old", unless)}
    for place, (_, supplied) in enumerate(also):
        parameters |= _named(f"added{place}", supplied)
    row = await writes.execute(statement, parameters)
    return None if row is None else _row(entity, row, writes.dialect)


def _named(prefix: str, values: Values) -> Values:
    return {f"{prefix}_{name}": value for name, value in values.items()}


@lru_cache(maxsize=100)
def _lookup(entity: Entity[Any], dialect: Dialect) -> PreparedStatement:
    columns = _columns(entity.model)
    return prepare(select(*_labelled(columns)).where(columns["id"] == bindparam("id", type_=columns["id"].type), *entity.present), dialect)


@lru_cache(maxsize=500)
def _statement(
    entity: Entity[Any],
    changed: tuple[str, ...],
    unless: tuple[str, ...],
    added: tuple[tuple[type[Base], tuple[str, ...]], ...],
    tell: str,
    dialect: Dialect,
) -> SingleStatementWrite:
    columns = _columns(entity.model)
    same = [columns[name] == _parameter("old", name, columns) for name in unless]
    values = {columns[name]: _parameter("new", name, columns) for name in changed}
    its_row = columns["id"] == bindparam("id", type_=columns["id"].type)
    updated = update(entity.model).where(its_row, *same, *entity.present).values(values).returning(*_labelled(columns)).cte("updated")
    additions = [_addition(model, names, place, updated) for place, (model, names) in enumerate(added)]
    tables = frozenset({entity.model.__tablename__, *(model.__tablename__ for model, _ in added)})
    statement = select(updated).add_cte(*additions)
    return SingleStatementWrite(prepare(statement, dialect), tables, lambda row: [Change(tell, row["id"])])


def _addition(model: type[Base], names: tuple[str, ...], place: int, updated: CTE) -> CTE:
    columns = _columns(model)
    values = select(*(_parameter(f"added{place}", name, columns) for name in names)).select_from(updated)
    return insert(model).from_select([columns[name].name for name in names], values, include_defaults=False).cte(f"added{place}")


def _parameter(prefix: str, name: str, columns: Columns) -> BindParameter[Any]:
    return bindparam(f"{prefix}_{name}", type_=columns[name].type)


def _labelled(columns: Columns) -> list[Label[Any]]:
    return [column.label(name) for name, column in columns.items()]


def _columns(model: type[Base]) -> Columns:
    """By attribute."""
    return dict(inspect(model).columns.items())


def _row(entity: Entity[R], row: Row, dialect: Dialect) -> R:
    processors = _processors(entity, dialect)
    return entity.model(**{name: processors[name](value) if name in processors else value for name, value in row.items()})


@lru_cache(maxsize=100)
def _processors(entity: Entity[Any], dialect: Dialect) -> Mapping[str, Callable[[Any], Any]]:
    """What makes of a value of the driver what the attribute holds."""
    found = {name: _processor(column.type, dialect) for name, column in _columns(entity.model).items()}
    return {name: processor for name, processor in found.items() if processor is not None}


def _processor(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return orjson.loads if isinstance(type_.dialect_impl(dialect), JSON) else type_.result_processor(dialect, None)
