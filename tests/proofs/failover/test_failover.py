"""A cluster whose primary dies and then hangs, in the short form of `scripts/prove failover` …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from persistence.kit.database import hosts
from persistence.kit.database.engines import PoolSize
from persistence.kit.database.executors.asyncpg_executor import AsyncpgExecutor
from tests.proofs.failover.cluster import missing
from tests.proofs.failover.failover import run
from tests.support.servers import databases
from tests.support.servers.databases import Postgres, Standby, free_port

if TYPE_CHECKING:
    from pathlib import Path

WITH_PACKAGES = pytest.mark.skipif(bool(missing()), reason=f"needs Debian packages that no other test needs: {' '.join(missing())}")


@WITH_PACKAGES
async def test_loses_and_repeats_nothing_and_writes_again_within_seconds(tmp_path: Path) -> None:
    outcome = await run(tmp_path, failovers=2, subscribers=10)
    assert outcome.faults == []
    assert len(outcome.back_seconds) == 2
    assert outcome.purchases > 0


HANG_SECONDS = 60  # A host that hangs is waited for as long.


def options(*ports: int, attributes: str = "primary") -> dict[str, Any]:
    names = {"user": "postgres", "database": "postgres", "target_session_attrs": attributes}
    return {"host": ["127.0.0.1"] * len(ports), "port": list(ports), "timeout": HANG_SECONDS, **names}


async def port_of(connection: Any) -> int:
    return await connection.fetchval("SELECT inet_server_port()")


async def test_is_reached_at_its_primary_though_the_first_host_hangs_and_the_second_is_away() -> None:
    with Postgres.own() as frozen, Postgres.own() as primary:
        frozen.pause()
        async with asyncio.timeout(HANG_SECONDS / 2):
            connection = await hosts.connect(**options(frozen.port, free_port(), primary.port))
        assert await port_of(connection) == primary.port
        again = await hosts.connect(**options(frozen.port, free_port(), primary.port))
        assert await port_of(again) == primary.port
        frozen.resume()
        for each in (connection, again):
            await each.close()


async def test_gives_up_connections_to_the_former_primary_once_another_host_is_found() -> None:
    with Postgres.own() as former, Postgres.own() as later:
        url = (
            f"postgresql+asyncpg://postgres@/postgres?host=127.0.0.1:{former.port}&host=127.0.0.1:{later.port}&target_session_attrs=primary"
        )
        executor: Any = AsyncpgExecutor(
            url, PoolSize(connect_seconds=HANG_SECONDS, statement_timeout_ms=HANG_SECONDS * 1000, read_seconds=None)
        )
        async with executor._links.connection() as one, executor._links.connection() as two:
            assert (await port_of(one), await port_of(two)) == (former.port, former.port)
            former.pause()
            waiting = asyncio.ensure_future(port_of(one))
            async with asyncio.timeout(HANG_SECONDS / 2):
                fresh = await executor._connect()
                with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                    await waiting
        try:
            assert await port_of(fresh) == later.port
            async with asyncio.timeout(HANG_SECONDS / 2), executor._links.connection() as one:  # Without asking those that hang.
                assert await port_of(one) == later.port
            await fresh.close()
        finally:
            former.resume()
            await executor.close()


async def test_prefers_a_standby_for_reads_and_takes_the_primary_where_there_is_none() -> None:
    with Postgres.own() as primary, Standby.of(primary) as standby:
        reader = await hosts.connect(**options(primary.port, standby.port, attributes="prefer-standby"))
        assert await port_of(reader) == standby.port
        standby.stop()
        other = await hosts.connect(**options(primary.port, standby.port, attributes="prefer-standby"))
        assert await port_of(other) == primary.port
        with pytest.raises((OSError, asyncpg.InternalClientError)):
            await hosts.connect(**options(primary.port, standby.port, attributes="standby"))
        await other.close()
        reader.terminate()


async def test_is_one_server_as_before_where_one_host_is_given() -> None:
    executor: Any = AsyncpgExecutor(databases.postgres().render_as_string(hide_password=False), PoolSize())
    connection = await executor._connect()
    assert await port_of(connection) == databases.postgres().port
    await connection.close()
