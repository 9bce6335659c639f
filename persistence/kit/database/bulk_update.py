"""Bulk updates: many rows by their ids in one statement, as `bulk_insert` adds them.

On SQLite a column that is written makes the triggers of its index run, whether its value is another one or not: rows whose indexed texts stay must not come
with them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect, update
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database.bulk_insert import Columns, Rows, packed
from persistence.kit.database.database import Base


async def write(session: AsyncSession, entity: type[Base], rows: Rows) -> None:
    """Set the rows' values in the rows with their `id`, which are locked already. All have values for the same attributes."""
    if not rows:
        return
    columns: Columns = {name: inspect(entity).columns[name] for name in rows[0]}
    values, parameters = packed(session, columns, rows)
    table: Any = inspect(entity).local_table
    new = values.subquery("new_values")
    changes = {column.name: new.c[column.name] for name, column in columns.items() if name != "id"}
    await session.execute(update(table).where(table.c.id == new.c.id).values(changes), parameters)
