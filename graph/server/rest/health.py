"""For supervisors and proxies: `/live` touches nothing, `/ready` says whether to send requests here, `/api/v2/health` tells how the parts are."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.health import Health
from graph.server.asgi.error_responses import answer
from persistence.health_checks import Vitals


class HealthRoutes:
    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self.routes = [Route("/live", self.live), Route("/ready", self.ready), Route("/api/v2/health", self.ready)]

    async def live(self, request: Request) -> Response:
        return answer({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """503 when requests would fail or should go to another process; 200 when degraded."""
        found = await self._vitals.look()
        told = {name: value for name, value in vars(Health.of(found)).items() if name != "failing" or value}
        told["status"] = Health.of(found).status.value
        return answer(told, HTTPStatus.OK if found.serves else HTTPStatus.SERVICE_UNAVAILABLE)
