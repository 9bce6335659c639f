"""Four workers of one server, on PostgreSQL and Redis, which share nothing else …"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from graph.kit.auth import Scope
from persistence import users
from tests.conftest import settings_for
from tests.support.clients.websocket_subscriber import listening
from tests.support.servers.processes import serving
from tests.support.service import Service, running

CONNECTIONS = 12  # Each is some worker's: that one has them all happens once in four million runs.
ITEM = "query ($id: ID!) { item(id: $id) { name } }"
UPDATE = "mutation ($id: ID!, $name: String!) { updateItem(id: $id, input: {name: $name}) { ... on Item { name } } }"
EVENTS = "subscription { itemEvents { ... on ItemUpdated { item { name } } } }"
PAGE = "{ itemsPage { page } }"
REVOKE = "mutation ($token: String!) { revokeToken(token: $token) { __typename } }"


@pytest.fixture(scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    """The server's address, with the database and the tokens of a fifth process."""
    folder = tmp_path_factory.mktemp("workers")
    settings = await settings_for("postgresql", folder, rate_limits_enabled=True, metrics_folder=folder)
    async with running(settings) as service:
        await service.make_user()
        with serving(settings, folder, "--workers", "4") as process:
            yield replace(service, url=process.url)


@asynccontextmanager
async def connected(workers: Service) -> AsyncGenerator[list[Service]]:
    """The server through connections of their own, which stay open."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(httpx.AsyncClient(base_url=workers.url, timeout=60)) for _ in range(CONNECTIONS)]
        yield [replace(workers, http=client) for client in clients]


async def token(workers: Service) -> str:
    async with workers.database.reading_latest() as session:
        ada = (await users.by_username(session, ["ada"]))["ada"]
    return workers.tokens.issue(ada.id, tuple(Scope))


async def codes(each: Service, query: str, token: str) -> list[str]:
    answer: dict[str, Any] = (await each.send(query, token=token)).json()
    return [error["extensions"]["code"] for error in answer.get("errors", ())]


async def test_never_answer_from_before_a_change_that_another_made(workers: Service) -> None:
    ada, item = await token(workers), await workers.make_item("Kettle 0")
    async with connected(workers) as connections:
        for number, writer in enumerate(connections[:6]):
            seen = await asyncio.gather(*(each.ask(ITEM, {"id": item}) for each in connections for _ in range(2)))
            assert seen == [{"item": {"name": f"Kettle {number}"}}] * 2 * CONNECTIONS
            await writer.ask(UPDATE, {"id": item, "name": f"Kettle {number + 1}"}, token=ada)


async def test_tell_subscribers_of_a_change_that_another_made(workers: Service) -> None:
    ada, item = await token(workers), await workers.make_item("Pan")
    async with AsyncExitStack() as stack, connected(workers) as connections, asyncio.timeout(60):
        listeners = [await stack.enter_async_context(listening(workers, EVENTS)) for _ in range(CONNECTIONS)]
        heard = [asyncio.create_task(listener.next()) for listener in listeners]
        number = 0
        while not all(task.done() for task in heard):  # A subscription begins when it begins.
            number += 1
            await connections[number % CONNECTIONS].ask(UPDATE, {"id": item, "name": f"Pan {number}"}, token=ada)
            await asyncio.wait(heard, timeout=0.2)
        for listener, task in zip(listeners, heard, strict=True):
            event = task.result()
            while event != {"item": {"name": f"Pan {number}"}}:
                event = await listener.next()


async def test_count_together_what_a_field_lets_through(workers: Service) -> None:
    ada = await token(workers)
    async with connected(workers) as connections:
        answers = [await codes(each, PAGE, ada) for each in connections]
    assert answers == [[]] * 3 + [["RATE_LIMITED"]] * (CONNECTIONS - 3)


async def test_all_refuse_a_token_that_one_was_told_to_revoke(workers: Service) -> None:
    ada, given_up = await token(workers), await token(workers)
    me = "{ me { username } }"
    async with connected(workers) as connections:
        assert [await codes(each, me, given_up) for each in connections] == [[]] * CONNECTIONS
        await connections[0].ask(REVOKE, {"token": given_up}, token=ada)
        async with asyncio.timeout(60):
            for each in connections:
                while (found := await codes(each, me, given_up)) == []:  # noqa: ASYNC110 -- each process looks for itself
                    await asyncio.sleep(0.05)
                assert found == ["UNAUTHENTICATED"]
        assert [await codes(each, me, ada) for each in connections] == [[]] * CONNECTIONS
