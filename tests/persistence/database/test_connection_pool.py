"""A pool of connections to PostgreSQL …"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import bindparam, column, func, literal, select, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, InternalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from graph.server.settings import load
from persistence.kit.database.database import Database
from persistence.kit.database.engines import PoolSize
from persistence.kit.database.executors import statement_executor
from persistence.kit.database.executors.asyncpg_executor import AsyncpgExecutor
from persistence.kit.transient_errors import is_transient
from tests.support.servers import databases
from tests.support.service import SECRET

PREPARED = text("SELECT count(*) FROM pg_prepared_statements")


@asynccontextmanager
async def connected(**chosen: Any) -> AsyncGenerator[Database]:
    """A database with a pool as these settings say."""
    url = databases.postgres().render_as_string(hide_password=False)
    database = Database.connect(url, pool=load(secret_key=SECRET, **chosen).pool)
    yield database
    await database.close()


async def test_holds_as_many_as_it_is_told_and_lets_others_wait_so_long() -> None:
    async with (
        connected(database_pool_size=1, database_pool_overflow=1, database_pool_wait_seconds=0.05) as database,
        AsyncExitStack() as held,
    ):
        for _ in range(2):
            await held.enter_async_context(database.reading())
        with pytest.raises(PoolTimeout) as refused:
            await held.enter_async_context(database.reading())
        assert is_transient(refused.value)
        assert (database.pools()["write"].busy, database.pools()["write"].most) == (2, 2)


async def test_stops_a_statement_that_takes_too_long() -> None:
    async with connected(database_statement_timeout_ms=50) as database:
        async with database.reading() as session:
            with pytest.raises(DBAPIError) as stopped:
                await session.execute(select(func.pg_sleep(60)))
        slow = statement_executor.prepare(select(func.pg_sleep(bindparam("seconds"))), database.executor_dialect)
        with pytest.raises(Exception, match="statement timeout") as stopped_too:
            await (await database.executor()).fetch(slow, {"seconds": 60})
        assert is_transient(stopped.value)
        assert is_transient(stopped_too.value)


def test_knows_a_connection_that_is_just_being_ended() -> None:
    told = "cannot switch to state 12; another operation (2) is in progress"
    assert is_transient(asyncpg.InternalClientError(told))
    assert is_transient(InternalError("SELECT 1", {}, AsyncAdapt_asyncpg_dbapi.InternalClientError(told)))


async def test_compiles_no_plan_that_is_used_once() -> None:
    async with connected() as database:
        async with database.reading() as session:
            assert await session.scalar(text("SHOW jit")) == "off"
        setting = statement_executor.prepare(select(func.current_setting("jit")), database.executor_dialect)
        assert [*map(tuple, await (await database.executor()).fetch(setting, {}))] == [("off",)]


async def test_leaves_the_time_limit_to_the_server_when_told_so() -> None:
    async with connected(database_statement_timeout_ms=0) as database, database.reading() as session:
        assert await session.scalar(text("SHOW statement_timeout")) == "0"


@pytest.mark.parametrize(("cache", "kept"), [(True, True), (False, False)])
async def test_keeps_prepared_statements_unless_a_pooler_could_lose_them(cache: bool, kept: bool) -> None:
    async with connected(database_pool_size=1, database_pool_overflow=0, database_statement_cache=cache) as database:
        for number in range(3):
            async with database.reading() as session:
                assert await session.scalar(select(literal(number))) == number
            async with database.transaction() as work:
                assert await work.session.scalar(select(literal(number))) == number
        async with database.reading() as session:
            assert (await session.scalar(PREPARED) > 1) is kept
        counted = statement_executor.prepare(
            select(func.count()).select_from(func.pg_prepared_statement().table_valued(column("name"))), database.executor_dialect
        )
        [(count,)] = await (await database.executor()).fetch(counted, {})
        assert (count > 0) is kept


async def test_keeps_a_statement_however_long_it_is() -> None:
    """The driver's own bound is 15 kB, which a document that selects much exceeds."""
    counting = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%a long one%'"
    async with connected() as database:
        reads = await database.executor()
        long = statement_executor.PreparedStatement(f"{counting} /* a long one {'x' * 40_000} */", (), {})
        assert [[*row] for _ in range(2) for row in await reads.fetch(long, {})] == [[1], [1]]
        assert [[*row] for row in await reads.fetch(statement_executor.PreparedStatement(counting, (), {}), {})] == [[2]]


BACKEND = statement_executor.PreparedStatement("SELECT pg_backend_pid()", (), {})
SLOW = statement_executor.PreparedStatement("SELECT pg_sleep(60)", (), {})
SLEEPS = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :process AND state = 'active' AND query = 'SELECT pg_sleep(60)'")


async def _backend(reads: statement_executor.StatementExecutor) -> int:
    [(process,)] = await reads.fetch(BACKEND, {})
    return process


async def test_lends_one_connection_again_and_again_also_after_a_refused_statement() -> None:
    async with connected() as database:
        reads = await database.executor()
        first = await _backend(reads)
        with pytest.raises(Exception, match="division by zero"):
            await reads.fetch(statement_executor.PreparedStatement("SELECT 1 / 0", (), {}), {})
        assert await _backend(reads) == first


async def test_gives_up_a_connection_whose_statement_was_left_and_stops_that() -> None:
    async with connected() as database:
        reads = await database.executor()
        first = await _backend(reads)
        left = asyncio.create_task(reads.fetch(SLOW, {}))
        async with asyncio.timeout(30), database.reading() as session:
            while not await session.scalar(SLEEPS, {"process": first}):  # noqa: ASYNC110 -- it begins in another process
                await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.wait([left])
        assert await _backend(reads) != first
        gone = statement_executor.PreparedStatement("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", ("process",), {})
        async with asyncio.timeout(30):
            while [tuple(row) for row in await reads.fetch(gone, {"process": first})] != [(0,)]:  # noqa: ASYNC110 -- it ends in another process
                await asyncio.sleep(0.01)


async def test_replaces_a_connection_that_the_server_has_closed() -> None:
    async with connected() as database:
        reads = await database.executor()
        first = await _backend(reads)
        async with database.reading() as session:
            assert await session.scalar(select(func.pg_terminate_backend(first, 5000)))
        async with asyncio.timeout(30):
            while await _backend_or_none(reads) in {None, first}:  # noqa: ASYNC110 -- the word of the server is on its way
                await asyncio.sleep(0.01)


async def test_replaces_a_connection_that_is_old() -> None:
    reads = AsyncpgExecutor(databases.postgres().render_as_string(hide_password=False), PoolSize(recycle_seconds=0))
    assert await _backend(reads) != await _backend(reads)
    await reads.close()


async def _backend_or_none(reads: statement_executor.StatementExecutor) -> int | None:
    try:
        return await _backend(reads)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError):
        return None
