"""Without its Redis, stopped or hung, the service …

Two processes of one service, and every use of Redis: before, meanwhile and after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from itertools import count

import pytest

from tests.conftest import settings_for
from tests.echo.test_echo import ECHO, SEND
from tests.support.budgets import PAGE
from tests.support.clients.tokens import REVOKE
from tests.support.clients.websocket_subscriber import Listener, listening
from tests.support.servers.databases import Redis
from tests.support.service import Service, running

EVENTS = "subscription { itemEvents { ... on ItemCreated { item { name } } } }"
addresses = (f"203.0.{number // 256}.{number % 256}" for number in count(1))


@pytest.fixture(scope="module")
def redis() -> Generator[Redis]:
    with Redis.own() as server:
        yield server


@pytest.fixture(scope="module")
async def processes(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Service, Service]]:
    settings = await settings_for(
        "postgresql", tmp_path_factory.mktemp("away"), redis_url=redis.url, rate_limits_enabled=True, trusted_proxies=("127.0.0.1",)
    )
    async with running(settings) as here, running(settings) as there:
        yield here, there


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 -- the other side tells nobody
            await asyncio.sleep(0.05)


async def pages(services: list[Service], token: str) -> int:
    """How many of these services, asked in turn by one new address, let a page through."""
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": next(addresses)}
    answers = [(await service.http.post("/graphql", json={"query": PAGE}, headers=headers)).json() for service in services]
    return sum("errors" not in answer for answer in answers)


async def begun(events: Listener, service: Service) -> None:
    """Make items until the subscriber hears of one."""
    heard = asyncio.ensure_future(events.next())
    while not heard.done():
        await service.make_item("before")
        await asyncio.wait([heard], timeout=0.1)


async def hears_of(events: Listener, name: str) -> None:
    async with asyncio.timeout(30):
        while await events.next() != {"item": {"name": name}}:
            pass


async def is_refused(service: Service, token: str) -> bool:
    answer = (await service.send("{ me { username } }", token=token)).json()
    return [error["extensions"]["code"] for error in answer.get("errors", [])] == ["UNAUTHENTICATED"]


async def shares_limits(here: Service, there: Service, token: str) -> bool:
    return await pages([here, there] * 2, token) == 3


async def are(condition: str, services: tuple[Service, Service]) -> bool:
    answers = [await service.http.get("/ready") for service in services]
    assert [answer.status_code for answer in answers] == [200] * 2
    return [answer.json()["status"] for answer in answers] == [condition] * 2


async def hears(listener_at: Service, sender_at: Service) -> bool:
    """Whether an echo gets from one to the other within a moment."""
    async with listening(listener_at, ECHO, {"channel": "room", "message": "hello"}) as listener:
        await listener.next()
        heard = asyncio.ensure_future(listener.next())
        await sender_at.ask(SEND, {"channel": "room", "message": "across"})
        await asyncio.wait([heard], timeout=0.3)
        return heard.done() or not heard.cancel()


@pytest.mark.parametrize("away", [Redis.stop, Redis.pause])
async def test_answers_on_by_itself_and_finds_the_others_again(
    processes: tuple[Service, Service], redis: Redis, away: Callable[[Redis], None]
) -> None:
    here, there = processes
    token, lost = await here.sign_in(), await here.sign_in(username="bob")
    await eventually(lambda: hears(here, there))
    assert await pages([here, there] * 2, token) == 3

    async with listening(here, EVENTS, token=token) as events:
        await begun(events, there)
        away(redis)

        # Events come from the log, which each process looks at once a second.
        await there.make_item("meanwhile")
        await hears_of(events, "meanwhile")
        # Echoes stay in their process.
        await eventually(lambda: hears(here, here))
        assert not await hears(here, there)
        # Each process counts for itself.
        assert await pages([here] * 4 + [there] * 4, token) == 6
        assert (await here.http.get("/api/v2/files/list", headers={"Authorization": f"Bearer {token}"})).status_code == 200
        # A token is given up in the database, where every process looks twice a second.
        assert not await is_refused(there, lost)
        await here.ask(REVOKE, {"token": lost}, token=lost)
        await eventually(lambda: is_refused(there, lost))
        await eventually(lambda: are("degraded", processes))

        redis.resume() if redis.pid else redis.start()
        await eventually(lambda: hears(here, there))
        await eventually(lambda: hears(there, here))
        # Each use of Redis comes back by itself, when it next tries.
        await eventually(lambda: are("ok", processes))
        await there.make_item("after")
        await hears_of(events, "after")
    await eventually(lambda: shares_limits(here, there, token))
    await here.empty()
