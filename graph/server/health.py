"""For supervisors and proxies: `/live` touches nothing, `/ready` says whether to send requests here, `/api/v2/health` tells how the parts are."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.health import Health
from graph.kit.context import Services
from graph.server.rest import answer
from persistence import condition


class HealthRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services
        self.routes = [Route("/live", self.live), Route("/ready", self.ready), Route("/api/v2/health", self.ready)]

    async def live(self, request: Request) -> Response:
        return answer({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """503 when requests would fail."""
        found = await condition.of(self._services.database)
        told = {"status": Health.of(found).status.value, "database": found.database, "migrated": found.migrated}
        return answer(told, HTTPStatus.OK if found.is_good else HTTPStatus.SERVICE_UNAVAILABLE)
