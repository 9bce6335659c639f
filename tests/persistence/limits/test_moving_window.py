"""A limit of so many times in so many seconds…"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from graphql import GraphQLError
from redis.asyncio import Redis

from graph.kit.auth import Caller
from graph.kit.limits.rate_limits import ADDRESS, LimitedCall, LimitKey, RateLimitRule
from persistence.kit.errors import InvalidInput
from persistence.kit.limits.moving_window import KEYS, LocalMovingWindow, MovingWindow, SharedMovingWindow, UnlimitedWindow
from persistence.kit.redis.circuit_breaker import RETRY_SECONDS
from tests.persistence.limits.test_token_bucket import Clock, connected
from tests.support.servers import databases


@pytest.fixture(params=["local", "shared"])
def windows(request: pytest.FixtureRequest) -> MovingWindow:
    return LocalMovingWindow() if request.param == "local" else SharedMovingWindow(request.getfixturevalue("redis"))


async def test_lets_so_many_through_and_says_how_long_to_wait(windows: MovingWindow):
    assert [await windows.hit("3/60seconds", "itemsPage", "192.0.2.1") for _ in range(3)] == [0, 0, 0]
    assert 59 < await windows.hit("3/60seconds", "itemsPage", "192.0.2.1") <= 60


async def test_counts_each_key_apart(windows: MovingWindow):
    assert [await windows.hit("1/minute", field, caller) for field in "ab" for caller in "cd"] == [0, 0, 0, 0]
    assert await windows.hit("1/minute", "a", "c") > 0


async def test_holds_for_each_of_several_spans(windows: MovingWindow):
    assert [await windows.hit("2/second; 3/hour", "a") > 0 for _ in range(3)] == [False, False, True]


async def test_is_kept_by_uses_at_the_same_time(windows: MovingWindow):
    waits = await asyncio.gather(*(windows.hit("3/minute", "a") for _ in range(20)))
    assert waits.count(0.0) == 3


async def test_moves_with_the_uses_and_has_no_edge():
    clock = Clock()
    windows = LocalMovingWindow(clock)
    for at in (0, 50, 55):
        clock.now = 1_000.0 + at
        assert await windows.hit("3/60seconds", "a") == 0
    clock.now = 1_059.0
    assert await windows.hit("3/60seconds", "a") == 1
    clock.now = 1_060.0
    assert await windows.hit("3/60seconds", "a") == 0
    assert await windows.hit("3/60seconds", "a") == 50


async def test_does_not_count_a_use_that_it_refused():
    clock = Clock()
    windows = LocalMovingWindow(clock)
    for _ in range(5):
        await windows.hit("1/10seconds", "a")
    clock.now += 10
    assert await windows.hit("1/10seconds", "a") == 0


async def test_counts_in_no_span_what_another_span_refuses(windows: MovingWindow):
    limit = "2/second; 4/hour"
    assert [await windows.hit(limit, "a") > 0 for _ in range(6)] == [False, False, True, True, True, True]
    # Two were let through, so the hour has room for two more.
    assert [await windows.hit("4/hour", "a") > 0 for _ in range(3)] == [False, False, True]


async def test_counts_for_no_limit_of_a_field_what_another_refuses(windows: MovingWindow):
    wide, narrow = (
        RateLimitRule("5/hour", by=ADDRESS),
        RateLimitRule("1/hour", by=LimitKey("name", lambda _caller, arguments: arguments["name"])),
    )
    counted = LimitedCall(windows, "token", Caller(None, "192.0.2.1", ""), {"name": "ada"})
    await counted.count((wide, narrow))
    for _ in range(9):
        with pytest.raises(GraphQLError, match="for each name"):
            await counted.count((wide, narrow))
    others = [LimitedCall(windows, "token", Caller(None, "192.0.2.1", ""), {"name": name}) for name in "abcd"]
    for each in others:
        await each.count((wide, narrow))
    with pytest.raises(GraphQLError, match="for each client address"):
        await LimitedCall(windows, "token", Caller(None, "192.0.2.1", ""), {"name": "e"}).count((wide, narrow))


FAILING = RateLimitRule("20/hour", by=ADDRESS, failures=True)


async def attempt(windows: MovingWindow, outcome: Exception | None, gate: asyncio.Event | None = None) -> str:
    call = LimitedCall(windows, "signup", Caller(None, "192.0.2.1", ""), {})
    try:
        async with call.attempt((FAILING,)):
            if gate is not None:
                await gate.wait()
            end_with(outcome)
    except GraphQLError:
        return "refused"
    except Exception as error:  # noqa: BLE001 -- the test's own
        return type(error).__name__
    return "done"


def end_with(outcome: Exception | None) -> None:
    if outcome is not None:
        raise outcome


async def test_refuses_no_attempt_for_others_that_succeed_beside_it(windows: MovingWindow):
    gate = asyncio.Event()
    attempts = [asyncio.create_task(attempt(windows, None, gate)) for _ in range(100)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*attempts) == ["done"] * 100


async def test_counts_of_attempts_those_alone_that_are_refused_for_what_they_ask(windows: MovingWindow):
    for outcome in (TimeoutError(), RuntimeError()):
        assert [await attempt(windows, outcome) for _ in range(30)] == [type(outcome).__name__] * 30
    refusals = [attempt(windows, InvalidInput.at("username", "taken")) for _ in range(100)]
    assert Counter(await asyncio.gather(*refusals)) == {"InvalidInput": 20, "refused": 80}
    assert await attempt(windows, None) == "refused"


async def test_is_one_for_all_processes_that_share_a_redis(redis: Redis):
    async with connected(databases.redis()) as elsewhere:
        one, other = SharedMovingWindow(redis), SharedMovingWindow(elsewhere)
        assert await one.hit("1/minute", "a") == 0
        assert await other.hit("1/minute", "a") > 0


async def test_is_kept_by_each_process_while_redis_is_away_and_shared_again_after():
    clock = Clock()
    with databases.Redis.own() as server:
        async with connected(server.url) as client:
            windows = SharedMovingWindow(client, clock=clock)
            assert await windows.hit("1/minute", "a") == 0
            server.stop()
            assert await windows.hit("1/minute", "a") == 0
            assert await windows.hit("1/minute", "a") > 0
            assert windows.breaker.failures == 1
            server.start()
            clock.now += RETRY_SECONDS
            assert await windows.hit("1/minute", "a") == 0
            assert await windows.hit("1/minute", "a") > 0
            assert windows.breaker.failures == 1


async def test_keeps_only_so_many_keys_in_a_process():
    windows = LocalMovingWindow()
    await windows.hit("1/minute", "first")
    for key in range(KEYS):
        await windows.hit("1/minute", str(key))
    assert await windows.hit("1/minute", "first") == 0


async def test_can_be_switched_off():
    windows = UnlimitedWindow()
    assert [await windows.hit("1/minute", "a") for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("nonsense", ["", "3", "3/fortnight", "many/minute", "3/60 s; x"])
async def test_is_refused_when_it_cannot_be_read(nonsense: str):
    with pytest.raises(ValueError, match=r"rate limit|granularity"):
        await LocalMovingWindow().hit(nonsense, "a")
