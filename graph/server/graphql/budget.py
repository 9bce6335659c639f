"""The caller's budget: charges cost points before an operation runs and refunds what it did not use.

Charged before the work and given back after, so that requests side by side cannot overdraw it; what only the work itself tells, such as the
length of an answer, is taken after it, and the budget may fall below zero. Figures in headers, in `extensions.cost` and in `Query.rateLimit` come
from the same level.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from graphql import ExecutionResult, GraphQLError

from graph.kit.auth import Caller
from graph.kit.errors import COST_EXCEEDED, RATE_LIMITED, Refused, refusal
from graph.kit.execution.engine import Engine, Operation
from graph.kit.limits.cost_rules import LEAST_POINTS
from persistence.kit.column_types import utc_now
from persistence.kit.limits.token_bucket import BucketState, TokenBucket

# To parse, validate and plan a document takes a millisecond or two, and 6 to 20 µs for each character where it is dense, which cost a point each: as much a
# point as a plain page, or up to three times that. Documents that were read lately are not charged for.
NEW_DOCUMENT_POINTS = 200
# Reading JSON takes 0.25 µs a byte at worst, and a request of a few kB is paid for by its operation.
BODY_BYTES_A_POINT = 256
BODY_BYTES_INCLUDED = 4_096
CONTAINERS_A_POINT = 24  # An object or a list in JSON takes 0.3 µs, however short it is.
MALFORMED_POINTS = 20  # To take it in and refuse it: some 0.1 ms.
HELD_SECONDS = 0.5  # Before a refusal of who has no points for one: a connection that waits asks nothing else.
# Encoding, compressing and sending a kB take as long as loading an object does.
ANSWER_BYTES_A_POINT = 1_024
# A subscription takes points for some events at a time, so that an event is rarely a question to Redis.
PREPAID_POINTS = 20
EVENT_WAIT_SECONDS = 0.25  # Others may spend what comes back meanwhile, so it is asked again.
POLICY = "points"


@dataclass(slots=True)
class Charge:
    """Points that were charged for one operation; without a level where budgets are switched off."""

    quota: TokenBucket
    caller: str
    requested: int
    level: BucketState | None
    actual: int | None = None

    def refund_unused(self, actual: int) -> None:
        """Give back what was not used, or take what was used beyond it. No operation costs less than LEAST_POINTS."""
        self.actual = max(LEAST_POINTS, actual)
        unused = self.requested - self.actual
        if self.level is None or not unused:
            return
        if unused > 0:
            self.quota.refund(self.caller, unused)
        else:
            self.quota.take(self.caller, -unused)
        self.level = self.level.plus(unused)

    @property
    def headers(self) -> dict[str, str]:
        return headers(self.level) if self.level else {}

    @property
    def figures(self) -> dict[str, Any]:
        """For `extensions.cost`."""
        return {"requested": self.requested, "actual": self.actual, "budget": figures(self.level) if self.level else None}


class EventBudget:
    """Pays for the events of one subscription from its caller's budget. When that is empty, `pay` waits until enough has come back."""

    def __init__(self, quota: TokenBucket, caller: str, *, enabled: bool) -> None:
        self._quota, self._caller, self._enabled, self._held = quota, caller, enabled, 0
        self.paid = 0

    async def pay(self, points: int) -> None:
        if not self._enabled:
            return
        if points > self._held:
            await self._fill(points)
        self._held -= points
        self.paid += points

    def close(self) -> None:
        if self._held:
            self._quota.refund(self._caller, self._held)
            self._held = 0

    async def _fill(self, points: int) -> None:
        while (missing := points - self._held) > 0:
            level = await self._quota.charge(self._caller, missing + PREPAID_POINTS)
            if level.granted:
                self._held += missing + PREPAID_POINTS
                return
            level = await self._quota.charge(self._caller, missing)
            if level.granted:
                self._held += missing
                return
            await asyncio.sleep(min(EVENT_WAIT_SECONDS, (missing - level.points) / level.budget.per_second))


