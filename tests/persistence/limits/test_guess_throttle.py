"""Guessing at passwords is slowed down, and whoever knows one is let in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from graph.kit.auth import network
from persistence.kit.errors import TooManyAttempts
from persistence.kit.limits import guess_throttle, token_bucket
from persistence.kit.limits.guess_throttle import GuessThrottle
from tests.conftest import settings_for
from tests.persistence.limits.test_token_bucket import connected
from tests.support.servers import databases
from tests.support.service import PASSWORD, Service, running

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

HOME, OFFICE = "192.0.2.1", "198.51.100.7"


class WrongPassword(Exception):
    pass


class Door:
    """A throttle, with the delays that it made; time passes only by them."""

    def __init__(self, redis: Redis | None) -> None:
        self.delays: list[float] = []
        self.at_once = self.most_at_once = 0
        self.throttle = GuessThrottle(redis, enabled=True, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        await asyncio.sleep(0)

    async def right(self, address: str, name: str = "ada") -> str:
        return await self.throttle.attempt(address, name, self._check_right, WrongPassword)

    async def wrong(self, address: str, name: str = "ada") -> None:
        with pytest.raises(WrongPassword):
            await self.throttle.attempt(address, name, self._check_wrong, WrongPassword)

    async def _check_right(self) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return "in"

    async def _check_wrong(self) -> None:
        await self._check_right()
        raise WrongPassword

    def took(self) -> float:
        """The delay since it was last asked."""
        seconds = sum(self.delays)
        self.delays.clear()
        return seconds


@pytest.fixture(params=["local", "shared"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door(None if request.param == "local" else request.getfixturevalue("redis"))


async def test_makes_wrong_ones_wait_longer_and_longer(door: Door) -> None:
    delays: list[float] = []
    for _ in range(220):
        await door.wrong(HOME)
        delays.append(door.took())
    assert delays[:20] == [0] * 20
    assert delays[21] == pytest.approx(0.1, rel=0.1)
    assert delays[46] == pytest.approx(0.2, rel=0.1)
    assert delays == sorted(delays)
    assert delays[-1] == guess_throttle.MOST_SECONDS
    # And lets in who knows the password, for a name that was never let in from here, and again.
    assert [await door.right(HOME), door.took()] == ["in", guess_throttle.MOST_SECONDS]
    assert await door.right(HOME) == "in"


async def test_counts_no_success_however_many_come_at_once(door: Door) -> None:
    assert await asyncio.gather(*(door.right(HOME) for _ in range(150))) == ["in"] * 150
    assert (door.took(), door.most_at_once) == (0, guess_throttle.PAIR_AT_ONCE)
    for _ in range(20):
        await door.wrong(HOME)
    assert door.took() == 0


async def test_does_not_let_wrong_ones_outrun_the_count(door: Door) -> None:
    outcomes = await asyncio.gather(
        *(door.throttle.attempt(HOME, "ada", door._check_wrong, WrongPassword) for _ in range(200)),  # pyright: ignore[reportPrivateUsage]
        return_exceptions=True,
    )
    tried = sum(isinstance(outcome, WrongPassword) for outcome in outcomes)
    refused = [outcome for outcome in outcomes if isinstance(outcome, TooManyAttempts)]
    assert tried + len(refused) == 200
    assert 20 <= tried < 130
    assert all(outcome.retry_after >= 1 for outcome in refused)
    assert door.most_at_once <= guess_throttle.PAIR_AT_ONCE
    assert await door.right(HOME) == "in"


async def test_gives_one_network_no_more_than_its_part_of_the_line(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names side by side get no further than one after the other; the owner of a name comes in beside them."""
    monkeypatch.setattr(guess_throttle, "NETWORK_WAITING", 300)
    await door.right(OFFICE, "zoe")
    door.most_at_once = 0
    spraying = [
        asyncio.create_task(door.throttle.attempt(OFFICE, f"user{number}", door._check_wrong, WrongPassword))  # pyright: ignore[reportPrivateUsage]
        for number in range(guess_throttle.NETWORK_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(TooManyAttempts):
        await door.right(OFFICE, "newcomer")
    assert await door.right(HOME, "zoe") == "in"
    outcomes = await asyncio.gather(*spraying, return_exceptions=True)
    assert door.most_at_once <= guess_throttle.NETWORK_AT_ONCE + 1
    assert sum(isinstance(outcome, WrongPassword) for outcome in outcomes) >= 150
    assert door.took() > 0
    assert [await door.right(OFFICE, "zoe"), door.took()] == ["in", 0]
    async with door.throttle.place(OFFICE):
        assert await door.right(OFFICE, "zoe") == "in"


@pytest.mark.parametrize("name", ["ada", "ADA"])
async def test_does_not_delay_an_owner_at_home_for_guesses_from_elsewhere(door: Door, name: str) -> None:
    await door.right(HOME, name)
    for number in range(300):
        await door.wrong(f"203.0.113.{number % 200}")
    assert door.took() > 0
    assert [await door.right(HOME), door.took()] == ["in", 0]
    assert await door.right(OFFICE) == "in"  # A first visit takes its time.
    assert 0 < door.took() <= guess_throttle.MOST_SECONDS
    assert [await door.right(OFFICE), door.took()] == ["in", 0]


async def test_delays_many_names_from_one_network_and_not_who_is_known_there(door: Door) -> None:
    await door.right(OFFICE, "zoe")
    for number in range(300):
        await door.wrong(OFFICE, f"user{number}")
    assert door.took() > 0
    assert [await door.right(OFFICE, "zoe"), door.took()] == ["in", 0]
    assert await door.right(OFFICE, "newcomer") == "in"
    assert 0 < door.took() <= guess_throttle.MOST_SECONDS
    assert [await door.right(HOME, "newcomer"), door.took()] == ["in", 0]


async def test_is_shared_by_processes_that_share_a_redis(redis: Redis) -> None:
    one, other = Door(redis), Door(redis)
    await one.right(HOME)
    await one.right(HOME, "zoe")
    for number in range(60):
        await (one, other)[number % 2].wrong(OFFICE)
    assert one.took() == pytest.approx(other.took(), rel=0.2)
    for number in range(300):
        await one.wrong(f"203.0.113.{number % 200}")
    assert [await other.right(HOME), other.took()] == ["in", 0]
    client: Any = redis  # Partly untyped.
    keys: list[bytes] = [key for prefix in (token_bucket.PREFIX, guess_throttle.PREFIX) for key in await client.keys(prefix + "*")]
    lifetimes = [await client.ttl(key) for key in keys]
    assert max(lifetimes) == pytest.approx(guess_throttle.KNOWN_SECONDS, abs=60)
    assert -1 not in lifetimes  # Which is for ever.
    assert not any(b"zoe" in key or HOME.encode() in key for key in keys)


async def test_goes_on_alone_while_redis_is_away() -> None:
    with databases.Redis.own() as server:
        async with connected(server.url) as client:
            door = Door(client)
            await door.right(HOME)
            server.stop()
            for _ in range(40):
                await door.wrong(OFFICE)
            assert door.took() > 0
            assert [await door.right(HOME), door.took()] == ["in", 0]


async def test_keeps_no_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_throttle, "KNOWN_PAIRS", 100)
    door = Door(None)
    for number in range(300):
        await door.right(HOME, f"user{number}")
    assert len(door.throttle._known) == 100  # pyright: ignore[reportPrivateUsage]
    assert door.throttle._queues == {}  # pyright: ignore[reportPrivateUsage]
    assert not door.throttle._in_progress  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(guess_throttle, "WAITING", 10)
    outcomes = await asyncio.gather(*(door.right(HOME) for _ in range(12)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str] * 10 + [TimeoutError] * 2
    assert await door.right(HOME) == "in"


async def test_leaves_nothing_behind_of_who_went_away() -> None:
    door, gate = Door(None), asyncio.Event()
    waiting = [asyncio.create_task(door.throttle.attempt(HOME, "ada", gate.wait, WrongPassword)) for _ in range(20)]
    await asyncio.sleep(0.01)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert door.throttle._queues == {}  # pyright: ignore[reportPrivateUsage]
    assert await door.right(HOME) == "in"


async def test_does_nothing_where_limits_are_off() -> None:
    throttle = GuessThrottle(None, enabled=False)
    for _ in range(60):
        with pytest.raises(WrongPassword):
            await throttle.attempt(HOME, "ada", Door(None)._check_wrong, WrongPassword)  # pyright: ignore[reportPrivateUsage]


# Through the API

LOGIN = "mutation ($u: String!, $p: String!) { token(username: $u, password: $p) { __typename } }"


async def log_in(service: Service, address: str, name: str, password: str) -> str:
    answer = await service.http.post(
        "/graphql", json={"query": LOGIN, "variables": {"u": name, "p": password}}, headers={"X-Forwarded-For": address}
    )
    body = answer.json()
    return body["errors"][0]["extensions"]["code"] if "errors" in body else body["data"]["token"]["__typename"]


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_nobody_locks_out_the_owner_of_an_account(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_throttle, "MOST_SECONDS", 0.001)
    # Fifty hashes take longer than the usual deadline on a busy machine.
    more: dict[str, Any] = {"trusted_proxies": ("127.0.0.0/8",), "operation_timeout_seconds": 60}
    settings = await settings_for(backend, tmp_path, rate_limits_enabled=True, **more)
    async with running(settings) as service:
        await service.make_user()
        assert await log_in(service, HOME, "ada", PASSWORD) == "Token"
        throttle = service.services.ports[GuessThrottle]

        async def wrong() -> None:
            raise WrongPassword

        # Failures without the hashes, of which each takes a tenth of a second.
        for number in range(250):
            with pytest.raises(WrongPassword):
                await throttle.attempt(network(f"203.0.113.{number % 20}"), "ADA", wrong, WrongPassword)
        assert await log_in(service, "203.0.113.1", "ada", "wrong password") == "InvalidCredentials"
        for address in (HOME, "2001:db8::7", "203.0.113.1"):
            assert await log_in(service, address, "ada", PASSWORD) == "Token"
        assert {*await asyncio.gather(*(log_in(service, HOME, "ada", PASSWORD) for _ in range(50)))} == {"Token"}


async def test_a_flood_is_told_when_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_throttle, "LINE_SECONDS", 0.0)
    async with running(await settings_for("sqlite", tmp_path, rate_limits_enabled=True)) as service:
        await service.make_user()
        throttle = service.services.ports[GuessThrottle]

        async def delay(_attempt: object) -> float:
            return 4.0

        monkeypatch.setattr(throttle, "_delay", delay)
        answer = await service.send(LOGIN, {"u": "ada", "p": PASSWORD})
        assert answer.json()["errors"][0]["extensions"] == {"code": "RATE_LIMITED", "retryAfter": 4}
        assert answer.headers["retry-after"] == "4"
