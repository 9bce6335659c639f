"""The registry of open WebSockets and event streams: caps per caller, token checks each half second, and their end at shutdown.

A connection outlives the moment at which its token was verified, so it is verified again here, for all connections together. It counts
from its acceptance until its transport is closed, whatever the application does meanwhile. Clients that do not read are aborted by `asgi.protocols.transport`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog
from starlette.types import Scope

from graph.kit.auth import AccessToken, Caller
from graph.kit.errors import RATE_LIMITED, UNAVAILABLE, refusal
from graph.server.asgi.protocols.transport import CONNECTION
from graph.server.auth.tokens import Tokens

log = structlog.get_logger()

# A change of scopes or activity must reach open connections within a second or so.
CHECK_SECONDS = 0.5
# Streams that can end by themselves do so at once; what goes on after that, such as a wait for the next echo, is cut off.
FLUSH_SECONDS = 0.5
# How long a goodbye may take before the connection is dropped without one.
CLOSING_SECONDS = 1.0


class Transport(Protocol):
    """What a connection runs over; see `transport.Joined`."""

    def abort(self) -> None: ...
    def add_close_callback(self, callback: Callable[[], None]) -> None: ...
    def remove_close_callback(self, callback: Callable[[], None]) -> None: ...


def transport_of(scope: Scope) -> Transport | None:
    """None under a server that does not say."""
    return scope.get("state", {}).get(CONNECTION)


class OpenConnection(Protocol):
    """One open socket or event stream."""

    caller: Caller
    token: str | None
    transport: Transport | None

    async def end(self, reason: str) -> None:
        """The caller may not listen any longer."""
        ...

    async def drain(self) -> None:
        """The process stops: finish what is short, end what is not, so that the client comes back elsewhere."""
        ...


@dataclass(frozen=True, slots=True)
class _Place:
    key: str
    is_admitted: bool
    gone: Callable[[], None]


class ConnectionRegistry:
    """Every connection that is open in this process.

    A caller has `per_caller` of them. A network whose clients have not said yet who they are has as many beside them: who signs in is not in the
    way of others of the same network, nor they in its way.
    """

    def __init__(self, tokens: Tokens, *, per_caller: int) -> None:
        self._tokens, self._per_caller = tokens, per_caller
        self._places: dict[OpenConnection, _Place] = {}
        self._admitted: Counter[str] = Counter()
        self._arriving: dict[str, dict[OpenConnection, None]] = {}
        self._tokens_read: dict[str, AccessToken | None] = {}
        self._ending: dict[OpenConnection, asyncio.Task[None]] = {}
        self.draining = False
        self.cursor: str | None = None
        """While draining: streams of the event log that ended by themselves have told everything up to here."""

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[OpenConnection]:
        """Those that are open now, whatever happens on the way."""
        return iter(list(self._places))

    def register_arriving(self, connection: OpenConnection) -> None:
        """Count a connection whose caller is not known yet. Where a network has too many of those, the oldest is aborted: most say soon who they are."""
        key = connection.caller.network_key
        arriving = self._arriving.setdefault(key, {})
        oldest = next(iter(arriving)) if len(arriving) >= self._per_caller else None
        self._take(connection, key, is_admitted=False)
        if oldest is not None:
            self.abort(oldest)
            self.unregister(oldest)

    def register(self, connection: OpenConnection) -> None:
        """Count a connection among its caller's: a new one, or one whose caller has signed in. Raises: Refused RATE_LIMITED, UNAVAILABLE."""
        key, place = connection.caller.key, self._places.get(connection)
        if place is not None and place.is_admitted and place.key == key:
            return
        if self.draining and place is None:
            raise refusal(UNAVAILABLE, "This process ends: connect again.", headers={"Retry-After": "1"}, retryAfter=1)
        if self._admitted[key] >= self._per_caller:
            raise refusal(
                RATE_LIMITED, f"You have {self._per_caller} connections open; close one.", headers={"Retry-After": "10"}, retryAfter=10
            )
        self.unregister(connection)
        self._take(connection, key, is_admitted=True)

    def _take(self, connection: OpenConnection, key: str, *, is_admitted: bool) -> None:
        place = self._places[connection] = _Place(key, is_admitted, partial(self.unregister, connection))
        if is_admitted:
            self._admitted[key] += 1
        else:
            self._arriving.setdefault(key, {})[connection] = None
        if connection.transport is not None:
            connection.transport.add_close_callback(place.gone)

    def unregister(self, connection: OpenConnection) -> None:
        """Its place is free; once more does nothing."""
        place = self._places.pop(connection, None)
        if place is None:
            return
        if connection.transport is not None:
            connection.transport.remove_close_callback(place.gone)
        if place.is_admitted:
            self._admitted[place.key] -= 1
            if not self._admitted[place.key]:
                del self._admitted[place.key]
        else:
            del self._arriving[place.key][connection]
            if not self._arriving[place.key]:
                del self._arriving[place.key]

    def abort(self, connection: OpenConnection) -> None:
        """Let go of a connection without a word, because its client does not read or has no place. Its transport's end tells the application."""
        if connection.transport is not None:
            connection.transport.abort()

    async def watch(self) -> None:
        """Check all connections, again and again, until cancelled.

        While the database is away they stay: cutting all of them off would not bring it back.
        """
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check(datetime.now(UTC))

    async def check(self, now: datetime) -> None:
        """End connections whose token has expired or is no longer valid, without waiting for the client."""
        signed_in: dict[OpenConnection, AccessToken] = {}
        for connection in [each for each in self if each not in self._ending]:
            if connection.token is None:
                continue
            token = self._read(connection.token)
            if token is None or connection.caller.principal is None or connection.caller.principal.expires_at <= now:
                self._end(connection, "Token expired")
            else:
                signed_in[connection] = token
        self._forget_tokens()
        await self._check_statuses(signed_in)

    async def _check_statuses(self, signed_in: Mapping[OpenConnection, AccessToken]) -> None:
        """One statement for all of them, however many connections share a token."""
        tokens = list({token.token_id: token for token in signed_in.values()}.values())
        principals = dict(zip((token.token_id for token in tokens), await self._tokens.principals(tokens), strict=True))
        for connection, token in signed_in.items():
            principal, held = principals[token.token_id], connection.caller.principal
            if held is None or held.token_id != token.token_id:  # It has signed in anew meanwhile.
                continue
            if principal is None:
                self._end(connection, "Token revoked")
            elif not principal.scopes >= held.scopes:
                # Streams that were begun with the lost scope would go on: a new connection sorts out which of them may.
                self._end(connection, "Scopes changed")
            else:
                connection.caller = replace(connection.caller, principal=principal)

    def _read(self, token: str) -> AccessToken | None:
        """What a token says of itself: its signature is checked once for as long as a connection holds it."""
        if token not in self._tokens_read:
            self._tokens_read[token] = self._tokens.read(token)
        return self._tokens_read[token]

    def _forget_tokens(self) -> None:
        if len(self._tokens_read) > 2 * len(self._places):
            held = {connection.token for connection in self._places}
            self._tokens_read = {token: read for token, read in self._tokens_read.items() if token in held}

    def _end(self, connection: OpenConnection, reason: str) -> None:
        """Say goodbye beside all else: a client that does not read delays nobody else's."""
        closing = asyncio.create_task(self._within(connection, connection.end(reason)))
        self._ending[connection] = closing
        closing.add_done_callback(lambda _: self._ending.pop(connection, None))

    async def ended(self) -> None:
        """Wait for the goodbyes that are under way."""
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def drain(self, deadline_seconds: float) -> None:
        """Take no new connections, and give those that are open their end; what takes longer than the deadline is dropped."""
        self.draining = True
        connections = list(self)
        if not connections:
            return
        goodbyes = [asyncio.ensure_future(connection.drain()) for connection in connections]
        done, late = await asyncio.wait(goodbyes, timeout=deadline_seconds)
        for closing in done:
            if not closing.cancelled() and (error := closing.exception()) is not None:
                log.warning("a connection could not be ended in order", error=repr(error))
        for closing in late:
            closing.cancel()
        for connection in self if late else ():
            self.abort(connection)

    async def _within(self, connection: OpenConnection, closing: Coroutine[None, None, None]) -> None:
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await closing
        except TimeoutError:
            self.abort(connection)
        except Exception as error:  # noqa: BLE001 -- whatever breaks a goodbye, the connection is no use
            log.warning("a connection could not be ended in order", error=repr(error))
            self.abort(connection)
