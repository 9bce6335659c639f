"""Hot reads of an SQLite file …"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from persistence.kit.database.executors.sqlite_executor import SqliteExecutor
from persistence.kit.database.executors.statement_executor import PreparedStatement, Row
from tests.support.endpoints import until

DOUBLE = PreparedStatement("SELECT ? * 2", ("number",), {})
WRONG = PreparedStatement("SELECT * FROM absent", (), {})
STORED = PreparedStatement("SELECT count(*) FROM stored", (), {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "reads.db")) as connection:
        connection.execute("CREATE TABLE stored (id INTEGER)")
    return tmp_path / "reads.db"


def connected(file: Path) -> SqliteExecutor:
    return SqliteExecutor(f"sqlite+aiosqlite:///{file}")


@pytest.fixture
async def reads(file: Path) -> AsyncGenerator[SqliteExecutor]:
    reads = connected(file)
    yield reads
    await reads.close()


@pytest.fixture
def errands(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What threads were asked to do."""
    submit, errands = ThreadPoolExecutor.submit, list[Any]()

    def counted(self: ThreadPoolExecutor, work: Any, *args: Any) -> Future[Any]:
        errands.append(work)
        return submit(self, work, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    return errands


@contextmanager
def locked(file: Path) -> Generator[None]:
    """Nobody can read: whoever begins to waits."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def double(reads: SqliteExecutor, number: int) -> asyncio.Task[Any]:
    return asyncio.ensure_future(reads.fetch(DOUBLE, {"number": number}))


async def under_way(reads: SqliteExecutor, errands: list[Any]) -> asyncio.Task[Any]:
    """A read that waits for the lock."""
    first = asyncio.ensure_future(reads.fetch(STORED, {}))
    await until(lambda: len(errands) == 1)
    return first


async def test_go_to_the_thread_together_if_they_come_together(reads: SqliteExecutor, errands: list[Any]):
    answers: list[list[Row]] = await asyncio.gather(*[double(reads, number) for number in range(20)])
    assert answers == [[(number * 2,)] for number in range(20)]
    assert len(errands) == 1


async def test_gather_while_the_thread_works_and_each_has_its_own_end(reads: SqliteExecutor, file: Path, errands: list[Any]):
    with locked(file):
        first = await under_way(reads, errands)
        before, wrong, left, after = double(reads, 1), asyncio.ensure_future(reads.fetch(WRONG, {})), double(reads, 2), double(reads, 3)
        await asyncio.sleep(0)
        left.cancel()
        assert not first.done()
    assert await first == [(0,)]
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await wrong
    assert [await before, await after] == [[(2,)], [(6,)]]
    assert left.cancelled()
    assert len(errands) == 2


async def test_that_are_left_under_way_keep_nobody_else_waiting(reads: SqliteExecutor, file: Path, errands: list[Any]):
    with locked(file):
        first = await under_way(reads, errands)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert await double(reads, 4) == [(8,)]


async def test_that_were_asked_for_are_answered_before_the_file_is_closed(file: Path, errands: list[Any]):
    reads = connected(file)
    with locked(file):
        asked = [await under_way(reads, errands), double(reads, 5)]
        await asyncio.sleep(0)
        closing_now = asyncio.ensure_future(reads.close())
        await asyncio.sleep(0)
    await closing_now
    assert [each.result() for each in asked] == [[(0,)], [(10,)]]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await double(reads, 6)


async def test_all_fail_where_no_thread_is_to_be_had_and_go_on_when_there_is(reads: SqliteExecutor, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "submit", refused)
        outcomes = await asyncio.gather(double(reads, 7), double(reads, 8), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["can't start new thread"] * 2
    assert await double(reads, 9) == [(18,)]


async def test_keep_the_result_of_a_scan_until_the_database_changes(file: Path, reads: SqliteExecutor) -> None:
    drawn = PreparedStatement("SELECT random(), ?", ("number",), {}, scans=True)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        first = await reads.fetch(drawn, {"number": 1})
        assert await reads.fetch(drawn, {"number": 1}) == first
        assert await reads.fetch(drawn, {"number": 2}) != first
        connection.execute("INSERT INTO stored VALUES (1)")
        assert await reads.fetch(drawn, {"number": 1}) != first
        counted = PreparedStatement("SELECT 7", (), {}, beside=PreparedStatement(STORED.sql, (), {}, scans=True))
        found = list[Any]()
        for number in (2, 3):
            found += await reads.fetch(counted, {})
            connection.execute("INSERT INTO stored VALUES (?)", (number,))
        assert [*found, *await reads.fetch(counted, {})] == [(7, 1), (7, 2), (7, 3)]
