"""What stays open: sockets and event streams. Counted per caller, looked at each half second, ended together when the process stops.

A connection outlives the moment at which its token was verified, so somebody has to look again: here, once for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from graph.kit.auth import AccessToken, Caller
from graph.kit.errors import RATE_LIMITED, UNAVAILABLE, refusal
from graph.server.auth.tokens import Tokens

log = structlog.get_logger()

# A change of scopes or activity must reach open connections within a second or so.
CHECK_SECONDS = 0.5
# A client that has not read for this long holds memory and listens to nothing.
STALLED_SECONDS = 30.0
# Streams that can end by themselves do so at once; what goes on after that, such as a wait for the next echo, is cut off.
FLUSH_SECONDS = 0.5
# How long a goodbye may take before the connection is dropped without one.
GOODBYE_SECONDS = 1.0


class Connection(Protocol):
    """One open socket or event stream."""

    caller: Caller
    token: str | None
    writing_since: float | None
    """When the write that is still waiting for the client began (`time.monotonic`); None if there is none."""

    async def end(self, reason: str) -> None:
        """The caller may not listen any longer."""
        ...

    async def drain(self) -> None:
        """The process stops: finish what is short, end what is not, so that the client comes back elsewhere."""
        ...

    def abandon(self) -> None:
        """The client does not read: let go of it without a word."""
        ...


class Connections:
    """Every connection that is open in this process."""

    def __init__(self, tokens: Tokens, *, per_caller: int) -> None:
        self._tokens, self._per_caller = tokens, per_caller
        self._names: dict[Connection, str] = {}
        self._count: Counter[str] = Counter()
        self._tokens_read: dict[str, AccessToken | None] = {}
        self._ending: dict[Connection, asyncio.Task[None]] = {}
        self.draining = False
        self.cursor: str | None = None
        """While draining: streams of the event log that ended by themselves have told everything up to here."""

    def __len__(self) -> int:
        return len(self._names)

    def full(self, caller: Caller) -> bool:
        return self._count[caller.key] >= self._per_caller

    def seat(self, connection: Connection) -> None:
        """Count a connection among its caller's: a new one, or one whose caller has signed in. Raises: Refused RATE_LIMITED, UNAVAILABLE."""
        name = connection.caller.key
        if name == self._names.get(connection):
            return
        if self.draining and connection not in self._names:
            raise refusal(UNAVAILABLE, "This process ends: connect again.", headers={"Retry-After": "1"}, retryAfter=1)
        if self.full(connection.caller):
            raise refusal(
                RATE_LIMITED, f"You have {self._per_caller} connections open; close one.", headers={"Retry-After": "10"}, retryAfter=10
            )
        self.leave(connection)
        self._names[connection] = name
        self._count[name] += 1

    def leave(self, connection: Connection) -> None:
        name = self._names.pop(connection, None)
        if name is not None:
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]

    async def watch(self) -> None:
        """Check all connections, again and again, until cancelled.

        While the database is away they stay: cutting all of them off would not bring it back.
        """
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check(datetime.now(UTC))

    async def check(self, now: datetime) -> None:
        """End connections whose token has run out or lost its standing, and abandon those that do not read. Nobody waits for a goodbye."""
        signed_in: dict[Connection, AccessToken] = {}
        for connection in [each for each in self._names if each not in self._ending]:
            if connection.writing_since is not None and time.monotonic() - connection.writing_since > STALLED_SECONDS:
                connection.abandon()
            elif connection.token is not None:
                token = self._read(connection.token)
                if token is None or connection.caller.principal is None or connection.caller.principal.expires_at <= now:
                    self._end(connection, "Token expired")
                else:
                    signed_in[connection] = token
        self._forget_tokens()
        await self._check_standings(signed_in)

    async def _check_standings(self, signed_in: Mapping[Connection, AccessToken]) -> None:
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
        if len(self._tokens_read) > 2 * len(self._names):
            held = {connection.token for connection in self._names}
            self._tokens_read = {token: read for token, read in self._tokens_read.items() if token in held}

    def _end(self, connection: Connection, reason: str) -> None:
        """Say goodbye beside all else: a client that does not read delays nobody else's."""
        goodbye = asyncio.create_task(_within(connection, connection.end(reason)))
        self._ending[connection] = goodbye
        goodbye.add_done_callback(lambda _: self._ending.pop(connection, None))

    async def ended(self) -> None:
        """Wait for the goodbyes that are under way."""
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def drain(self, deadline_seconds: float) -> None:
        """Take no new connections, and give those that are open their end; what takes longer than the deadline is dropped."""
        self.draining = True
        connections = list(self._names)
        if not connections:
            return
        goodbyes = [asyncio.ensure_future(connection.drain()) for connection in connections]
        done, late = await asyncio.wait(goodbyes, timeout=deadline_seconds)
        for goodbye in done:
            if not goodbye.cancelled() and (error := goodbye.exception()) is not None:
                log.warning("a connection could not be ended in order", error=repr(error))
        for goodbye in late:
            goodbye.cancel()
        for connection in list(self._names) if late else []:
            connection.abandon()


async def _within(connection: Connection, goodbye: Coroutine[None, None, None]) -> None:
    try:
        async with asyncio.timeout(GOODBYE_SECONDS):
            await goodbye
    except TimeoutError:
        connection.abandon()
    except Exception as error:  # noqa: BLE001 -- whatever breaks a goodbye, the connection is no use
        log.warning("a connection could not be ended in order", error=repr(error))
        connection.abandon()
