"""The servers the tests run on …"""

import pytest
from redis import exceptions
from redis.asyncio import Redis as RedisClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.servers import databases
from tests.support.servers.databases import Postgres, Redis


async def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


async def test_give_each_asker_a_database_of_its_own() -> None:
    first = await databases.create_database(databases.postgres(), "servers_first")
    second = await databases.create_database(databases.postgres(), "servers_second")
    await rows(first, "CREATE TABLE only_here (id int)")

    tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'"
    assert await rows(first, tables) == [(1,)]
    assert await rows(second, tables) == [(0,)]


async def test_keep_a_durable_commit_through_a_kill() -> None:
    with Postgres.durable() as server:
        url = server.url.render_as_string()
        await rows(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            await rows(url, "SELECT 1")

        server.start()
        assert await rows(url, "SELECT answer FROM kept") == [(42,)]


async def test_hang_while_paused_and_answer_once_resumed() -> None:
    with Redis.own() as server:
        client, hasty = (RedisClient(port=server.port, socket_timeout=seconds, retry=Retry(NoBackoff(), 0)) for seconds in (30, 0.2))
        await client.set("key", "value")
        server.pause()
        with pytest.raises(exceptions.TimeoutError):
            await hasty.get("key")
        server.resume()
        assert await client.get("key") == b"value"
        server.stop()
        with pytest.raises(exceptions.ConnectionError):
            await client.get("key")
        await client.aclose()
        await hasty.aclose()
