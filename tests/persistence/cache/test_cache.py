"""What is kept in memory and in Redis, and the versions that say whether it is still true …"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import update
from structlog.testing import capture_logs

from persistence.kit.cache.store import MemoryCache, SharedCache
from persistence.kit.cache.table_versions import CallCoalescer, FileVersions, LocalVersions, SharedVersions, table_versions_for
from persistence.kit.database.database import Database
from persistence.kit.events.log import EventLog
from persistence.kit.redis.client import connect
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.servers.databases import Redis

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def two_processes(url: str, names: tuple[str, str] = ("a", "a")) -> AsyncGenerator[tuple[SharedVersions, SharedVersions]]:
    """Their versions, both of which have met Redis."""
    async with connect(url) as redis, connect(url) as its_own:
        first, second = (SharedVersions(client, name) for client, name in zip((redis, its_own), names, strict=True))
        assert await first.of(("items",)) is not None
        assert await second.of(("items",)) is not None
        yield first, second
        await first.stop()
        await second.stop()


async def test_stay_within_a_bound_of_memory_by_giving_up_what_was_used_longest_ago() -> None:
    memory = MemoryCache[bytes](most_bytes=4_000)
    for key in "abc":
        await memory.put(key, key.encode() * 700, 60)
    assert await memory.get("a") == b"a" * 700
    await memory.put("d", b"d" * 700, 60)
    assert [await memory.get(key) for key in "abcd"] == [b"a" * 700, None, b"c" * 700, b"d" * 700]
    await memory.put("a", b"", 60)
    assert memory.peek("a") == b""
    await memory.put("huge", b"x" * 4_000, 60)
    assert [memory.peek(key) for key in ("a", "d", "huge")] == [b"", b"d" * 700, None]


async def test_end_with_their_age() -> None:
    clock = Clock()
    memory = MemoryCache[bytes](clock=clock)
    await memory.put("a", b"1", 60)
    clock.now += 59.9
    assert await memory.get("a") == b"1"
    clock.now += 0.1
    assert await memory.get("a") is None
    async with connect(databases.redis()) as redis:
        shared = SharedCache(redis, "test:cache")
        await shared.put("a", b"\x00\xff", 60)
        assert await shared.get("a") == b"\x00\xff"
        assert 59_000 < await redis.pttl("test:cache:a") <= 60_000
        await redis.delete("test:cache:a")
        assert await shared.get("a") is None


async def test_are_missing_while_redis_is_away_or_hangs_and_come_back_by_themselves() -> None:
    clock = Clock()
    with Redis.own() as server:
        async with connect(server.url) as redis:
            shared = SharedCache(redis, "test:cache", clock=clock)
            await shared.put("a", b"1", 60)
            server.pause()
            assert await shared.get("a") is None
            async with asyncio.timeout(5):  # It is left alone meanwhile: a thousand looks do not wait.
                assert [await shared.get("a") for _ in range(1_000)] == [None] * 1_000
            server.resume()
            clock.now += 2
            assert await shared.get("a") == b"1"
            server.stop()
            assert await shared.get("a") is None
            await shared.put("a", b"2", 60)
            server.start()
            clock.now += 2
            assert await shared.get("a") is None
            await shared.put("a", b"3", 60)
            assert await shared.get("a") == b"3"


async def test_are_new_for_every_process_after_a_change_in_one_and_for_no_other_table() -> None:
    async with two_processes(databases.redis(), ("b", "b")) as (first, second):
        before = await first.of(("items",)), await first.of(("users",)), await first.of(("items", "users"))
        assert before[2] == f"{before[0]},"  # Nobody has written to `users` yet.
        assert before == (await second.of(("items",)), await second.of(("users",)), await second.of(("items", "users")))
        await second.renew({"items"})
        after = await first.of(("items",)), await first.of(("users",)), await first.of(("items", "users"))
        assert [was == now for was, now in zip(before, after, strict=True)] == [False, True, False]
        assert await second.of(("users",)) == before[1]
        assert second._mending is None  # pyright: ignore[reportPrivateUsage] -- what was told needs no repair, which would ask Redis once more


async def test_are_new_for_each_of_several_changes_at_once() -> None:
    tables = "items", "users", "purchases", "files"
    async with two_processes(databases.redis()) as (first, second):
        before = [await second.of((table,)) for table in tables]
        await asyncio.gather(*(first.renew({table}) for table in tables))
        after = [await second.of((table,)) for table in tables]
        assert [was == now for was, now in zip(before, after, strict=True)] == [False] * len(tables)


async def test_are_those_that_database_and_redis_can_have(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    file, memory = Database.connect(settings.database_url), "sqlite+aiosqlite://"
    alone = table_versions_for(file, None, settings.database_url), table_versions_for(file, None, memory)
    assert list(map(type, alone)) == [FileVersions, LocalVersions]
    async with connect(databases.redis()) as redis:
        shared, other = table_versions_for(file, redis, settings.database_url), SharedVersions(redis, settings.database_url)
        before = await other.of(("event_log",)), [await each.of(("event_log",)) for each in (*alone, shared)]
        async with file.transaction() as work:
            await work.session.execute(update(EventLog).values(pruned_through=1))
        after = await other.of(("event_log",)), [await each.of(("event_log",)) for each in (*alone, shared)]
        assert None not in (before[0], *before[1])
        assert before[0] != after[0]
        assert all(was != now for was, now in zip(before[1], after[1], strict=True))
        for versions in (*alone, shared, other):
            await versions.stop()
    await file.close()


async def test_keep_services_apart_that_share_a_redis() -> None:
    async with two_processes(databases.redis(), ("one", "another")) as (first, second):
        before = await first.of(("items",))
        await second.renew({"items"})
        assert await first.of(("items",)) == before


async def test_are_unknown_while_redis_is_away_and_all_new_afterwards() -> None:
    with Redis.own() as server:
        async with two_processes(server.url) as (first, second):
            before = await first.of(("items",))
            server.stop()
            with capture_logs() as logs:
                await second.renew({"items"})
                assert (await first.of(("items",)), await second.of(("items",))) == (None, None)
            assert {line["use"] for line in logs} == {"versions"}
            server.start()
            async with asyncio.timeout(20):
                while (after := await first.of(("items",))) is None:  # noqa: ASYNC110 -- only asking tells
                    await asyncio.sleep(0.05)
            assert after != before


async def test_are_new_when_a_change_that_could_not_be_told_can_be() -> None:
    """The process that changed something reaches Redis no more; the others never lost it and ask as before."""
    with Redis.own() as server:
        async with two_processes(server.url) as (first, cut_off), connect(f"redis://127.0.0.1:{databases.free_port()}") as nowhere:
            newcomer = SharedVersions(nowhere, "a")
            assert await newcomer.of(("items",)) is None
            cut_off._redis = nowhere  # pyright: ignore[reportPrivateUsage]
            before = await first.of(("items",))
            await cut_off.renew({"items"})
            assert await first.of(("items",)) == before
            async with connect(server.url) as found_again:
                cut_off._redis = found_again  # pyright: ignore[reportPrivateUsage]
                async with asyncio.timeout(20):
                    while await first.of(("items",)) == before:  # noqa: ASYNC110 -- only asking tells
                        await asyncio.sleep(0.05)
                    before, newcomer._redis = await first.of(("items",)), found_again  # pyright: ignore[reportPrivateUsage]
                    while await newcomer.of(("items",)) is None:  # noqa: ASYNC110 -- only asking tells
                        await asyncio.sleep(0.05)
                assert await first.of(("items",)) != before
                await cut_off.stop()


async def test_are_new_when_redis_has_forgotten_everything() -> None:
    async with two_processes(databases.redis()) as (first, second), connect(databases.redis()) as redis:
        before = await first.of(("items",))
        await redis.delete(first._key)  # pyright: ignore[reportPrivateUsage]
        assert await first.of(("items",)) is None
        after = await first.of(("items",))
        assert after == await second.of(("items",))
        assert after not in {None, before}


async def test_are_those_of_the_file_on_sqlite_whatever_program_writes_to_it(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    file = tmp_path / "storegraph.db"
    versions, other = FileVersions(str(file)), Database.connect(settings.database_url)
    async with other.transaction():
        pass  # The first connection to a file writes to it.
    before = await versions.of(("items",))
    assert await versions.of(("users",)) == before
    assert versions._connection  # pyright: ignore[reportPrivateUsage] -- the look is the event loop's, which must not wait for a lock
    assert versions._connection.execute("PRAGMA busy_timeout").fetchone() == (0,)  # pyright: ignore[reportPrivateUsage]
    async with other.transaction():
        pass
    assert await versions.of(("items",)) == before
    async with other.transaction() as work:
        await (await work.session.connection()).exec_driver_sql("UPDATE event_log SET pruned_through = 1")
    assert await versions.of(("items",)) not in {None, before}
    await other.close()
    await versions.stop()
    with capture_logs() as logs:
        assert await FileVersions(str(tmp_path / "missing.db")).of(("items",)) is None
    said = {"event": "the data version of the database file cannot be read", "error": "OperationalError('unable to open database file')"}
    assert logs == [said | {"log_level": "warning"}]
    assert not (tmp_path / "missing.db").exists()


async def test_count_the_changes_of_a_process_that_is_alone() -> None:
    versions = LocalVersions()
    assert await versions.of(("items", "users")) == "items0,users0"
    await versions.renew({"stored_files"})
    assert await versions.of(("items", "users")) == "items0,users0"
    for changes in (1, 2):
        await versions.renew({"users"})
        assert await versions.of(("items", "users")) == f"items0,users{changes}"


async def test_are_looked_at_once_for_all_who_ask_meanwhile_and_never_before_they_asked() -> None:
    """Whoever asks while a look is under way may have heard of a change that came after it began."""
    began: list[int] = []
    go_on = asyncio.Event()

    async def look() -> int:
        began.append(len(began))
        number = began[-1]
        await go_on.wait()
        return number

    joined = CallCoalescer(look)
    first = asyncio.create_task(joined.call())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert began == [0]
    later = [asyncio.create_task(joined.call()) for _ in range(10)]
    await asyncio.sleep(0)
    assert began == [0]
    go_on.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 10
    assert began == [0, 1]
