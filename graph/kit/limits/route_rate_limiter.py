"""Counts requests of REST routes against their rate limits (`rate_limits.py`) with slowapi, kept off the event loop where they could wait for Redis.

slowapi is synchronous. Its memory storage answers in microseconds and is asked directly. Its Redis storage waits for the network, so a thread asks
it: a Redis that hangs then delays one caller, not the loop. While Redis is away each process counts for itself; with a Redis Cluster it always
does, as the library's client of a cluster cannot be made while the cluster is away, and the service has to start then too.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread
from limits import RateLimitItem
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.requests import Request
from starlette.responses import Response

from graph.kit.auth import Caller
from graph.kit.errors import RATE_LIMITED, refusal
from graph.kit.limits.rate_limits import RateLimitRule
from persistence.kit.limits.moving_window import is_of_the_future
from persistence.kit.redis.circuit_breaker import REDIS_ERRORS
from persistence.kit.redis.client import blocking_options, is_cluster

TIMEOUT_SECONDS = 0.25  # A Redis that is well answers in a millisecond.
THREADS = 4  # So that a Redis that hangs cannot take the threads that files are read with.

RouteLimit = Callable[[Request, Caller], Awaitable[None]]


class RouteRateLimiter:
    def __init__(self, redis_url: str | None, *, enabled: bool) -> None:
        if redis_url and is_cluster(redis_url):
            redis_url = None
        self._remote = redis_url is not None
        self._threads = anyio.CapacityLimiter(THREADS)
        with warnings.catch_warnings():
            # It would read .env by itself; given a file that is empty it says so.
            warnings.simplefilter("ignore")
            self._limiter: Any = Limiter(  # Partly untyped.
                key_func=_key,
                strategy="moving-window",  # A fixed window lets through the double at its edge.
                storage_uri=redis_url or "memory://",
                storage_options=blocking_options(TIMEOUT_SECONDS) if redis_url else {},
                in_memory_fallback_enabled=self._remote,
                key_prefix="storegraph:rest",
                key_style="endpoint",
                enabled=enabled,
                config_filename=os.devnull,
            )

    def limiter(self, name: str, rule: RateLimitRule) -> RouteLimit:
        """Counts one request, or raises Refused RATE_LIMITED. `name` keeps routes' counts apart.

        Raises: ValueError, for what slowapi cannot count: a rule of failures or of several spans.
        """
        assert rule.span

        def admit(request: Request) -> Response:
            return _ADMITTED

        admit.__name__ = name  # slowapi keeps its limits by module and name.
        check: Any = self._limiter.limit(rule.rate)(admit)

        def counted(request: Request) -> None:
            try:
                check(request)
            except REDIS_ERRORS:  # Of several that find Redis away, the library catches the first: by now it counts in memory.
                check(request)

        def wait_seconds(request: Request) -> int:
            try:
                counted(request)
            except RateLimitExceeded:
                return self._wait_seconds(*request.state.view_rate_limit) or wait_seconds(request)
            return 0

        async def passed(request: Request, caller: Caller) -> None:
            request.state.rate_limit_key = rule.by.key(caller, request.path_params)
            if self._remote:
                wait = await anyio.to_thread.run_sync(wait_seconds, request, limiter=self._threads)
            else:
                wait = wait_seconds(request)
            if wait:
                raise refusal(
                    RATE_LIMITED, f"Too many requests: {rule.refusal_message(wait)}", headers={"Retry-After": str(wait)}, retryAfter=wait
                )

        return passed

    def _wait_seconds(self, item: RateLimitItem, key: Sequence[str]) -> int:
        """0, and all forgotten, for uses that a clock counted which has been set back since."""
        wait: float = self._limiter.limiter.get_window_stats(item, *key).reset_time - time.time()
        if is_of_the_future(wait, item):
            self._limiter.limiter.clear(item, *key)
            return 0
        return max(1, math.ceil(wait))


_ADMITTED = Response()


def _key(request: Request) -> str:
    key: str = request.state.rate_limit_key
    return key
