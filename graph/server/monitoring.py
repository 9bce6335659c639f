"""`/metrics` for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import Response

from graph.kit.context import Services
from graph.server.metrics import Metrics

SHARE_SECONDS = 2.0  # How far behind a sibling's numbers may be when another process is asked.


class Monitoring:
    def __init__(self, metrics: Metrics, services: Services) -> None:
        self._metrics, self._services = metrics, services

    async def scrape(self, request: Request) -> Response:
        await self._read()
        body, content_type = self._metrics.text(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Leaves this process's numbers where its siblings find them."""
        task = asyncio.create_task(self._share())
        yield
        task.cancel()
        self._metrics.share()

    async def _share(self) -> None:
        while True:
            self._count_connections()
            self._metrics.share()
            await asyncio.sleep(SHARE_SECONDS)

    async def _read(self) -> None:
        self._count_connections()
        self._metrics.event_lag.set(self._services.feed.held_back_seconds)

    def _count_connections(self) -> None:
        for pool, use in self._services.database.pools().items():
            self._metrics.connections.set(use.busy, pool, "busy")
            self._metrics.connections.set(use.idle, pool, "idle")
            self._metrics.connections.set(use.most, pool, "most")
