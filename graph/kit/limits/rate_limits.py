"""Rate limits: "at most n in t", declared in one way for fields, REST routes, logins and WebSockets, by address, caller, login or connection.

    @query(…, limit=RateLimitRule("3/60seconds", by=ADDRESS))
    @mutation(…, limit=(RateLimitRule("100/hour", by=ADDRESS, failures=True), …))
    rest_routes.route(…, limit=RateLimitRule("60/minute", by=CALLER))
    REFRESHES = RateLimitRule("10/10minutes", by=LOGIN)
    FRAMES = RateLimitRule("1000/second", by=CONNECTION)

`LimitedCall` counts calls of fields; beside this file, `route_rate_limiter.py` counts requests of routes, and `connection_rate_limiter.py` what comes on
one WebSocket. All of them stand beside the budget of cost points, which counts everything.

With `failures` each attempt is counted when it begins, so that many at once get no further than one after the other, and taken back unless it is refused
for what it asks. Only SIDE_BY_SIDE of one key are under way in a process, others wait: so attempts that will succeed are not refused for each other.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from graphql import GraphQLError
from limits import RateLimitItem

from graph.kit.auth import Caller, network
from graph.kit.errors import RATE_LIMITED
from persistence.kit.errors import DomainError
from persistence.kit.limits.moving_window import MovingWindow, spans

SIDE_BY_SIDE = 16


@dataclass(frozen=True, slots=True)
class LimitKey:
    """Whom a limit counts as one, in words and as a key."""

    words: str
    key: Callable[[Caller, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class RateLimitRule:
    """`rate` is in the syntax of the library `limits`: "3/60seconds", "10/minute; 100/day". With `failures`, a mutation counts those alone.

    Raises: ValueError, for a rate that cannot be read.
    """

    rate: str
    by: LimitKey
    failures: bool = False

    def __post_init__(self) -> None:
        spans(self.rate)  # A mistake stops the start, not the first request.

    def __str__(self) -> str:
        return f"At most {self.rate}{' that fail' if self.failures else ''} for each {self.by.words}."

    def refusal_message(self, wait_seconds: int) -> str:
        return f"{str(self).lower()} Try again in {wait_seconds} s."

    @property
    def span(self) -> RateLimitItem:
        """The amount and the time. Raises: ValueError, for several of them, of which one would count what another refuses, or for failures."""
        if self.failures or len(spans(self.rate)) > 1:
            raise ValueError(f"only fields can count: {self}")
        return spans(self.rate)[0]

    def key(self, field: str, caller: Caller, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        return (field, self.by.words, self.by.key(caller, arguments))


ADDRESS = LimitKey("client address", lambda caller, _arguments: network(caller.client_ip))
CALLER = LimitKey("user, or client address without one", lambda caller, _arguments: caller.key)
LOGIN = LimitKey("login", lambda _caller, arguments: arguments["login_id"])
"""For fields that count by themselves, as they have to find out the login first."""


def _counted_apart(_caller: Caller, _arguments: Mapping[str, Any]) -> str:
    raise TypeError("a connection has a ConnectionRateLimiter of its own: no key tells it from others")


CONNECTION = LimitKey("connection", _counted_apart)


class LimitedCall:
    """One call of a field under its limits."""

    def __init__(self, windows: MovingWindow, field: str, caller: Caller, arguments: Mapping[str, Any]) -> None:
        self._windows, self._field, self._caller, self._arguments = windows, field, caller, arguments

    @asynccontextmanager
    async def attempt(self, limits: Sequence[RateLimitRule]) -> AsyncGenerator[None]:
        """Counts one use. A rule of failures goes on counting it only if it ends with a DomainError. Raises: GraphQLError, as `count` does."""
        counting_failures = [limit for limit in limits if limit.failures]
        async with AsyncExitStack() as stack:
            for limit in counting_failures:
                await stack.enter_async_context(_under_way((limit.rate, *self._key(limit))))
            await self.count(limits)
            try:
                yield
            except DomainError:
                raise
            except BaseException:
                await self._undo(counting_failures)
                raise
            await self._undo(counting_failures)

    @asynccontextmanager
    async def answered(self, limits: Sequence[RateLimitRule]) -> AsyncGenerator[None]:
        """Counts one use, unless it ends with an error, after which somebody else tries and counts it. Raises: GraphQLError, as `count` does."""
        await self.count(limits)
        try:
            yield
        except BaseException:
            await self._undo(limits)
            raise

    async def count(self, limits: Sequence[RateLimitRule]) -> None:
        """Raises: GraphQLError RATE_LIMITED with `retryAfter`, in whole seconds. What one limit refuses, the others do not count."""
        for place, limit in enumerate(limits):
            wait = await self._windows.hit(limit.rate, *self._key(limit))
            if wait > 0:
                await self._undo(limits[:place])
                seconds = math.ceil(wait)
                message = f"{self._field}: {limit.refusal_message(seconds)}"
                raise GraphQLError(message, extensions={"code": RATE_LIMITED, "retryAfter": seconds})

    async def _undo(self, limits: Sequence[RateLimitRule]) -> None:
        for limit in limits:
            await self._windows.undo(limit.rate, *self._key(limit))

    def _key(self, limit: RateLimitRule) -> tuple[str, ...]:
        return limit.key(self._field, self._caller, self._arguments)


_semaphores: WeakValueDictionary[tuple[str, ...], asyncio.Semaphore] = WeakValueDictionary()
"""Each for as long as an attempt holds it."""


def _under_way(key: tuple[str, ...]) -> asyncio.Semaphore:
    semaphore = _semaphores.get(key)
    if semaphore is None:
        semaphore = _semaphores[key] = asyncio.Semaphore(SIDE_BY_SIDE)
    return semaphore
