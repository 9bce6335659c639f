"""Subscriptions and echoes pay by the event from the budget of a caller. Its limits…"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from graph.budget import BudgetMeter
from graph.kit.auth import Scope
from graph.kit.operations.events import HISTORY_PAGE_POINTS
from persistence.items import table as items
from persistence.kit.events import log as events
from persistence.kit.events.feed import EventBuffer
from tests.support.budgets import ADDRESS, COUNT, ITEMS, keep, known, remaining
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import Service

FOLLOW = "subscription ($after: String, $ids: [ID!]) { itemEvents(after: $after, itemIds: $ids) { ... on ItemChange { cursor item { name owner { username } } } } }"


async def history(service: Service, count: int) -> str:
    """So many events of items that have an owner; the cursor before them."""
    owner = await service.make_user()
    async with service.database.transaction() as work:
        rows = await items.create_all(work, [items.ItemValues(f"Kettle {n}", Decimal(1)) for n in range(count)], owner_id=owner.id)
    async with service.database.reading_latest() as session:
        newest = await events.newest(session)
    assert newest - count >= 0
    assert len(rows) == count
    return service.services.feed.cursor(newest - count)


async def test_charge_a_subscription_event_by_event_and_let_it_wait_for_points(limited: Service):
    cursor, quota = await history(limited, 9), limited.services.ports[BudgetMeter]._quota
    await known(limited, FOLLOW, ITEMS)
    async with listening(limited, "{ __typename }") as first:
        await first.payload()
        await first.completed()
        # The stream takes 50, an event 2: its item and the owner.
        await keep(limited, 50 + 2 * 4 + 1)
        subscribe = {"id": "2", "type": "subscribe", "payload": {"query": FOLLOW, "variables": {"after": cursor}}}
        await first.socket.send(json.dumps(subscribe))
        assert [(await first.next())["item"]["name"] for _ in range(4)] == ["Kettle 0", "Kettle 1", "Kettle 2", "Kettle 3"]
        # The next event has been there for long when this is asked, and waits all the same.
        await first.socket.send(json.dumps({"id": "3", "type": "subscribe", "payload": {"query": ITEMS, "variables": {"first": 100}}}))
        assert (await first.message())["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        quota.refund(ADDRESS, 3)
        assert [(await first.next())["item"]["name"] for _ in range(2)] == ["Kettle 4", "Kettle 5"]
        quota.refund(ADDRESS, 1_000)
        assert [(await first.next())["item"]["name"] for _ in range(3)] == ["Kettle 6", "Kettle 7", "Kettle 8"]
        await first.socket.send(json.dumps({"id": "2", "type": "complete"}))


async def test_charge_an_event_stream_event_by_event_and_let_it_wait_for_points(limited: Service):
    cursor, quota = await history(limited, 4), limited.services.ports[BudgetMeter]._quota
    await known(limited, FOLLOW, COUNT)
    await keep(limited, 50 + 2 * 2)
    body, accept = {"query": FOLLOW, "variables": {"after": cursor}}, {"Accept": "text/event-stream"}
    async with limited.http.stream("POST", "/graphql", json=body, headers=accept) as response:
        lines = response.aiter_lines()

        async def name() -> str:
            async for line in lines:
                if line.startswith("data: "):
                    return json.loads(line.removeprefix("data: "))["data"]["itemEvents"]["item"]["name"]
            raise EOFError

        assert [await name() for _ in range(2)] == ["Kettle 0", "Kettle 1"]
        assert (await limited.send(COUNT)).status_code == 429
        quota.refund(ADDRESS, 4)
        assert [await name() for _ in range(2)] == ["Kettle 2", "Kettle 3"]


async def test_give_back_what_a_subscription_took_for_events_that_never_came(limited: Service):
    cursor = await history(limited, 1)
    await known(limited, FOLLOW)
    async with listening(limited, FOLLOW, {"after": cursor}) as listener:
        await listener.next()
    spent = 50 + 2
    async with asyncio.timeout(10):
        while (left_ := (await limited.services.ports[BudgetMeter]._quota.charge(ADDRESS, 0)).remaining) != 1_000 - spent:  # noqa: ASYNC110 -- the service sees the end a moment later
            await asyncio.sleep(0.01)
    assert left_ == 1_000 - spent


async def test_charge_for_history_that_a_filter_lets_nobody_hear_of(limited: Service, monkeypatch: pytest.MonkeyPatch):
    cursor, feed = await history(limited, 3), limited.services.feed
    async with asyncio.timeout(10):
        while feed.cursor(await feed.position() - 3) != cursor:  # noqa: ASYNC110 -- it looks when it is told
            await asyncio.sleep(0.01)
    monkeypatch.setattr(feed, "_recent", EventBuffer(await feed.position()))  # As after a restart: history is read from the table.
    await known(limited, FOLLOW)
    reading = 50 + HISTORY_PAGE_POINTS
    async with listening(limited, FOLLOW, {"after": cursor, "ids": ["SXRlbTo5OTk5"]}):
        async with asyncio.timeout(10):
            while (await limited.services.ports[BudgetMeter]._quota.charge(ADDRESS, 0)).remaining > 1_000 - reading:  # noqa: ASYNC110 -- nothing is heard
                await asyncio.sleep(0.01)


async def test_let_the_sender_of_an_echo_pay_for_each_who_hears_it_and_execute_it_once(limited: Service):
    token, send = await limited.sign_in(), 'mutation { sendEcho(channel: "room", message: "hello") { text } }'
    await known(limited, send, "{ rateLimit { remaining } }", token=token)
    query = 'subscription ($first: String) { echo(channel: "room", message: $first) { text sentAt } }'
    async with AsyncExitStack() as sockets:
        listeners = [await sockets.enter_async_context(listening(limited, query, {"first": "here"})) for _ in range(3)]
        for one in listeners:
            assert (await one.next())["text"] == "echo: here"
        numbers = limited.app.state.pipeline._telemetry.metrics.phases["event"].series[()]
        before = sum(numbers[:-1])
        await limited.ask(send, token=token)
        heard = [await one.next() for one in listeners]
        assert heard == [heard[0]] * 3
        assert sum(numbers[:-1]) - before == 1
        assert await remaining(limited, token=token) == 1_000 - 50 - 3 - 50


async def test_refuse_an_echo_to_more_than_the_sender_can_pay_and_send_nothing(limited: Service):
    user = await limited.make_user()
    token, send = limited.tokens.issue(user.id, tuple(Scope)), 'mutation { sendEcho(channel: "room", message: "hello") { text } }'
    await known(limited, send, send.replace("hello", "later"), token=token)
    query = 'subscription ($first: String) { echo(channel: "room", message: $first) { text } }'
    async with AsyncExitStack() as sockets:
        listeners = [await sockets.enter_async_context(listening(limited, query, {"first": "here"})) for _ in range(3)]
        for one in listeners:
            await one.next()
        await keep(limited, 32, f"user:{user.id}")
        assert await limited.refused(send, token=token) == "RATE_LIMITED"
        limited.services.ports[BudgetMeter]._quota.refund(f"user:{user.id}", 100)
        await limited.ask(send.replace("hello", "later"), token=token)
        assert [(await one.next())["text"] for one in listeners] == ["echo: later"] * 3
