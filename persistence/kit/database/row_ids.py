"""Reserves row ids before the rows are written, for many rows at once.

An INSERT that gives ids back cannot be one call for many rows on SQLite, which promises no order of what it returns; one call a row is 20 times as slow.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, text

from persistence.kit.database.database import Base, UnitOfWork


async def reserve(work: UnitOfWork, table: type[Base], count: int) -> Sequence[int]:
    """New ids of a table, ascending, that nobody else gets."""
    name = table.__tablename__
    if work.session.get_bind().dialect.name == "postgresql":
        sequence = func.nextval(func.pg_get_serial_sequence(name, "id"))
        return (await work.session.scalars(select(sequence).select_from(func.generate_series(1, count)))).all()
    # The transaction is the only writer, and a row with a given id moves the table's own counter.
    last = await work.session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": name}) or 0
    return range(last + 1, last + 1 + count)
