"""Budgets that processes share through Redis: no caller gets more than the budget, and what is refunded comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from persistence.kit.limits import token_bucket
from persistence.kit.limits.token_bucket import Budget, SharedTokenBucket
from tests.proofs.simulation.loop import SimulatedLoop

MODULES = (token_bucket,)
BUDGET = Budget(capacity=100, per_second=10)


class ModelRedis:
    """Runs the one script there is: at once, or with `atomic` False (a planted fault) in two steps."""

    def __init__(self, loop: SimulatedLoop, *, atomic: bool) -> None:
        self._loop, self._atomic = loop, atomic
        self.points, self.at = float(BUDGET.capacity), 0.0

    def register_script(self, _: str) -> Callable[..., Any]:
        return self.change

    async def change(self, *, keys: list[str], args: list[Any]) -> list[Any]:
        await self._loop.pause(0.01)
        now, points = self._loop.now(), args[2]
        held = min(BUDGET.capacity, self.points + max(0.0, now - self.at) * BUDGET.per_second)
        granted = bool(args[3]) or points <= held
        if granted:
            held = min(BUDGET.capacity, held - points)
        if not self._atomic:
            await self._loop.pause(0.01)
        self.points, self.at = held, now
        await self._loop.pause(0.01)
        return [int(granted), f"{held:.6f}"]


async def scenario(loop: SimulatedLoop, *, atomic: bool = True) -> list[str]:
    redis = ModelRedis(loop, atomic=atomic)
    processes = [SharedTokenBucket(cast("Any", redis), BUDGET, clock=loop.now) for _ in range(3)]
    spent = [0]

    async def work(bucket: SharedTokenBucket) -> None:
        for _ in range(15):
            cost = loop.random.randint(5, 30)
            state = await bucket.charge("caller", cost)
            if state.granted:
                unused = loop.random.randint(0, cost)
                spent[0] += cost - unused
                await loop.pause(0.05)
                bucket.refund("caller", unused)
            await loop.pause(0.1)

    await asyncio.gather(*(work(bucket) for bucket in processes for _ in range(2)))
    allowed = BUDGET.capacity + loop.now() * BUDGET.per_second
    faults = [f"{spent[0]} points were spent of {allowed:.1f}"] if spent[0] > allowed + 1e-6 else []
    await asyncio.sleep(BUDGET.full_seconds + 1)
    full = await processes[0].charge("caller", 0)
    if full.points != BUDGET.capacity:
        faults.append(f"{full.points} points are left of a budget that nobody used")
    await asyncio.gather(*(bucket.close() for bucket in processes))
    return faults
