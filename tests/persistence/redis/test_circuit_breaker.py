"""The circuit breakers of one Redis client …"""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from persistence.kit.redis import circuit_breaker
from persistence.kit.redis.circuit_breaker import RETRY_SECONDS, CircuitBreaker
from tests.persistence.limits.test_token_bucket import Clock

USES = ("budget", "rate limits", "versions", "cache")


class Client:
    """What the breakers have in common."""


async def hangs() -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def answers() -> str:
    return "answer"


@pytest.mark.parametrize(
    ("error", "others"), [(RedisTimeoutError(), None), (ConnectionResetError(), None), (OutOfMemoryError("OOM"), "answer")], ids=repr
)
async def test_share_an_outage_but_no_refusal(error: Exception, others: str | None) -> None:
    async def fails() -> str:
        raise error

    clock, client = Clock(), Client()
    failing, *other = [CircuitBreaker(use, client, clock) for use in USES]
    stranger = CircuitBreaker("budget", Client(), clock)
    assert await failing.call(fails) is None
    assert [await each.call(answers) for each in (failing, *other, stranger)] == [None, *[others] * len(other), "answer"]
    clock.now += RETRY_SECONDS
    assert [await each.call(answers) for each in (failing, *other)] == ["answer"] * len(USES)
    assert [each.failures for each in (failing, *other)] == [1, 0, 0, 0]


async def test_wait_once_for_a_redis_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that asks it for four things waited four times."""
    monkeypatch.setattr(circuit_breaker, "TIMEOUT_SECONDS", 0.01)
    clock, client = Clock(), Client()
    breakers = [CircuitBreaker(use, client, clock) for use in USES]
    for attempts in (1, 2):
        assert [await each.call(hangs) for each in breakers] == [None] * len(USES)
        assert sum(each.failures for each in breakers) == attempts
        clock.now += RETRY_SECONDS
