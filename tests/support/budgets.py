"""A service with a small budget, and what is left of it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx
import pytest

from graph.budget import BudgetMeter
from graph.kit.auth import Caller
from graph.server.graphql.requests import GraphQLRequest
from persistence.kit.limits.moving_window import MovingWindow
from tests.persistence.limits.test_token_bucket import connected
from tests.support.endpoints import until
from tests.support.service import Service

# A restore rate at which nothing comes back while a test runs, so that figures are exact.
SMALL = {"rate_limits_enabled": True, "budget_points": 1_000, "budget_points_per_second": 0.001, "max_cost": 400}
SPAN = 1_000_000  # Seconds that such a budget takes to be full.

ITEMS = "query ($first: Int) { items(first: $first) { nodes { name owner { username } } } }"
CREATE = 'mutation { createItem(input: {name: "Lamp", price: "1.00"}) { __typename } }'
COUNT = "{ items { totalCount } }"
PAGE = "{ itemsPage { total } }"
REMAINING = "{ rateLimit { remaining } }"
ADDRESS = "ip:127.0.0.1"

with_redis = pytest.mark.parametrize("small", ["postgresql"], indirect=True)


async def restored(service: Service) -> None:
    """Everybody's budget full, and nobody's use counted, once nothing is under way that might still be charged or given back."""
    await until(lambda: not service.requests)
    await service.services.ports[BudgetMeter]._quota.close()
    for port in (service.services.ports[BudgetMeter]._quota, service.services.ports[MovingWindow]):
        for store in (port, getattr(port, "_local", port)):
            for kept in ("_buckets", "_pending_refunds", "_uses"):
                getattr(store, kept, {}).clear()
    if service.settings.redis_url:
        async with connected(service.settings.redis_url) as client:
            await forget(client)


async def forget(redis: Any) -> None:
    if keys := [key async for key in redis.scan_iter("storegraph:*")]:
        await redis.delete(*keys)


def policy(headers: httpx.Headers) -> tuple[str, str]:
    return headers["ratelimit-policy"], headers["ratelimit"]


def left(response: httpx.Response) -> str:
    return response.headers["ratelimit"].split(";")[1]


def cost(answer: dict[str, Any]) -> tuple[int, int]:
    figures = answer["extensions"]["cost"]
    return figures["requested"], figures["actual"]


async def remaining(service: Service, *, token: str | None = None) -> int:
    """What a budget holds, after what the question itself costs."""
    await prepared(service, REMAINING)
    return (await service.ask(REMAINING, token=token))["rateLimit"]["remaining"]


async def known(service: Service, *documents: str, token: str | None = None) -> None:
    """Let the service read documents, which costs extra the first time, and forget that it did."""
    for document in documents:
        if document.startswith("subscription"):
            await prepared(service, document)
        else:
            await service.send(document, token=token)
    await restored(service)


async def prepared(service: Service, document: str) -> None:
    """Let the service read a document at the expense of somebody else."""
    await service.app.state.pipeline.prepare(GraphQLRequest(query=document), Caller(None, "198.51.100.1", ""))


async def keep(service: Service, points: int, caller: str = ADDRESS) -> None:
    """Leave so many points in a budget."""
    meter = service.services.ports[BudgetMeter]
    level = await meter._quota.charge(caller, 0)
    assert (await meter._quota.charge(caller, level.remaining - points)).granted


async def holds(quota: Any, caller: str, points: int) -> None:
    """Wait until a budget holds so much: what is taken for bytes reaches Redis a moment later."""
    async with asyncio.timeout(60):
        while math.floor((await quota.charge(caller, 0)).points) != points:  # noqa: ASYNC110 -- nothing could set an event
            await asyncio.sleep(0.01)
