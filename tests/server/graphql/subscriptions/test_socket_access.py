"""Who may open a WebSocket, how many, and how long: origins, tokens and the number of connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update
from websockets.exceptions import InvalidStatus

from graph.kit.auth import Caller, Scope
from graph.kit.errors import Refused
from persistence import users
from tests.support.clients.websocket_frames import INIT, bearer, echo, heard_after_start, talking
from tests.support.endpoints import until

if TYPE_CHECKING:
    from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry, Transport
    from tests.support.service import Service


@pytest.fixture
def service(embedded: Service) -> Service:
    return embedded


@pytest.fixture
def connections(embedded: Service) -> ConnectionRegistry:
    return embedded.app.state.connections


async def refused_init(service: Service, **payload: str) -> tuple[int, str]:
    async with talking(service, init=False) as talk:
        await talk.send(INIT | ({"payload": payload} if payload else {}))
        return await talk.closed()


FULL = (1013, "You have 2 connections open; close one.")


async def test_opens_a_bounded_number_of_sockets_for_a_caller(
    service: Service, connections: ConnectionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_per_caller", 2)
    token = await service.sign_in()
    async with talking(service) as first, talking(service):
        assert await refused_init(service) == FULL
        await first.send({"type": "ping", "payload": bearer(token)})  # is counted as a user from now on
        assert await first.hear() == {"type": "pong"}
        async with talking(service, init=bearer(token)):
            assert await refused_init(service, **bearer(token)) == FULL
        async with talking(service):
            assert await refused_init(service) == FULL
    await until(lambda: not len(connections))


async def test_lets_a_user_in_whose_network_is_full_of_strangers(
    service: Service, connections: ConnectionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers who have said that they are, and such as say nothing."""
    monkeypatch.setattr(connections, "_per_caller", 2)
    token = await service.sign_in()
    async with (
        talking(service),
        talking(service),
        talking(service, init=False),
        talking(service, init=False) as silent,
        talking(service, init=bearer(token)) as payload,
        talking(service, **bearer(token)) as handshake,
    ):
        assert (await payload.result("{ __typename }"))["type"] == (await handshake.result("{ __typename }"))["type"] == "next"
        await silent.send({"type": "ping"})
        assert await silent.hear() == {"type": "pong"}  # Only the oldest that said nothing had to go.
        assert len(connections) == 5
    await until(lambda: not len(connections))


async def test_counts_sockets_of_one_ipv6_network_together(
    service: Service, connections: ConnectionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_per_caller", 2)
    callers = [Caller(None, address, "") for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:192.0.2.1", "192.0.2.1")]
    seated = [Seated(caller) for caller in callers]
    try:
        for each in seated:
            connections.register(each)
        for refused in ("2001:db8::ffff:3", "::ffff:c000:201"):
            with pytest.raises(Refused):
                connections.register(Seated(Caller(None, refused, "")))
    finally:
        for each in seated:
            connections.unregister(each)
    assert len(connections) == 0


class Seated:
    """A connection that does nothing."""

    token: str | None = None
    transport: Transport | None = None

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def end(self, reason: str) -> None: ...
    async def drain(self) -> None: ...


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
async def test_lets_no_foreign_page_in(service: Service, origin: str) -> None:
    """RFC 6455, section 10.2: "Servers that are not intended to process input from any web page … SHOULD verify the |Origin| field"."""
    with pytest.raises(InvalidStatus) as refused:
        async with talking(service, Origin=origin):
            pass
    assert refused.value.response.status_code == 403


async def test_lets_its_own_page_in(service: Service) -> None:
    async with talking(service, Origin=service.url) as talk:
        assert (await talk.result("{ __typename }"))["type"] == "next"


async def test_takes_a_new_token_on_an_open_socket(service: Service, connections: ConnectionRegistry) -> None:
    user = await service.make_user()
    old, new = (service.tokens.issue(user.id, tuple(Scope)) for _ in range(2))
    async with talking(service, init=bearer(old)) as talk:
        await heard_after_start(talk, service)
        await talk.send({"type": "ping", "payload": {**bearer(new), "at": 1}})
        assert await talk.hear() == {"type": "pong", "payload": {"at": 1}}
        assert [each.token for each in connections] == [new]
        await echo(service, "still here")
        assert (await talk.hear())["payload"] == {"data": {"echo": {"text": "echo: still here"}}}


@pytest.mark.parametrize("whose", ["nobody", "another"])
async def test_forbids_a_new_token_that_is_not_the_users(service: Service, whose: str) -> None:
    mine = await service.sign_in()
    other = await service.sign_in(username="bob") if whose == "another" else "forged"
    async with talking(service, init=bearer(mine)) as talk:
        await talk.send({"type": "ping", "payload": bearer(other)})
        assert (await talk.closed())[0] == 4403


async def test_takes_no_token_before_the_initialisation(service: Service) -> None:
    async with talking(service, init=False) as talk:
        await talk.send({"type": "ping", "payload": bearer("x")})
        assert await talk.closed() == (4401, "Unauthorized")


async def test_ends_when_the_token_does(service: Service, connections: ConnectionRegistry) -> None:
    """With a code after which clients come back: 4403, and not 4401, which graphql-ws takes for final."""
    async with talking(service, init=bearer(await service.sign_in())) as talk:
        await heard_after_start(talk, service)
        await connections.check(datetime.now(UTC) + timedelta(days=1))
        assert await talk.closed() == (4403, "Token expired")


async def test_ends_when_the_user_loses_the_standing(service: Service, connections: ConnectionRegistry) -> None:
    token = await service.sign_in()
    async with talking(service, init=bearer(token)) as talk, talking(service) as anonymous:
        await connections.check(datetime.now(UTC))
        assert (await talk.result("{ __typename }"))["type"] == "next"
        async with service.database.transaction() as work:
            await work.session.execute(update(users.User).values(is_active=False))
        assert await talk.closed() == (4403, "Token revoked")
        assert (await anonymous.result("{ __typename }"))["type"] == "next"


async def test_ends_when_a_scope_is_taken_away(service: Service, connections: ConnectionRegistry) -> None:
    token = await service.sign_in()
    async with talking(service, init=bearer(token)) as talk:
        async with service.database.transaction() as work:
            await work.session.execute(update(users.User).values(scopes=["items:read"]))
        assert await talk.closed() == (4403, "Scopes changed")
