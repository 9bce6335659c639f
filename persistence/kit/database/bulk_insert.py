"""Bulk inserts and updates: many rows in one statement, and the ids of new rows before they are written.

A statement for each takes several times as long: on PostgreSQL for its messages, and on SQLite since an index of words, which triggers keep, writes
itself out before each statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Column, Select, bindparam, func, insert, inspect, select, text, type_coerce, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database.database import Base, UnitOfWork

SMALL_BATCH = 10  # Rows: for these it does not pay to pack them.

Columns = Mapping[str, Column[Any]]
Rows = Sequence[Mapping[str, Any]]


async def add(session: AsyncSession, entity: type[Base], rows: Rows) -> None:
    """Insert rows that all have values for the same attributes; into the table, as the way through the ORM takes a quarter longer."""
    if not rows:
        return
    columns: Columns = {name: inspect(entity).columns[name] for name in rows[0]}
    table: Any = inspect(entity).local_table
    if len(rows) <= SMALL_BATCH:
        await session.execute(insert(table), [{column.name: row[name] for name, column in columns.items()} for row in rows])
        return
    values, parameters = packed(session, columns, rows)
    await session.execute(insert(table).from_select([column.name for column in columns.values()], values), parameters)


async def change(session: AsyncSession, entity: type[Base], rows: Rows) -> None:
    """Set the rows' values in the rows with their `id`, which are locked already. All have values for the same attributes.

    On SQLite a column that is set makes the triggers of its index run, whether its value is another one or not: leave out what stays.
    """
    if not rows:
        return
    columns: Columns = {name: inspect(entity).columns[name] for name in rows[0]}
    values, parameters = packed(session, columns, rows)
    table: Any = inspect(entity).local_table
    new = values.subquery("new_values")
    changes = {column.name: new.c[column.name] for name, column in columns.items() if name != "id"}
    await session.execute(update(table).where(table.c.id == new.c.id).values(changes), parameters)


def packed(session: AsyncSession, columns: Columns, rows: Rows) -> tuple[Select[Any], dict[str, Any]]:
    """The rows as a SELECT of these columns, by their names, and its parameters: few, however many rows there are."""
    dialect = session.get_bind().dialect
    return (_sqlite if dialect.name == "sqlite" else _postgresql)(columns, rows, dialect)


def _sqlite(columns: Columns, rows: Rows, dialect: Any) -> tuple[Select[Any], dict[str, Any]]:
    """From one list of lists in JSON."""
    row = func.json_each(bindparam("rows")).table_valued("value").c.value
    bound = [_bound(column.type.bind_processor(dialect), [each[name] for each in rows]) for name, column in columns.items()]
    values = select(*(func.json_extract(row, f"$[{place}]").label(column.name) for place, column in enumerate(columns.values())))
    return values, {"rows": orjson.dumps(list(zip(*bound, strict=True))).decode()}


def _bound(processor: Any, values: list[Any]) -> list[Any]:
    return [processor(value) for value in values] if processor else values


def _postgresql(columns: Columns, rows: Rows, _dialect: Any) -> tuple[Select[Any], dict[str, Any]]:
    """From one array for each column."""
    arrays = [bindparam(f"all_{name}", type_=ARRAY(column.type, dimensions=1)) for name, column in columns.items()]
    table = func.unnest(*arrays).table_valued(*(column.name for column in columns.values())).render_derived()
    values = select(*(type_coerce(table.c[column.name], column.type).label(column.name) for column in columns.values()))
    return values, {f"all_{name}": [row[name] for row in rows] for name in columns}


async def reserve_ids(work: UnitOfWork, table: type[Base], count: int) -> Sequence[int]:
    """New ids of a table, ascending, that nobody else gets.

    An INSERT that gives ids back cannot be one call for many rows on SQLite, which promises no order of what it returns; one call a row is 20 times as slow.
    """
    name = table.__tablename__
    if work.session.get_bind().dialect.name == "postgresql":
        sequence = func.nextval(func.pg_get_serial_sequence(name, "id"))
        return (await work.session.scalars(select(sequence).select_from(func.generate_series(1, count)))).all()
    # The transaction is the only writer, and a row with a given id moves the table's own counter.
    last = await work.session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": name}) or 0
    return range(last + 1, last + 1 + count)
