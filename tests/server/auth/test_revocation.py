"""A token that is given up …"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from graph.kit.auth import Caller, Scope
from graph.kit.errors import Refused
from graph.server.asgi.response_headers import REQUEST_ID
from graph.server.auth.tokens import KNOWN_BYTES, TOKEN_BYTES
from graph.server.graphql.subscriptions.connection_registry import CHECK_SECONDS, CLOSING_SECONDS
from persistence import logins, users
from tests.echo.test_echo import ECHO
from tests.support.clients.tokens import ME, REVOKE
from tests.support.clients.websocket_subscriber import listening
from tests.support.endpoints import LATE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry, Transport
    from tests.support.service import Service

SOCKETS = 300
STALLED = 5


OWN = ContextVar("OWN", default=False)


@contextmanager
def looks(service: Service) -> Generator[list[str]]:
    """The statements that look at the standing of tokens for this task or a request, without those that the service sends each half second."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        if context.execution_options.get("token_status") and (OWN.get() or REQUEST_ID.get(None)):
            sent.append(statement)

    engines = [engine.sync_engine for engine in service.database.engines]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    here = OWN.set(True)
    try:
        yield sent
    finally:
        OWN.reset(here)
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


class Unread:
    """A transport whose client does not read: it ends only by being aborted."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        pass

    def remove_close_callback(self, callback: Callable[[], None]) -> None:
        pass


class Stalled:
    """A connection whose client does not read, so that no goodbye comes to its end."""

    def __init__(self, caller: Caller, token: str) -> None:
        self.caller = caller
        self.token: str | None = token
        self.unread = Unread()
        self.transport: Transport | None = self.unread

    async def end(self, reason: str) -> None:
        await asyncio.Event().wait()

    async def drain(self) -> None:
        await asyncio.Event().wait()


async def stalled(service: Service, connections: ConnectionRegistry) -> list[Stalled]:
    """Connections whose user may not come in any more, and whose clients do not read."""
    user, found = await service.make_user("stalled"), list[Stalled]()
    for _ in range(STALLED):
        token = service.tokens.issue(user.id, ())
        caller = Caller(await service.tokens.principal(token), client_ip="127.0.0.1", request_id="")
        found.append(Stalled(caller, token))
        connections.register(found[-1])
    return found


async def test_ends_its_sockets_within_a_second_among_hundreds_of_which_some_do_not_read(service: Service) -> None:
    connections: ConnectionRegistry = service.app.state.connections
    people = [await service.make_user(f"user{number}") for number in range(4)]
    tokens = [service.tokens.issue(people[number % 4].id, tuple(Scope)) for number in range(SOCKETS)]
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(listening(service, ECHO, {"channel": "room"}, token=token)) for token in tokens]
        silent = await stalled(service, connections)
        with looks(service) as sent:
            await connections.check(datetime.now(UTC))
        assert len(sent) <= 2  # One statement a check, which may join the service's own.
        async with service.database.transaction() as work:
            await users.set_active(work, "stalled", active=False)
        began = time.monotonic()
        await service.ask(REVOKE, {"token": tokens[0]}, token=tokens[0])
        async with asyncio.timeout(30):
            await opened[0].socket.wait_closed()
        took = time.monotonic() - began
        assert (opened[0].socket.close_code, opened[0].socket.close_reason) == (4403, "Token revoked")
        assert took < 1 + LATE_SECONDS
        await until(lambda: all(each.unread.aborted for each in silent))
        assert time.monotonic() - began < CHECK_SECONDS + CLOSING_SECONDS + 1 + LATE_SECONDS
        assert [each for each in opened[1:] if each.socket.close_code is not None] == []
    for each in silent:
        connections.unregister(each)


async def test_looks_once_at_all_tokens_that_are_due_at_the_same_time(service: Service) -> None:
    ada = await service.make_user()
    issued = [service.tokens.issue(ada.id, ()) for _ in range(20)]
    with looks(service) as sent:
        principals = await asyncio.gather(*map(service.tokens.principal, issued))
    assert [each.user_id for each in principals] == [ada.id] * 20
    assert len(sent) <= 2  # The service's own may be on its way.


async def test_costs_no_statement_a_request(service: Service) -> None:
    """The refusal is kept for good where it is for good; where the user may be let in again, for half a second."""
    token = await service.sign_in()
    await service.ask(REVOKE, {"token": token}, token=token)
    assert await service.refused(ME, token=token) == "UNAUTHENTICATED"
    with looks(service) as sent:
        for _ in range(20):
            assert await service.refused(ME, token=token) == "UNAUTHENTICATED"
    assert sent == []
    user = await service.make_user("bob")
    token = service.tokens.issue(user.id, ())
    async with service.database.transaction() as work:
        await users.set_active(work, "bob", active=False)
    assert await service.refused(ME, token=token) == "UNAUTHENTICATED"
    async with service.database.transaction() as work:
        await users.set_active(work, "bob", active=True)
    assert await service.ask(ME, token=token) == {"me": {"username": "bob"}}


async def test_is_remembered_within_bounds(service: Service) -> None:
    user = await service.make_user()
    kept = service.tokens.issue(user.id, ())
    known: Any = service.tokens._known  # pyright: ignore[reportPrivateUsage] -- there is no other way to see it
    for number in range(KNOWN_BYTES // TOKEN_BYTES + 50):
        if number % 1_000 == 0:
            await service.tokens.principal(kept)  # What is used goes last.
        service.tokens._meet(service.tokens.issue(user.id, ()))  # pyright: ignore[reportPrivateUsage] -- without a look at the database
    assert 0.9 * KNOWN_BYTES < known.bytes <= KNOWN_BYTES
    assert kept in known


async def test_is_told_from_others_in_one_look(service: Service) -> None:
    """Good, given up, of a login that has ended, of a user who may not come in, and of nobody."""
    ada, bob = await service.make_user("ada"), await service.make_user("bob")
    issue, read = service.tokens.issue, service.tokens.read
    async with service.database.transaction() as work:
        login = await logins.begin(work, ada, scopes=None)
    written = [
        issue(ada.id, (Scope.ITEMS_READ,)),
        issue(ada.id, ()),
        issue(ada.id, (), family=login.login_id),
        issue(bob.id, ()),
        issue(10**6, ()),
    ]
    tokens = [token for token in map(read, written) if token is not None]
    async with service.database.transaction() as work:
        await logins.revoke(work, tokens[1].token_id, user_id=ada.id, expires_at=tokens[1].expires_at)
        await logins.end(work, login.refresh_token)
        await users.set_active(work, "bob", active=False)
    with looks(service) as sent:
        found = await service.tokens.principals(tokens)
    assert [each and (each.username, each.scopes) for each in found] == [("ada", {Scope.ITEMS_READ}), None, None, None, None]
    assert len(sent) == 1
    for token in written[1:]:
        with pytest.raises(Refused):
            await service.tokens.principal(token)
    assert await service.tokens.principals([]) == []
