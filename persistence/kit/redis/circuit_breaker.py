"""A circuit breaker for Redis: after a failure, calls are skipped for a second, so that not every request waits for a timeout.

All uses of one client share what it knows of an outage: a request that asks Redis for five things would wait five times otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import structlog
from redis.exceptions import RedisClusterException, RedisError, ResponseError

T = TypeVar("T")

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 1.0  # A Redis that is well answers in a millisecond; on a machine with ten times too much to do, in half a second.
RETRY_SECONDS = 1.0
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)


class _Circuit:
    """Open while calls are skipped."""

    def __init__(self) -> None:
        self._until: float | None = None

    def is_open(self, now: float) -> bool:
        """After RETRY_SECONDS one call tries; the others go on alone until that has an answer."""
        if self._until is None or now < self._until:
            return self._until is not None
        self._until = now + RETRY_SECONDS
        return False

    def open(self, now: float, use: str, error: Exception) -> None:
        if self._until is None:
            log.warning("a shared service is unavailable; going on without it", use=use, error=repr(error))
        self._until = now + RETRY_SECONDS

    def close(self, use: str) -> None:
        if self._until is not None:
            log.info("a shared service is available again", use=use)
            self._until = None


_of_clients: WeakKeyDictionary[object, _Circuit] = WeakKeyDictionary()


class CircuitBreaker:
    """Guards one use of `client`. `failures` counts the calls that it failed."""

    def __init__(self, use: str, client: object, clock: Callable[[], float] = time.monotonic) -> None:
        self._use, self._clock = use, clock
        self._of_use, self._of_client = _Circuit(), _of_clients.setdefault(client, _Circuit())
        self.failures = 0

    async def call(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result; None, at once or after TIMEOUT_SECONDS, while the service is away."""
        if any(circuit.is_open(self._clock()) for circuit in (self._of_client, self._of_use)):
            return None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result = await call()
        except REDIS_ERRORS as error:
            self.failures += 1
            refused = isinstance(error, ResponseError)  # It is there, and refuses this, such as a write that it has no memory for.
            (self._of_use if refused else self._of_client).open(self._clock(), self._use, error)
            return None
        self._of_client.close(self._use)
        self._of_use.close(self._use)
        return result
