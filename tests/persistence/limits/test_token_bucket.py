"""A budget of points…"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from redis.asyncio import Redis

from graph.server.graphql.response_cache import SHARED_SECONDS
from persistence.kit.cache.store import SharedCache
from persistence.kit.limits.moving_window import SharedMovingWindow
from persistence.kit.limits.token_bucket import BUCKETS, EXPIRY_SECONDS, Budget, LocalTokenBucket, SharedTokenBucket, TokenBucket
from persistence.kit.redis.circuit_breaker import RETRY_SECONDS, TIMEOUT_SECONDS
from persistence.kit.redis.client import connect
from tests.support.endpoints import LATE_SECONDS
from tests.support.servers import databases

Bucket = tuple[TokenBucket, Callable[[str, float], Awaitable[None]]]

BUDGET = Budget(capacity=100, per_second=10)


class FullRedis(databases.Redis):
    settings: ClassVar = {"maxmemory": "5mb", "maxmemory-policy": "volatile-ttl"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Redis]:
    library: Any = Redis  # Partly untyped there.
    client: Redis = library.from_url(url)
    yield client
    await client.aclose()


async def emptied(client: Any) -> None:
    await client.flushdb()


@pytest.fixture(params=["local", "shared"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A quota, and a way to let time pass for one caller."""
    if request.param == "local":
        clock = Clock()

        async def later(_caller: str, seconds: float) -> None:
            clock.now += seconds

        return LocalTokenBucket(BUDGET, clock), later
    client: Redis = request.getfixturevalue("redis")

    async def earlier(caller: str, seconds: float) -> None:
        await client.hincrbyfloat(f"storegraph:budget:{caller}", "at", -seconds)

    return SharedTokenBucket(client, BUDGET), earlier


async def test_is_full_at_first_and_is_charged_all_or_nothing(bucket: Bucket):
    quota, _ = bucket
    assert (await quota.charge("ada", 0)).remaining == 100
    assert (await quota.charge("ada", 70)).remaining == 30
    level = await quota.charge("ada", 31)
    assert (level.granted, level.remaining) == (False, 30)
    level = await quota.charge("ada", 30)
    assert (level.granted, level.remaining) == (True, 0)


async def test_is_each_callers_own(bucket: Bucket):
    quota, _ = bucket
    await quota.charge("ada", 100)
    assert (await quota.charge("bob", 100)).granted


async def test_refills_steadily_up_to_its_capacity(bucket: Bucket):
    quota, pass_time = bucket
    await quota.charge("ada", 100)
    await pass_time("ada", 2.05)
    assert (await quota.charge("ada", 0)).remaining == 20
    await pass_time("ada", 1_000)
    assert (await quota.charge("ada", 0)).remaining == 100


async def test_gets_back_what_was_not_used_and_never_more_than_it_holds(bucket: Bucket):
    quota, _ = bucket
    await quota.charge("ada", 60)
    quota.refund("ada", 25)
    quota.refund("ada", 1)
    assert (await quota.charge("ada", 67)).remaining == 66
    assert (await quota.charge("ada", 6)).remaining == 60
    quota.refund("ada", 500)
    assert (await quota.charge("ada", 0)).remaining == 100
    await quota.close()


async def test_is_given_back_what_was_not_used_for_other_processes_to_see(redis: Redis):
    async with connected(databases.redis()) as elsewhere:
        slow = Budget(capacity=100, per_second=0.001)
        one: Any = SharedTokenBucket(redis, slow)
        other = SharedTokenBucket(elsewhere, slow)
        await one.charge("ada", 60)
        one.refund("ada", 25)
        await one._payment
        assert (await other.charge("ada", 0)).remaining == 65


async def test_says_when_there_will_be_enough_and_when_it_will_be_full(bucket: Bucket):
    quota, _ = bucket
    level = await quota.charge("ada", 95)
    assert level.wait_seconds(50) == 5
    assert level.wait_seconds(6) == 1
    assert level.full_in_seconds == 10
    assert level.budget.full_seconds == 10


async def test_is_never_overdrawn_by_callers_at_the_same_time(bucket: Bucket):
    quota, _ = bucket
    levels = await asyncio.gather(*(quota.charge("ada", 9) for _ in range(20)))
    assert sum(level.granted for level in levels) == 11


async def test_is_one_for_all_processes_that_share_a_redis(redis: Redis):
    async with connected(databases.redis()) as elsewhere:
        one, other = SharedTokenBucket(redis, BUDGET), SharedTokenBucket(elsewhere, BUDGET)
        await one.charge("ada", 60)
        assert (await other.charge("ada", 60)).granted is False
        assert (await other.charge("ada", 40)).granted is True


