"""Subscribers who ask the same are told by one execution, and each only what is for its eyes."""

from __future__ import annotations

from contextlib import AsyncExitStack
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
from tests.support.listening import Listener, listening

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
