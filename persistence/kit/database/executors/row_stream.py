"""Streams many rows at constant memory: from PostgreSQL as CSV by COPY, from SQLite as tuples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database.executors import statement_executor

WAITING_PIECES = 8  # Of about 64 kB. When they wait, the server waits too.
PIECE_SECONDS = 30.0  # Then the server hangs. How long the whole may take depends on its reader.
COPY_SECONDS = 86_400.0


async def stream_rows(session: AsyncSession, statement: Select[Any], *, most: int) -> AsyncGenerator[Sequence[Any]]:
    """The statement's rows in SQLite's own types, some at a time."""
    connection = await session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    prepared = statement_executor.prepare(statement, connection.dialect)
    async with _interrupting(driver), driver.execute(prepared.sql, prepared.arguments({})) as cursor, _interrupting(driver):
        while rows := await cursor.fetchmany(most):
            yield rows


@asynccontextmanager
async def _interrupting(driver: Any) -> AsyncGenerator[None]:
    """What the connection's thread is at ends with whoever waits for it."""
    try:
        yield
    except asyncio.CancelledError:
        await driver.interrupt()
        raise


async def stream_copy(session: AsyncSession, statement: Select[Any]) -> AsyncGenerator[bytes]:
    """The statement's rows in PostgreSQL's CSV, some whole rows at a time. Left early, it takes the session's connection with it.

    Source: PostgreSQL, section "Message Formats": each CopyData from the server is one row.
    """
    connection = await session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    prepared = statement_executor.prepare(statement, connection.dialect)
    pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(WAITING_PIECES)

    async def copy() -> None:
        try:
            await driver.copy_from_query(prepared.sql, *prepared.arguments({}), output=pieces.put, format="csv", timeout=COPY_SECONDS)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised where the rows are read
            await pieces.put(error)
        else:
            await pieces.put(None)

    copying = asyncio.create_task(copy())
    try:
        while (piece := await _next(pieces)) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        if not copying.done():
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
            await connection.invalidate()


async def _next(pieces: asyncio.Queue[bytes | Exception | None]) -> bytes | Exception | None:
    async with asyncio.timeout(PIECE_SECONDS):
        return await pieces.get()