async def test_is_forgotten_by_redis_a_day_after_its_last_use(redis: Redis):
    await SharedTokenBucket(redis, BUDGET).charge("ada", 50)
    assert EXPIRY_SECONDS - 2 < await redis.ttl("storegraph:budget:ada") <= EXPIRY_SECONDS
    await SharedTokenBucket(redis, Budget(capacity=100_000_000, per_second=10)).charge("slow", 50_000_000)
    assert 5_000_000 - 2 < await redis.ttl("storegraph:budget:slow") <= 5_000_001


async def test_falls_below_zero_for_what_was_done_already(bucket: Bucket):
    quota, pass_time = bucket
    assert (await quota.charge("ada", 90)).remaining == 10
    quota.take("ada", 60)
    level = await quota.charge("ada", 1)
    assert (level.granted, level.remaining, level.wait_seconds(1)) == (False, 0, 6)
    if payment := getattr(quota, "_payment", None):
        await payment
    assert (await quota.charge("ada", 0)).points == pytest.approx(-50, abs=2)
    quota.refund("ada", 10)
    if payment := getattr(quota, "_payment", None):
        await payment
    assert (await quota.charge("ada", 0)).points == pytest.approx(-40, abs=2)
    await pass_time("ada", 5)
    level = await quota.charge("ada", 8)
    assert (level.granted, level.points) == (True, pytest.approx(2, abs=2))


async def test_outlives_every_cached_response_in_a_redis_that_is_full():
    with FullRedis.own() as server:
        async with connect(server.url) as client:
            quota, windows = SharedTokenBucket(client, Budget(capacity=100, per_second=0.001)), SharedMovingWindow(client)
            await quota.charge("ada", 100)
            assert [await windows.hit("1/minute; 9/hour", "a") > 0 for _ in range(2)] == [False, True]
            cache = SharedCache(client, "storegraph:cache")
            for number in range(1_000):
                await cache.put(str(number), b"x" * 10_000, SHARED_SECONDS)
            stats: Any = client
            evicted = (await stats.info("stats"))["evicted_keys"]
            assert evicted > 500
            assert (await quota.charge("ada", 1)).granted is False
            assert await windows.hit("1/minute; 9/hour", "a") > 0


def test_is_evicted_last_by_the_redis_that_is_shipped():
    compose = (Path(__file__).parents[3] / "docker-compose.yml").read_text()
    assert f"--maxmemory-policy {FullRedis.settings['maxmemory-policy']}" in compose
    assert SHARED_SECONDS < 60 < EXPIRY_SECONDS


async def test_keeps_only_so_many_callers_in_a_process():
    quota = LocalTokenBucket(BUDGET)
    await quota.charge("first", 100)
    for caller in range(BUCKETS):
        await quota.charge(str(caller), 1)
    assert (await quota.charge("first", 0)).remaining == 100


async def test_is_kept_by_each_process_while_redis_is_away_and_shared_again_after():
    clock = Clock()
    with databases.Redis.own() as server:
        async with connected(server.url) as client:
            quota = SharedTokenBucket(client, BUDGET, clock=clock)
            assert (await quota.charge("ada", 90)).remaining == 10
            server.stop()
            assert (await quota.charge("ada", 30)).remaining == 70
            assert (await quota.charge("ada", 30)).remaining == 40
            # The second one did not try: within a second nobody waits for a server that is away.
            assert quota.breaker.failures == 1
            server.start()
            clock.now += RETRY_SECONDS
            assert (await quota.charge("ada", 1)).remaining == 99
            assert quota.breaker.failures == 1


async def test_counts_what_is_owed_while_redis_is_away():
    with databases.Redis.own() as server:
        async with connected(server.url) as client:
            quota: Any = SharedTokenBucket(client, Budget(capacity=100, per_second=0.001))
            server.stop()
            quota.take("ada", 30)
            assert (await quota.charge("ada", 20)).remaining == 50
            quota.refund("ada", 10)
            assert (await quota.charge("ada", 0)).remaining == 60
            quota.take("ada", 25)
            quota.refund("bob", 7)
            await quota._payment
            assert [(await quota.charge(caller, 0)).remaining for caller in ("ada", "bob")] == [35, 100]


async def test_shows_what_is_owed_to_whoever_is_refused_and_gives_it_back_once(redis: Redis):
    quota: Any = SharedTokenBucket(redis, Budget(capacity=100, per_second=0.001))
    await quota.charge("ada", 90)
    quota.refund("ada", 5)
    refused = await quota.charge("ada", 20)
    assert (refused.granted, refused.remaining) == (False, 15)
    await quota._payment
    assert (await quota.charge("ada", 0)).remaining == 15


async def test_does_not_wait_for_a_redis_that_hangs():
    with databases.Redis.own() as server:
        async with connected(server.url) as client:
            quota = SharedTokenBucket(client, BUDGET)
            await quota.charge("ada", 1)
            server.pause()
            began = asyncio.get_running_loop().time()
            assert (await quota.charge("ada", 1)).granted
            assert asyncio.get_running_loop().time() - began < TIMEOUT_SECONDS + LATE_SECONDS
            server.resume()
