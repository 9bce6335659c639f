"""Token buckets: a budget of points for each caller that refills steadily, charged before the work and refunded after it.

A token bucket of our own, since the `limits` library has windows only: a window lets its amount through twice around its edge, then nothing
until the next, and takes nothing back. Shared through Redis a change is one script, hence one step: callers in many processes cannot
overdraw between a read and a write. While Redis is away each process keeps its own buckets, full at first: a caller may then spend once
more for each process, which is better than refusing everybody.

What nobody can know before the work, such as how long an answer is, is taken afterwards: a budget may fall below zero, and refills from there.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from redis.asyncio import Redis

from persistence.kit.lru_cache import LruCache
from persistence.kit.redis.circuit_breaker import CircuitBreaker

PREFIX = "storegraph:budget:"
REFUND_SECONDS = 0.05
BUCKETS = 50_000  # That one process keeps; the least recently used goes first, and by then is mostly full again.
BUCKETS_BYTES = 24 * 2**20
BUCKET_BYTES = 120  # A list of two numbers.
# In Redis. When that is full, it evicts first what has the shortest time to live (`volatile-ttl`): cached responses have a minute, so
# nobody can buy a new budget by filling the cache.
EXPIRY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Budget:
    """How many points a caller may hold, and how many come back each second."""

    capacity: int
    per_second: float

    @cached_property
    def full_seconds(self) -> int:
        """How long an empty budget takes to be full."""
        return math.ceil(self.capacity / self.per_second)


@dataclass(frozen=True, slots=True)
class BucketState:
    """A budget after a change, or after a charge that was refused and so changed nothing."""

    budget: Budget
    points: float
    """Below zero, if more was taken than there was."""
    granted: bool = True

    @property
    def remaining(self) -> int:
        return max(0, math.floor(self.points))

    @property
    def full_in_seconds(self) -> int:
        return math.ceil((self.budget.capacity - self.points) / self.budget.per_second)

    def plus(self, points: int) -> BucketState:
        return BucketState(self.budget, min(self.budget.capacity, self.points + points), self.granted)

    def wait_seconds(self, points: int) -> int:
        """Until so many points are there, if nothing is spent meanwhile; at least 1, as clients take 0 for a licence to retry at once."""
        return max(1, math.ceil((points - self.points) / self.budget.per_second))


class TokenBucket(Protocol):
    budget: Budget

    async def charge(self, caller: str, points: int) -> BucketState:
        """Take points, all or none. With 0, look only."""
        ...

    def refund(self, caller: str, points: int) -> None:
        """Give points back. Other processes may see them a moment later; nobody waits for it."""
        ...

    def take(self, caller: str, points: int) -> None:
        """Take points for what is done already, though the budget may fall below zero. Nobody waits for it."""
        ...

    async def close(self) -> None: ...


class LocalTokenBucket:
    """Within this process; at most BUCKETS_BYTES."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget, self._clock = budget, clock
        # Points, and when there were so many.
        self._buckets = LruCache[str, list[float]](
            BUCKETS_BYTES, lambda caller, _: sys.getsizeof(caller) + BUCKET_BYTES, most_entries=BUCKETS
        )

    async def charge(self, caller: str, points: int) -> BucketState:
        return self._change(caller, points)

    def refund(self, caller: str, points: int) -> None:
        self._change(caller, -points, always=True)  # Also where the caller owes more.

    def take(self, caller: str, points: int) -> None:
        self._change(caller, points, always=True)

    async def close(self) -> None:
        self._buckets.clear()

    def _change(self, caller: str, points: int, *, always: bool = False) -> BucketState:
        budget, now = self.budget, self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = [float(budget.capacity), now]
            self._buckets.put(caller, bucket)
        held = min(budget.capacity, bucket[0] + (now - bucket[1]) * budget.per_second)
        granted = always or points <= held
        if granted:
            held = min(budget.capacity, held - points)
        bucket[:] = held, now
        return BucketState(budget, held, granted)


# Redis' own clock, since the processes' clocks differ. Numbers go out as text: a float in a reply is cut to a whole number.
CHANGE = """
local capacity, rate, points = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'points', 'at')
local held = capacity
if kept[1] then
    held = math.min(capacity, kept[1] + math.max(0, now - kept[2]) * rate)
end
local granted = 0
if ARGV[4] == '1' or points <= held then
    granted = 1
    held = math.min(capacity, held - points)
end
redis.call('HSET', KEYS[1], 'points', string.format('%.6f', held), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.max(tonumber(ARGV[5]), math.ceil((capacity - held) / rate) + 1))
return {granted, string.format('%.6f', held)}
"""


class SharedTokenBucket:
    """Through Redis, for all processes. A bucket that was not used for a day is forgotten there.

    What is given back goes with the caller's next charge, so that an operation is one question to Redis and not two, or after a moment by itself.
    """

    def __init__(self, redis: Redis, budget: Budget, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self._script: Any = redis.register_script(CHANGE)
        self._local = LocalTokenBucket(budget)
        self._pending_refunds: dict[str, int] = {}  # Below zero: still to be taken. Emptied each PAYMENT_SECONDS.
        self._payment: asyncio.Task[None] | None = None
        self.breaker = CircuitBreaker("budget", redis, clock)

    async def charge(self, caller: str, points: int) -> BucketState:
        owed = self._pending_refunds.pop(caller, 0)
        level = await self._change(caller, points - owed)
        if level is None:
            self._local.take(caller, -owed)
            return await self._local.charge(caller, points)
        if level.granted or not owed:
            return level
        self.refund(caller, owed)
        return level.plus(owed)

    def refund(self, caller: str, points: int) -> None:
        self._pending_refunds[caller] = self._pending_refunds.get(caller, 0) + points
        if self._payment is None or self._payment.done():
            self._payment = asyncio.create_task(self._flush_refunds())

    def take(self, caller: str, points: int) -> None:
        self.refund(caller, -points)

    async def close(self) -> None:
        if self._payment:
            self._payment.cancel()
            await asyncio.wait([self._payment])

    async def _flush_refunds(self) -> None:
        while self._pending_refunds:
            await asyncio.sleep(REFUND_SECONDS)
            owed, self._pending_refunds = self._pending_refunds, {}
            for caller, points in owed.items():
                if await self._change(caller, -points, always=True) is None:
                    self._local.take(caller, -points)

    async def _change(self, caller: str, points: int, *, always: bool = False) -> BucketState | None:
        arguments = [self.budget.capacity, self.budget.per_second, points, int(always), EXPIRY_SECONDS]
        answer = await self.breaker.call(lambda: self._script(keys=[PREFIX + caller], args=arguments))
        return None if answer is None else BucketState(self.budget, float(answer[1]), granted=bool(answer[0]))
