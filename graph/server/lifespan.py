"""The lifespan of a process: starts what runs beside requests, and ends it in the reverse order.

Shutdown is a stack: what is started last ends first, and a step that fails or hangs keeps no other from being taken. What happens before, to
requests and subscriptions, is in `graceful_shutdown.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette

from graph.server.asgi.protocols.http_protocol import HTTP_CONNECTIONS, HttpConnections
from graph.server.asgi.trusted_proxies import is_trusted, networks
from graph.server.components import Components
from graph.server.graceful_shutdown import ShutdownStack
from graph.server.settings import Settings
from persistence import erasure, files, logins
from persistence.erasure import Erasure
from persistence.kit import idempotency
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.events import log as events
from persistence.kit.jobs.maintenance import Maintenance
from persistence.kit.jobs.queue import JobHandler
from persistence.kit.jobs.runner import JobRunner
from persistence.kit.limits.guess_throttle import GuessThrottle
from persistence.kit.notifications import Notifier
from persistence.kit.tasks.process_pool import ProcessPool
from persistence.purchases import table as purchases

HTTP_PER_SOCKET = 10  # HTTP connections of one network for each WebSocket or event stream that a caller may have.


@asynccontextmanager
async def lifespan(components: Components, _app: Starlette) -> AsyncGenerator[dict[str, Any]]:
    async with ShutdownStack() as stack:
        open_stores(components, stack)
        await start_events(components, stack)
        await start_background_work(components, stack)
        start_monitoring(components, stack)
        stack.step("connections", components.connections.ended)
        await components.pipeline.prepare_trusted()
        start_maintenance(components)
        yield {"shutdown": components.shutdown, HTTP_CONNECTIONS: create_http_connections(components.settings)}


def open_stores(components: Components, stack: ShutdownStack) -> None:
    """They connect by themselves, when they are first used."""
    stores = components.stores
    stack.step("telemetry", components.telemetry.close)
    stack.step("database", stores.database.close)
    if stores.redis:
        stack.step("redis", stores.redis.aclose)
    stack.step("table versions", stores.versions.stop)
    stack.step("budgets", stores.token_bucket.close)


async def start_events(components: Components, stack: ShutdownStack) -> None:
    broker, feed = components.stores.broker, components.stores.feed
    stack.step("broker", broker.stop)
    await broker.start()
    stack.step("event log", feed.stop)
    await feed.start()


async def start_background_work(components: Components, stack: ShutdownStack) -> None:
    supervisor = components.supervisor
    runner = JobRunner(components.stores.database, create_job_handlers(components), supervisor=supervisor)
    stack.step("process pool", components.services.port(ProcessPool).stop)
    stack.step("background tasks", supervisor.stop)
    stack.step("background work", partial(runner.stop, seconds=components.settings.drain_seconds / 10))
    await runner.start()


def create_job_handlers(components: Components) -> dict[str, JobHandler]:
    stores, port = components.stores, components.services.port
    return {
        purchases.PLACED: purchases.PurchaseCompletion(port(Notifier)),
        purchases.CANCELLATION: purchases.PurchaseNotification(port(Notifier)),
        erasure.ERASED: Erasure(stores.database, port(Blobs), port(GuessThrottle), stores.shared_cache),
    }


def start_monitoring(components: Components, stack: ShutdownStack) -> None:
    stack.step("monitoring", components.monitoring.stop)
    components.monitoring.start()


def start_maintenance(components: Components) -> None:
    """Tasks that run from time to time, for as long as the process lives; the step "background tasks" ends them."""
    stores, supervisor = components.stores, components.supervisor
    prune_tasks = {
        "events": partial(events.prune, history=components.settings.event_history),
        "idempotency keys": idempotency.prune,
        "logins": logins.prune,
    }
    supervisor.start("connections", components.connections.watch)
    supervisor.start("file sweep", partial(files.sweep_forever, stores.database, stores.blobs))
    supervisor.start("maintenance", Maintenance(stores.database, prune_tasks).run_forever)


def create_http_connections(settings: Settings) -> HttpConnections:
    """Browsers open six of a site; behind one address there may be many of them, and programs that keep a pool."""
    trusted = networks(settings.trusted_proxies)
    return HttpConnections(HTTP_PER_SOCKET * settings.connections_per_caller, partial(is_trusted, trusted=trusted))
