"""Table versions: each commit gives the tables that it wrote a new version, by which cached responses are known to be current.

Every commit renews the versions of the tables that it wrote, before its caller gets the result. So: read the versions, then the data, and store the
response under those versions. If a later look-up, begun after its request arrived, finds the same versions, the response contains every change that
was acknowledged by then. A read that raced a commit has stored its response under versions that are never looked up again.

Through Redis a look-up is one round trip, and requests that arrive during one share the next; one that began before they arrived could miss a change
that they must see. A pub/sub invalidation could arrive late, so each look-up must read the versions from Redis.

While Redis is unavailable there are no versions, so nothing is stored or found. A process that starts, that reconnects to Redis, or whose own renewal
failed, renews all versions as soon as Redis answers.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, Protocol
from urllib.parse import quote

import structlog
from redis.asyncio import Redis

from persistence.kit.call_coalescer import CallCoalescer
from persistence.kit.database.database import Database
from persistence.kit.database.engines import sqlite_file
from persistence.kit.redis.circuit_breaker import RETRY_SECONDS, CircuitBreaker
from persistence.kit.redis.client import connect

log = structlog.get_logger(__name__)

EPOCH = "*"  # Stands for all tables: new when nobody knows what has been missed.


class TableVersions(Protocol):
    lifetime_seconds: float
    """How long an answer may be kept although its versions stay: a bound on whatever nobody has thought of."""

    async def of(self, tables: Collection[str]) -> str | None:
        """What tells this state of the tables from any other; None while that cannot be known."""
        ...

    async def renew(self, tables: Collection[str]) -> None:
        """These tables were written to. It never fails."""
        ...

    async def stop(self) -> None: ...


class FileVersions:
    """Of an SQLite file, which knows by itself: every commit makes everything new, whatever program made it.

    A look takes 4 µs (measured) and waits for nobody, so the event loop does it. Own changes count as others' do: SQLite does not tell them apart.
    """

    lifetime_seconds = 60.0

    def __init__(self, file: str) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    async def of(self, tables: Collection[str]) -> str | None:
        try:
            self._connection = self._connection or sqlite3.connect(f"file:{quote(self._file)}?mode=rw", timeout=0, uri=True)
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            log.warning("the data version of the database file cannot be read", error=repr(error))
            return None
        return str(version)

    async def renew(self, tables: Collection[str]) -> None:
        pass

    async def stop(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


class LocalVersions:
    """Of one process that is the only one to write, but for the command line: what that changes shows when answers have reached their age."""

    lifetime_seconds = 1.0

    def __init__(self) -> None:
        self._changes: dict[str, int] = {}

    async def of(self, tables: Collection[str]) -> str | None:
        return ",".join([f"{table}{self._changes.get(table, 0)}" for table in tables])

    async def renew(self, tables: Collection[str]) -> None:
        for table in tables:
            self._changes[table] = self._changes.get(table, 0) + 1

    async def stop(self) -> None:
        self._changes.clear()


class SharedVersions:
    """Of all processes that share a database and a Redis."""

    lifetime_seconds = 60.0

    def __init__(self, redis: Redis, namespace: str) -> None:
        """`namespace` keeps services apart that share a Redis."""
        self._redis: Any = redis  # Partly untyped.
        self._key = f"storegraph:versions:{blake2b(namespace.encode(), digest_size=6).hexdigest()}"
        self._breaker = CircuitBreaker("versions", redis)
        self._all_old = True  # Something may have changed that nobody was told of.
        self._pending_tables: set[str] = set()
        self._look, self._tell = CallCoalescer(self._lookup), CallCoalescer(self._publish)
        self._mending: asyncio.Task[None] | None = None

    async def of(self, tables: Collection[str]) -> str | None:
        versions = await self._look.call()
        if versions is None:
            return None
        return b",".join([versions[EPOCH.encode()], *[versions.get(table.encode(), b"") for table in tables]]).decode()

    async def renew(self, tables: Collection[str]) -> None:
        self._pending_tables |= set(tables)
        if not await self._tell.call():
            self._repair_later()

    async def stop(self) -> None:
        if self._mending:
            self._mending.cancel()

    async def _lookup(self) -> dict[bytes, bytes] | None:
        if self._all_old and not await self._breaker.call(self._new_epoch):
            return None
        versions: dict[bytes, bytes] | None = await self._breaker.call(lambda: self._redis.hgetall(self._key))
        if not versions or EPOCH.encode() not in versions:  # Away, or it has forgotten everything.
            self._all_old = True
            return None
        return versions

    async def _publish(self) -> bool:
        tables, self._pending_tables = self._pending_tables, set()
        published = await self._breaker.call(lambda: self._set(tables))
        self._all_old = self._all_old or not published
        return bool(published)

    async def _new_epoch(self) -> bool:
        self._all_old = False  # What fails to be told while this is under way is old again.
        try:
            return await self._set({EPOCH})
        except BaseException:
            self._all_old = True
            raise

    async def _set(self, names: Collection[str]) -> bool:
        # Drawn, not counted: a Redis that has forgotten everything must not give a number out for the second time.
        await self._redis.hset(self._key, mapping={name: secrets.token_urlsafe(9) for name in names})
        return True

    def _repair_later(self) -> None:
        """Others may reach Redis while we do not: they must not wait for our next reader to learn that there was a change."""
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._repair())

    async def _repair(self) -> None:
        while self._all_old:
            await asyncio.sleep(RETRY_SECONDS)
            await self._look.call()


def table_versions_for(database: Database, redis: Redis | None, url: str) -> TableVersions:
    """The versions of a database's tables, which each of this process's transactions renews."""
    file = sqlite_file(url)
    versions = SharedVersions(redis, url) if redis else FileVersions(file) if file else LocalVersions()
    database.listen_to_tables(versions.renew)
    return versions


@asynccontextmanager
async def publishing_versions(database: Database, redis_url: str | None, url: str) -> AsyncGenerator[None]:
    """For a program that writes and caches nothing: processes that cache responses see its changes."""
    if redis_url is None:
        yield
        return
    async with connect(redis_url) as redis:
        versions = table_versions_for(database, redis, url)
        try:
            yield
        finally:
            await versions.stop()
