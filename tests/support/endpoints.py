"""The endpoints of the wire with limits of a test's own, over the same pipeline and database as the service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from graph.budget import BudgetMeter
from graph.server.asgi.origins import Origins
from graph.server.auth.callers import Callers
from graph.server.graphql.http import HttpEndpoint
from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry
from graph.server.graphql.subscriptions.sse import EventStreams
from graph.server.graphql.subscriptions.websocket import SocketEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from graph.server.graphql.pipeline import Pipeline
    from tests.support.service import Service


class Wire:
    def __init__(self, service: Service, *, per_caller: int = 100) -> None:
        self.pipeline: Pipeline = service.app.state.pipeline
        self.connections = ConnectionRegistry(service.tokens, per_caller=per_caller)
        self._callers, self._origins = Callers(service.tokens, service.services.ports[BudgetMeter]), Origins([])

    def http(self, pipeline: Any = None, **options: Any) -> HttpEndpoint:
        used = pipeline or self.pipeline
        return HttpEndpoint(used, self._callers, self._origins, EventStreams(used, self.connections), **options)

    def socket(self, **options: Any) -> SocketEndpoint:
        return SocketEndpoint(self.pipeline, self._callers, self._origins, self.connections, **options)


LATE_SECONDS = 2.5  # How much later something may happen on a machine that has too much to do.


async def until(condition: Callable[[], bool]) -> None:
    """For what the other side does without a word to us."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- nothing could set an event
            await asyncio.sleep(0.01)


def stop_reading(writer: asyncio.StreamWriter) -> None:
    """From now on what this client is sent stays on its way."""
    cast("asyncio.Transport", writer.transport).pause_reading()


def go_on_reading(writer: asyncio.StreamWriter) -> None:
    cast("asyncio.Transport", writer.transport).resume_reading()
