"""The broker through Redis …"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from persistence.kit.events.redis_broker import RedisBroker
from tests.support.servers import databases
from tests.support.servers.databases import Redis


@asynccontextmanager
async def two_brokers(url: str, namespaces: tuple[str, str] = ("a", "a")) -> AsyncGenerator[tuple[RedisBroker, RedisBroker]]:
    """As two processes have them, and each hears the other already, if they share a namespace."""
    first, second = (RedisBroker(url, namespace) for namespace in namespaces)
    await first.start()
    await second.start()
    try:
        if namespaces[0] == namespaces[1]:
            await reach(first, second)
            await reach(second, first)
        yield first, second
    finally:
        await first.stop()
        await second.stop()


async def reach(sender: RedisBroker, receiver: RedisBroker) -> None:
    """Call until the other one hears."""
    with receiver.listening("call") as calls:
        heard = asyncio.ensure_future(anext(calls))
        while not heard.done():
            await sender.publish("call", b"hello?")
            await asyncio.wait([heard], timeout=0.05)


async def take(messages: AsyncIterator[bytes], count: int) -> list[bytes]:
    async with asyncio.timeout(20):
        return [await anext(messages) for _ in range(count)]


async def test_reaches_every_process_once_and_in_order() -> None:
    async with two_brokers(databases.redis()) as (first, second):
        sent = [f"message {number}".encode() for number in range(100)]
        with first.listening("room") as here, second.listening("room") as there, second.listening("another room") as elsewhere:
            for message in sent:
                await first.publish("room", message)
            await first.publish("another room", b"end")
            assert await take(elsewhere, 1) == [b"end"]
            assert await take(here, 100) == sent
            assert await take(there, 100) == sent


async def test_keeps_services_apart_that_share_a_redis() -> None:
    async with two_brokers(databases.redis(), ("one", "another")) as (first, second):
        third = RedisBroker(databases.redis(), "one")
        await third.start()
        await reach(first, third)
        with second.listening("room") as foreign, third.listening("room") as own:
            await first.publish("room", b"for our own")
            assert await take(own, 1) == [b"for our own"]
            await second.publish("room", b"end")
            assert await take(foreign, 1) == [b"end"]
        await third.stop()


async def test_goes_on_within_the_process_while_redis_is_away_and_finds_the_others_again() -> None:
    with Redis.own() as server:
        async with two_brokers(server.url) as (first, second):
            server.stop()
            with first.listening("room") as here:
                await first.publish("room", b"alone")
                assert await take(here, 1) == [b"alone"]
            server.start()
            await reach(first, second)
            await reach(second, first)


async def test_keeps_nobody_waiting_while_redis_hangs() -> None:
    with Redis.own() as server:
        async with two_brokers(server.url) as (first, second):
            server.pause()
            with first.listening("room") as here:
                started = time.perf_counter()
                for _ in range(2_000):
                    await first.publish("room", b"alone")
                seconds = time.perf_counter() - started
                assert await take(here, 1) == [b"alone"]
            assert seconds < 10  # Waiting 0.25 s for each message would take 500.
            server.resume()
            await reach(first, second)
