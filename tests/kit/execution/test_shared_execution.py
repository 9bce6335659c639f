"""Subscribers who ask the same are told by one execution, and each only what is for its eyes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update
from websockets.exceptions import ConnectionClosed

from graph.kit.auth import Scope
from graph.kit.global_ids import required_row_id
from persistence import users
from persistence.items import table as items
from persistence.kit.events import log as events
from tests.support.clients.websocket_subscriber import Listener, listening

if TYPE_CHECKING:
    from tests.support.service import Service

SALES = """
subscription ($after: String) {
  itemEvents(after: $after) {
    ... on ItemPurchased { item { name } purchase { quantity buyer { username } } }
    ... on ItemUpdated { item { name owner { username } } }
  }
}
"""
OPEN = "subscription ($after: String) { itemEvents(after: $after) { ... on ItemUpdated { cursor item { name owner { username } } } } }"
BUY = "mutation ($id: ID!) { purchaseItem(itemId: $id, quantity: 2) { __typename } }"


class Room:
    """Sockets that all begin at the same place of the log."""

    def __init__(self, service: Service, sockets: AsyncExitStack, after: str) -> None:
        self._service, self._sockets, self.after = service, sockets, after

    async def enter(self, query: str, token: str | None = None) -> Listener:
        return await self._sockets.enter_async_context(listening(self._service, query, {"after": self.after}, token=token))


async def end_of_log(service: Service) -> str:
    """The cursor of the newest event, whether it has been delivered or not."""
    await service.services.feed.position()
    async with service.database.reading_latest() as session:
        return service.services.feed.cursor(await events.newest(session))


def executions(service: Service) -> float:
    (numbers,) = service.app.state.pipeline._telemetry.metrics.phases["event"].series.values()
    return sum(numbers[:-1])


async def rename(service: Service, item_id: str, *names: str) -> None:
    for name in names:
        async with service.database.transaction() as work:
            await items.change(work, required_row_id("Item", item_id), {"name": name})


async def test_executes_an_event_once_for_all_of_them(service: Service) -> None:
    item_id = await service.make_item(inventory=9)
    ada = await service.sign_in(username="ada")
    async with AsyncExitStack() as sockets:
        room = Room(service, sockets, await end_of_log(service))
        listeners = [await room.enter(OPEN, token) for token in (None, ada) for _ in range(6)]
        before = executions(service)
        names = [f"Kettle {number}" for number in range(20)]
        await rename(service, item_id, *names)
        heard = [[await one.next() for _ in names] for one in listeners]
    assert heard == [heard[0]] * 12
    assert len({event["cursor"] for event in heard[0]}) == 20
    assert heard[0][-1]["item"] == {"name": "Kettle 19", "owner": None}
    assert executions(service) - before == 20


async def test_executes_a_new_event_once_for_those_who_resume_from_different_cursors(service: Service) -> None:
    item_id, other_id = await service.make_item(inventory=9), await service.make_item("Lamp")
    end = await end_of_log(service)
    await rename(service, item_id, *(f"Kettle {number}" for number in range(50)))
    async with AsyncExitStack() as sockets:
        enter = sockets.enter_async_context
        listeners: list[Any] = []
        first = await enter(listening(service, OPEN, {"after": end}))
        cursors = [(await first.next())["cursor"] for _ in range(50)]
        for place, cursor in enumerate(cursors[:-1]):
            # As a variable, in the text, under another name and with a filter: all of them select the same.
            ways: tuple[tuple[str, dict[str, Any]], ...] = (
                (OPEN, {"after": cursor}),
                (OPEN.replace("($after: String)", "").replace("$after", f'"{cursor}"'), {}),
                (
                    OPEN.replace("subscription", "subscription Follow").replace("after", "from").replace("from: $", "after: $"),
                    {"from": cursor},
                ),
                (
                    OPEN.replace("after: $after", "after: $after, itemIds: $ids").replace("(", "($ids: [ID!], ", 1),
                    {"after": cursor, "ids": [item_id]},
                ),
            )
            query, variables = ways[place % 4]
            listeners.append(await enter(listening(service, query, variables)))
        for place, one in enumerate(listeners):
            for cursor in cursors[place + 1 :]:
                assert (await one.next())["cursor"] == cursor
        before = executions(service)
        await rename(service, other_id, "Nobody who filters hears of this")
        await rename(service, item_id, "One", "Two")
        heard = [[await one.next() for _ in range(2 if place % 4 == 3 else 3)] for place, one in enumerate(listeners)]
    assert all(told[-2:] == heard[0][-2:] for told in heard)
    assert heard[0][-1]["item"]["name"] == "Two"
    assert executions(service) - before == 3


async def test_executes_a_new_event_once_for_event_streams_that_resume(service: Service) -> None:
    item_id = await service.make_item()
    end = await end_of_log(service)
    await rename(service, item_id, *(f"Kettle {number}" for number in range(8)))
    async with AsyncExitStack() as streams:
        first = await streams.enter_async_context(listening(service, OPEN, {"after": end}))
        cursors = [(await first.next())["cursor"] for _ in range(8)]
        resumed = [await streams.enter_async_context(resuming(service, OPEN, cursor)) for cursor in cursors[:-1]]
        for place, lines in enumerate(resumed):
            for cursor in cursors[place + 1 :]:
                assert (await data(lines))["cursor"] == cursor
        before = executions(service)
        await rename(service, item_id, "One", "Two")
        heard = [await first.next() for _ in range(2)]
        assert heard[-1]["item"]["name"] == "Two"
        for lines in resumed:
            assert [await data(lines) for _ in range(2)] == heard
    assert executions(service) - before == 2


async def test_keeps_apart_what_selects_something_else(service: Service) -> None:
    item_id = await service.make_item()
    variables = {"after": await end_of_log(service)}
    other = "subscription ($after: String, $yes: Boolean!) { itemEvents(after: $after) { ... on ItemUpdated { cursor @include(if: $yes) itemId } } }"
    async with AsyncExitStack() as sockets:
        listeners = [
            await sockets.enter_async_context(listening(service, query, variables | more))
            for query, more in (
                (OPEN, {}),
                (other, {"yes": True}),
                (other, {"yes": False}),
                (OPEN.replace("itemEvents", "x: itemEvents"), {}),
            )
        ]
        before = executions(service)
        await rename(service, item_id, "One")
        heard = [(await one.payload())["data"] for one in listeners]
    assert [sorted(next(iter(each.values()))) for each in heard] == [
        ["cursor", "item"],
        ["cursor", "itemId"],
        ["itemId"],
        ["cursor", "item"],
    ]
    assert [list(each) for each in heard] == [["itemEvents"]] * 3 + [["x"]]
    assert executions(service) - before == 4


@asynccontextmanager
async def resuming(service: Service, query: str, cursor: str) -> AsyncGenerator[AsyncIterator[str]]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
    async with service.http.stream("POST", "/graphql", json={"query": query}, headers=headers) as response:
        yield response.aiter_lines()


async def data(lines: AsyncIterator[str]) -> Any:
    async for line in lines:
        if line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))["data"]["itemEvents"]
    raise EOFError


async def test_shows_a_purchase_to_those_who_may_see_it_and_to_nobody_else(service: Service) -> None:
    item_id = await service.make_item(inventory=9)
    buyer, other = await service.sign_in(username="ada"), await service.sign_in(Scope.ITEMS_READ, username="bob")
    clerk = await service.sign_in(Scope.USERS_READ, username="eve")
    async with AsyncExitStack() as sockets:
        room = Room(service, sockets, await end_of_log(service))
        # In an order in which each kind follows each other, and enough of them that a scout goes ahead.
        tokens = [None, buyer, other, clerk, None, clerk, other, buyer, buyer, None]
        listeners = [await room.enter(SALES, token) for token in tokens]
        await service.ask(BUY, {"id": item_id}, token=buyer)
        seen = [(await one.next())["purchase"] for one in listeners]
    sold = {"quantity": 2, "buyer": {"username": "ada"}}
    assert seen == [sold if token in {buyer, clerk} else None for token in tokens]


async def test_ends_a_subscriber_whose_token_ends_and_goes_on_for_the_others(service: Service) -> None:
    item_id = await service.make_item()
    ada, bob = await service.sign_in(username="ada"), await service.sign_in(username="bob")
    async with AsyncExitStack() as sockets:
        room = Room(service, sockets, await end_of_log(service))
        strangers = [await room.enter(OPEN) for _ in range(5)]
        first, second = await room.enter(OPEN, ada), await room.enter(OPEN, bob)
        await rename(service, item_id, "One")
        assert {(await one.next())["item"]["name"] for one in (first, second, *strangers)} == {"One"}
        async with service.database.transaction() as work:
            await work.session.execute(update(users.User).where(users.User.username == "ada").values(is_active=False))
        await ends(first)
        await rename(service, item_id, "Two")
        assert {(await one.next())["item"]["name"] for one in (second, *strangers)} == {"Two"}
        await service.app.state.connections.check(datetime.now(UTC) + timedelta(days=1))
        await ends(second)
        await rename(service, item_id, "Three")
        assert {(await one.next())["item"]["name"] for one in strangers} == {"Three"}


async def ends(listener: Listener) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        await listener.message()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


async def test_goes_on_when_the_first_of_them_leaves(service: Service) -> None:
    item_id = await service.make_item()
    async with AsyncExitStack() as sockets:
        room = Room(service, sockets, await end_of_log(service))
        async with AsyncExitStack() as early:
            leaving = [await early.enter_async_context(listening(service, OPEN, {"after": room.after})) for _ in range(4)]
            staying = [await room.enter(OPEN) for _ in range(2)]
            await rename(service, item_id, "One")
            assert {(await one.next())["item"]["name"] for one in (*leaving, *staying)} == {"One"}
        await rename(service, item_id, "Two")
        assert {(await one.next())["item"]["name"] for one in staying} == {"Two"}


async def test_tells_each_the_cost_that_it_asks_for(service: Service) -> None:
    item_id = await service.make_item()
    variables: dict[str, Any] = {"after": await end_of_log(service)}
    async with listening(service, OPEN, variables) as plain, listening(service, OPEN, variables, extensions={"cost": True}) as curious:
        await rename(service, item_id, "One", "Two")
        assert [set(await one.payload()) for one in (plain, curious)] == [{"data"}, {"data", "extensions"}]
        assert [set(await one.payload()) for one in (plain, curious)] == [{"data"}, {"data"}]
