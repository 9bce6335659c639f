"""Connections to SQLite …"""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from persistence.kit.database import engines

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

FILES = 60  # Of four files in sixty, before connections asked again, one that was opened with others was refused as locked.


async def journal_mode(engine: AsyncEngine) -> object:
    async with engine.connect() as connection:
        return await connection.scalar(text("PRAGMA journal_mode"))


async def test_are_opened_at_once_on_a_file_that_nobody_has_opened_before(tmp_path: Path) -> None:
    for number in range(FILES):
        async with AsyncExitStack() as stack:
            url = f"sqlite+aiosqlite:///{tmp_path / str(number)}"
            opened = [engines.sqlite(url, readers=readers, wait_seconds=30) for readers in (None, 1, 1, 1)]
            for engine in opened:
                stack.push_async_callback(engine.dispose)
            assert await asyncio.gather(*map(journal_mode, opened)) == ["wal"] * 4


async def test_that_cannot_be_set_up_are_closed(tmp_path: Path) -> None:
    """What is left open is a warning of Python's, which is an error here."""
    file = tmp_path / "text"
    file.write_text("This is no database. " * 100)
    engine = engines.sqlite(f"sqlite+aiosqlite:///{file}", readers=1, wait_seconds=1)
    before = set(threading.enumerate())
    with pytest.raises(DatabaseError):
        await journal_mode(engine)
    await engine.dispose()
    connections = set(threading.enumerate()) - before
    for thread in connections:
        await asyncio.to_thread(thread.join, 30)
    gc.collect()
    assert not any(thread.is_alive() for thread in connections)