class BudgetService:
    def __init__(self, engine: Engine, quota: TokenBucket, *, max_cost: int, enabled: bool) -> None:
        self._engine, self._quota = engine, quota
        self.max_cost, self.enabled = max_cost, enabled

    async def prepare(self, source: str, operation_name: str | None, caller: Caller) -> Operation:
        """Raises: Refused."""
        if self.enabled and not self._engine.knows(source, operation_name):
            await self.charge_amount(caller, NEW_DOCUMENT_POINTS + min(len(source), self.max_cost))
        return self._engine.prepare(source, operation_name)

    async def charge(self, operation: Operation, variables: Mapping[str, Any] | None, caller: Caller) -> Charge:
        """Raises: Refused."""
        requested = self._price(operation, variables)
        if self.enabled:
            return await self.charge_amount(caller, requested)
        return Charge(self._quota, caller.key, requested, None)

    async def receive(self, caller: Caller, body_bytes: int) -> None:
        """Charge for so many bytes of a request. Raises: Refused."""
        if points := receiving_points(body_bytes):
            await self.pay(caller, points)

    async def read(self, caller: Caller, body: bytes) -> None:
        """Charge for a request's JSON before it is parsed. Raises: Refused."""
        if len(body) > BODY_BYTES_INCLUDED:
            containers = body.count(b"{") + body.count(b"[")
            await self.receive(caller, max(len(body), containers * BODY_BYTES_A_POINT // CONTAINERS_A_POINT))

    async def pay(self, caller: Caller, points: int) -> None:
        """Charge for what an operation turns out to do beside what its price says. Raises: Refused."""
        if self.enabled:
            await self.charge_amount(caller, points)

    def take(self, caller: Caller, points: int) -> None:
        """Charge for what is done already; the budget may fall below zero."""
        if self.enabled and points > 0:
            self._quota.take(caller.key, points)

    def event_budget(self, caller: Caller) -> EventBudget:
        """What a subscription's events are paid from."""
        return EventBudget(self._quota, caller.key, enabled=self.enabled)

    async def charge_fixed(self, caller: Caller, points: int) -> dict[str, str]:
        """Charge for what is no operation; the headers that tell what is left. Raises: Refused."""
        return (await self.charge_amount(caller, points)).headers if self.enabled else {}

    async def charge_amount(self, caller: Caller, points: int) -> Charge:
        """Raises: Refused RATE_LIMITED, if so many points are not there."""
        level = await self._quota.charge(caller.key, points)
        if level.granted:
            return Charge(self._quota, caller.key, points, level)
        wait = level.wait_seconds(points)
        message = f"This takes {points} points of your budget, which holds {level.remaining} now: try again in {wait} s."
        raise refusal(RATE_LIMITED, message, headers=headers(level, wait), retryAfter=wait, requested=points, budget=figures(level))

    async def level(self, caller: Caller) -> BucketState:
        return await self._quota.charge(caller.key, 0)

    async def price(self, source: str, operation_name: str | None, variables: Mapping[str, Any] | None, caller: Caller) -> int:
        """What an operation would cost; it may be more than is allowed. Raises: Refused."""
        operation = await self.prepare(source, operation_name, caller)
        return max(LEAST_POINTS, operation.cost.requested(variables))

    def _price(self, operation: Operation, variables: Mapping[str, Any] | None) -> int:
        requested = max(LEAST_POINTS, operation.cost.requested(variables))
        if requested > self.max_cost:
            message = f"The operation costs {requested} points, most of them here; at most {self.max_cost} are allowed."
            extensions = {"code": COST_EXCEEDED, "requested": requested, "maximum": self.max_cost}
            raise Refused([GraphQLError(message, [operation.cost.most_expensive(variables)], extensions=extensions)])
        return requested


def receiving_points(body_bytes: int) -> int:
    """What so many bytes of a request cost."""
    return max(0, math.ceil((body_bytes - BODY_BYTES_INCLUDED) / BODY_BYTES_A_POINT))


def answer_points(answer_bytes: int) -> int:
    """The least that an answer of this length costs."""
    return math.ceil(answer_bytes / ANSWER_BYTES_A_POINT)


def headers(level: BucketState, wait: int | None = None) -> dict[str, str]:
    """Source: draft-ietf-httpapi-ratelimit-headers-11. Its units are requests and bytes, so `qu` cannot say points; the policy's name does.

    `t` and Retry-After are the same where there is both, as a client may take the later of the two.
    """
    budget = level.budget
    fields = {
        "RateLimit-Policy": f'"{POLICY}";q={budget.capacity};w={budget.full_seconds}',
        "RateLimit": f'"{POLICY}";r={level.remaining};t={level.full_in_seconds if wait is None else wait}',
    }
    return fields if wait is None else fields | {"Retry-After": str(wait)}


def figures(level: BucketState) -> dict[str, Any]:
    """The fields of the GraphQL type `RateLimit` that tell the budget."""
    return {
        "limit": level.budget.capacity,
        "remaining": level.remaining,
        "restoreRate": level.budget.per_second,
        "resetAt": (utc_now() + timedelta(seconds=level.full_in_seconds)).isoformat(),
    }


def wants_cost(extensions: Mapping[str, Any] | None) -> bool:
    """Whether a request asks for `extensions.cost` in its response: by `"extensions": {"cost": true}`."""
    return bool(extensions) and extensions.get("cost") is True


def retry_after(result: ExecutionResult) -> dict[str, str]:
    """The header that goes with the limit of a field, which is reached while the operation runs."""
    waits = [(error.extensions or {}).get("retryAfter") for error in result.errors or ()]
    seconds = [wait for wait in waits if isinstance(wait, int)]
    return {"Retry-After": str(max(seconds))} if seconds else {}
