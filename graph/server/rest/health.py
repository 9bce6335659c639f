"""Health routes: `/live` touches nothing, `/ready` says whether to send requests here, `/api/v2/health` reports each dependency.

A probe is always answered, also when its address asks far too often, as a flood from there must not take the service out of its balancer. What is
over the rate is held up instead: a connection that waits asks nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.health import Health
from graph.kit.auth import network
from graph.server.asgi.error_responses import PRIVATE, json_response
from graph.server.graphql.budget import HELD_SECONDS
from graph.server.representations.representation import Representation
from persistence.health_checks import HealthChecks
from persistence.kit.limits.token_bucket import Budget, LocalTokenBucket

# By network and process: a probe each second from each of a hundred balancers, and answers cost a fifth of a millisecond. Not of the caller's budget,
# which may be used up or in a Redis that is away. What is over waits for less than probes do.
PROBES = Budget(capacity=200, per_second=100)


class HealthRoutes:
    def __init__(self, checks: HealthChecks, *, limited: bool = True) -> None:
        self._health_checks, self._limited, self._probes = checks, limited, LocalTokenBucket(PROBES)
        self.routes = [Route("/live", self.live), Route("/ready", self.ready), Route("/api/v2/health", self.ready)]

    async def live(self, request: Request) -> Response:
        await self._slow_down(request)
        return _represented({"status": "ok"}).respond(request)

    async def ready(self, request: Request) -> Response:
        """503 when requests would fail or should go to another process; 200 when degraded."""
        await self._slow_down(request)
        found = await self._health_checks.run()
        report = {name: value for name, value in vars(Health.of(found)).items() if name != "failing" or value}
        report["status"] = Health.of(found).status.value
        return _represented(report).respond(request) if found.ready else json_response(report, HTTPStatus.SERVICE_UNAVAILABLE)

    async def _slow_down(self, request: Request) -> None:
        if self._limited:
            address = request.client.host if request.client else ""
            if not (await self._probes.charge(network(address), 1)).granted:
                await asyncio.sleep(HELD_SECONDS)


def _represented(report: Mapping[str, Any]) -> Representation:
    return Representation(orjson.dumps(report), "application/json", PRIVATE)
