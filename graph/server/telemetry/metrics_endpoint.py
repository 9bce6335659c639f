"""The `/metrics` endpoint for Prometheus, and the background work that keeps its figures right in every process.

Its figures show the shop's business, so it is not public: with METRICS_TOKEN set, it requires that as a bearer token; without it, the client must have
a private address and come through no proxy, as a scraper on the same network does.
"""

from __future__ import annotations

import asyncio
import hmac
from ipaddress import ip_address

import structlog
from starlette.requests import Request
from starlette.responses import Response

from graph.kit.context import Services
from graph.kit.errors import FORBIDDEN
from graph.server.asgi.error_responses import error_response
from graph.server.asgi.request_headers import headers_of, text
from graph.server.representations.representation import Representation
from graph.server.telemetry.deprecated_usage import DeprecatedUsageRecorder
from graph.server.telemetry.metrics import Metrics
from persistence.kit.jobs import queue as jobs
from persistence.kit.tasks.supervisor import SupervisedTask, Supervisor

log = structlog.get_logger(__name__)

SNAPSHOT_SECONDS = 2.0  # How far behind a sibling's numbers may be when another process is asked.
FLUSH_TICKS = 5  # Deprecated uses are kept after so many shares.
ANSWER_SECONDS = 2.0  # A scrape does not wait longer for the database: the other numbers are worth having just then.


class MetricsEndpoint:
    def __init__(self, metrics: Metrics, services: Services, supervisor: Supervisor, *, token: str | None) -> None:
        self._metrics, self._services, self._supervisor, self._token = metrics, services, supervisor, token
        self._recorder = DeprecatedUsageRecorder(metrics.deprecated, services.database)
        self._task: SupervisedTask | None = None

    async def scrape(self, request: Request) -> Response:
        if not self._may_ask(request):
            return error_response(FORBIDDEN, "The metrics are for this service's own monitoring.", request.url.path)
        self._look()
        await self._read_tables()
        body, content_type = self._metrics.text(text(headers_of(request.scope), b"accept"))
        return Representation(body, content_type, {"Cache-Control": "no-store", "Vary": "Accept"}).respond(request)

    def start(self) -> None:
        self._task = self._supervisor.start("monitoring", self._tick)

    async def stop(self) -> None:
        """Leave the last numbers."""
        if self._task:
            await self._task.stop()
        self._metrics.write_snapshot()
        await self._recorder.flush()

    def _may_ask(self, request: Request) -> bool:
        headers = headers_of(request.scope)
        if self._token is not None:
            return hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {self._token}".encode())
        through_a_proxy = b"x-forwarded-for" in headers or b"forwarded" in headers
        return not through_a_proxy and request.client is not None and _is_private(request.client.host)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            self._look()
            self._metrics.write_snapshot()
            ticks += 1
            if ticks % FLUSH_TICKS == 0:
                await self._recorder.flush()
            await asyncio.sleep(SNAPSHOT_SECONDS)

    async def _read_tables(self) -> None:
        self._metrics.event_lag.set(self._services.feed.held_back_seconds)
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._services.database.reading() as session:
                backlog = await jobs.backlog(session)
        except Exception as error:  # noqa: BLE001 -- whatever keeps it from answering, the scrape says so and goes on
            log.warning("the database does not answer a scrape", error=repr(error))
            self._metrics.database_up.set(0)
            return
        self._metrics.database_up.set(1)
        self._metrics.jobs.set(backlog.waiting, "waiting")
        self._metrics.jobs.set(backlog.parked, "parked")
        self._metrics.oldest_job.set(backlog.oldest_seconds)

    def _look(self) -> None:
        failing = self._supervisor.failing
        for name in self._supervisor.names:
            self._metrics.failing.set(name in failing, name)
        for pool, use in self._services.database.pools().items():
            self._metrics.connections.set(use.busy, pool, "busy")
            self._metrics.connections.set(use.idle, pool, "idle")
            self._metrics.connections.set(use.most, pool, "most")


def _is_private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
