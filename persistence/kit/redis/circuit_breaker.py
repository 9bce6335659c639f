"""A circuit breaker for Redis: after a failure, calls are skipped for a second, so that not every request waits for a timeout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import RedisClusterException, RedisError

T = TypeVar("T")

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 1.0  # A Redis that is well answers in a millisecond; on a machine with ten times too much to do, in half a second.
RETRY_SECONDS = 1.0
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)


class CircuitBreaker:
    """Guards one use of a shared service. `failures` counts the calls that it failed."""

    def __init__(self, use: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._use, self._clock = use, clock
        self._until: float | None = None
        self.failures = 0

    async def call(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result; None, at once or after TIMEOUT_SECONDS, while the service is away."""
        if self._until is not None:
            if self._clock() < self._until:
                return None
            self._until = self._clock() + RETRY_SECONDS  # One call tries; the others go on alone until it is back.
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result = await call()
        except REDIS_ERRORS as error:
            self._began(error)
            return None
        if self._until is not None:
            log.info("a shared service is available again", use=self._use)
            self._until = None
        return result

    def _began(self, error: Exception) -> None:
        self.failures += 1
        if self._until is None:
            log.warning("a shared service is unavailable; going on without it", use=self._use, error=repr(error))
        self._until = self._clock() + RETRY_SECONDS
