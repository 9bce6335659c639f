"""State of the database and Redis servers for `doctor`. Nothing is changed, but for a transaction that is rolled back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from persistence.kit.column_types import utc_now
from persistence.kit.database.database import Database
from persistence.kit.database.engines import PoolSize
from persistence.kit.redis.client import connect
from persistence.schema import MIGRATIONS

REDIS_SECONDS = 2.0


@dataclass(frozen=True)
class DatabaseState:
    version: str
    revision: str | None
    newest_revision: str | None
    clock_ahead: timedelta
    connections: int | None = None
    """How many the server takes; None on SQLite."""


@dataclass(frozen=True)
class RedisState:
    version: str
    clock_ahead: timedelta
    evicts: bool
    """Whether it drops keys that have not expired when its memory is full."""


async def of_database(url: str, pool: PoolSize) -> DatabaseState:
    """Raises: whatever keeps the database from answering or from being written to."""
    database = Database.connect(url, pool=pool)
    try:
        async with database.reading() as session:
            revision = await (await session.connection()).run_sync(_revision)
            version, now, most = (await session.execute(text(_FACTS[database.dialect]))).one()
        with suppress(_Rollback):
            async with database.transaction() as work:
                await work.session.execute(text("CREATE TABLE storegraph_doctor (id int)"))
                raise _Rollback
    finally:
        await database.close()
    ahead = datetime.fromtimestamp(now, UTC) - utc_now() if now else timedelta()
    return DatabaseState(version, revision, ScriptDirectory(str(MIGRATIONS)).get_current_head(), ahead, most)


# SQLite has this machine's clock.
_FACTS = {
    "sqlite": "SELECT sqlite_version(), NULL, NULL",
    "postgresql": "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8, "
    "current_setting('max_connections')::int",
}


async def of_redis(url: str) -> RedisState:
    """Raises: whatever keeps Redis from answering."""
    client: Any = connect(url, patience_seconds=REDIS_SECONDS)
    try:
        seconds, microseconds = await client.time()
        ahead = datetime.fromtimestamp(seconds + microseconds / 1e6, UTC) - utc_now()
        facts = await client.info()
        return RedisState(facts["redis_version"], ahead, facts.get("maxmemory_policy", "noeviction").startswith("allkeys"))
    finally:
        await client.aclose()


async def of_replica(url: str, pool: PoolSize) -> timedelta:
    """How far it is behind. Raises: whatever keeps it from answering."""
    database = Database.connect(url, pool=pool)
    try:
        async with database.reading() as session:
            behind = text("SELECT extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8")
            return timedelta(seconds=await session.scalar(behind) or 0)
    finally:
        await database.close()


class _Rollback(Exception):
    """What was tried is to leave no trace."""


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
