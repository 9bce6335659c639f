"""Moving-window rate limits: n in t seconds, in the syntax of the `limits` library: `3/60seconds`, `10/minute; 100/day`.

Moving windows: each use counts for the whole span from when it happened, so there is no edge at which the number doubles. In Redis they are
the library's; in memory they are our own, as the library's look through all keys on every use: 4 ms of the event loop with 5,000 callers.
While Redis is away each process counts for itself.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis

from persistence.kit.limits.token_bucket import EXPIRY_SECONDS
from persistence.kit.lru_cache import LruCache
from persistence.kit.redis.circuit_breaker import CircuitBreaker

PREFIX = "storegraph:window"
KEYS = 50_000  # That one process keeps; the least recently used goes first.
WINDOWS_BYTES = 48 * 2**20
DEQUE_BYTES = 760  # With room for 64 uses.
USE_BYTES = 32
CLOCK_SECONDS = (
    5  # That clocks of processes may differ. Uses of a later time than that are of a clock that was wrong, and would count until then.
)

spans = lru_cache(parse_many)


class MovingWindow(Protocol):
    async def hit(self, limit: str, *key: str) -> float:
        """Count one use. The seconds until the next one would be let through; 0.0, and only then counted, if this one is."""
        ...

    async def undo(self, limit: str, *key: str) -> None:
        """Count the newest use no longer."""
        ...


class LocalMovingWindow:
    """Within this process; at most WINDOWS_BYTES."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uses = LruCache[str, deque[float]](WINDOWS_BYTES, _size, most_entries=KEYS)

    async def hit(self, limit: str, *key: str) -> float:
        now = self._clock()
        windows = [(span, self._recent(span, span.key_for(*key), now)) for span in spans(limit)]
        wait = max(uses[-span.amount] + span.get_expiry() - now if len(uses) >= span.amount else 0.0 for span, uses in windows)
        if wait <= 0:
            for span, uses in windows:
                uses.append(now)
                self._uses.put(span.key_for(*key), uses)
        return max(0.0, wait)

    async def undo(self, limit: str, *key: str) -> None:
        for span in spans(limit):
            if uses := self._uses.get(span.key_for(*key)):
                uses.pop()

    def _recent(self, span: RateLimitItem, name: str, now: float) -> deque[float]:
        uses = self._uses.get(name) or deque[float]()
        while uses and uses[0] <= now - span.get_expiry():
            uses.popleft()
        return uses


def _size(name: str, uses: deque[float]) -> int:
    return sys.getsizeof(name) + DEQUE_BYTES + USE_BYTES * len(uses)


class SharedMovingWindow:
    """Through Redis, for all processes."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=PREFIX)
        bridge: Any = storage.bridge

        def ours(_readonly: bool) -> Redis:
            """The library would make a client of its own; this one may be a cluster's."""
            return redis

        bridge.connection_getter = ours
        bridge.register_scripts()
        self._redis: Any = redis
        self._limiter = MovingWindowRateLimiter(storage)
        self._local = LocalMovingWindow()
        self.breaker = CircuitBreaker("rate limits", redis, clock)

    async def hit(self, limit: str, *key: str) -> float:
        counted: list[RateLimitItem] = []
        for span in spans(limit):
            wait = await self.breaker.call(lambda span=span: self._wait(span, key))
            if wait == 0.0:
                counted.append(span)
                continue
            for each in counted:  # A use that one span refuses is none: the others must not count it.
                await self._take_back(each, key)
            return await self._local.hit(limit, *key) if wait is None else wait
        return 0.0

    async def undo(self, limit: str, *key: str) -> None:
        taken = [await self._take_back(span, key) for span in spans(limit)]
        if not all(taken):
            await self._local.undo(limit, *key)

    async def _take_back(self, span: RateLimitItem, key: tuple[str, ...]) -> bool:
        # The library keeps a list of instants, the newest first, and offers no way to shorten it.
        return await self.breaker.call(lambda: self._redis.lpop(f"{PREFIX}:{span.key_for(*key)}")) is not None

    async def _wait(self, span: RateLimitItem, key: tuple[str, ...]) -> float:
        if await self._limiter.hit(span, *key):
            # The library lets it live as long as the span, which may be less than a cached response lives: a full Redis would evict it first.
            await self._redis.expire(f"{PREFIX}:{span.key_for(*key)}", max(EXPIRY_SECONDS, span.get_expiry()))
            return 0.0
        window = await self._limiter.get_window_stats(span, *key)
        wait = window.reset_time - time.time()
        if is_of_the_future(wait, span):
            await self._limiter.clear(span, *key)
            return await self._wait(span, key)
        return max(0.001, wait)


def is_of_the_future(wait_seconds: float, span: RateLimitItem) -> bool:
    """Whether the uses that a caller waits for were counted by a clock that has been set back since."""
    return wait_seconds > span.get_expiry() + CLOCK_SECONDS


class UnlimitedWindow:
    """Where limits are switched off."""

    async def hit(self, limit: str, *key: str) -> float:
        return 0.0

    async def undo(self, limit: str, *key: str) -> None:
        return


def moving_window(redis: Redis | None, *, enabled: bool) -> MovingWindow:
    if not enabled:
        return UnlimitedWindow()
    return SharedMovingWindow(redis) if redis else LocalMovingWindow()
