"""A pool of connections to PostgreSQL …"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import bindparam, column, func, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from graph.server.settings import load
from persistence.kit import raw
from persistence.kit.availability import is_outage
from persistence.kit.database import Database
from tests import servers
from tests.service import SECRET

PREPARED = text("SELECT count(*) FROM pg_prepared_statements")


@asynccontextmanager
async def connected(**chosen: Any) -> AsyncGenerator[Database]:
    """A database with a pool as these settings say."""
    url = servers.postgres().render_as_string(hide_password=False)
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
        assert is_outage(refused.value)
        assert (database.pools()["write"].busy, database.pools()["write"].most) == (2, 2)


async def test_stops_a_statement_that_takes_too_long() -> None:
    async with connected(database_statement_timeout_ms=50) as database:
        async with database.reading() as session:
            with pytest.raises(DBAPIError) as stopped:
                await session.execute(select(func.pg_sleep(60)))
        slow = raw.prepare(select(func.pg_sleep(bindparam("seconds"))), database.raw_dialect)
        with pytest.raises(Exception, match="statement timeout") as stopped_too:
            await (await database.raw()).fetch(slow, {"seconds": 60})
        assert is_outage(stopped.value)
        assert is_outage(stopped_too.value)


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
        counted = raw.prepare(
            select(func.count()).select_from(func.pg_prepared_statement().table_valued(column("name"))), database.raw_dialect
        )
        [(count,)] = await (await database.raw()).fetch(counted, {})
        assert (count > 0) is kept
