"""The one composition root: what is made at start, in what order requests pass, and which route answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from graph.budget import Meter
from graph.kit.auth import AccessTokens
from graph.kit.context import Services
from graph.kit.execution.engine import Engine
from graph.kit.planner.planner import Planner
from graph.kit.process_pool import Computing
from graph.schema import executable, schema
from graph.server.asgi.compression import Compression
from graph.server.asgi.graceful_shutdown import Departure, Farewell
from graph.server.asgi.middleware import Application, Cors, Direct
from graph.server.asgi.origins import Origins
from graph.server.asgi.response_headers import Envelope
from graph.server.asgi.trusted_proxies import TrustedProxies, networks
from graph.server.auth.callers import Callers
from graph.server.auth.tokens import Tokens
from graph.server.graphql.budget import Limits
from graph.server.graphql.connection_registry import Connections
from graph.server.graphql.http import METHODS, HttpEndpoint
from graph.server.graphql.persisted_documents import Documents, Trusted
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.response_cache import Responses
from graph.server.graphql.response_replay import Repeats
from graph.server.graphql.sse import EventStreams
from graph.server.graphql.websocket import SocketEndpoint
from graph.server.pages.docs import Docs
from graph.server.pages.explorer import STYLES, Explorer
from graph.server.pages.home import Landing
from graph.server.rest import exports
from graph.server.rest.files import FileRoutes
from graph.server.rest.health import HealthRoutes
from graph.server.rest.rate_limiter import Throttle
from graph.server.rest.routes import Shims, not_served
from graph.server.settings import Settings
from graph.server.telemetry.endpoint import Monitoring
from graph.server.telemetry.logs import OperationLog
from graph.server.telemetry.metrics import Metrics
from graph.server.telemetry.telemetry import Telemetry
from graph.users.mutations import SignupPolicy
from persistence import files, logins
from persistence.health_checks import Vitals
from persistence.items import sources
from persistence.kit import idempotency
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.blobs.by_url import blobs_at
from persistence.kit.cache.store import SharedCache
from persistence.kit.cache.table_versions import followed
from persistence.kit.database.database import Database
from persistence.kit.database.replica import SharedPositions
from persistence.kit.events import log as events
from persistence.kit.events.broker import LocalBroker
from persistence.kit.events.feed import Feed
from persistence.kit.events.redis_broker import RedisBroker
from persistence.kit.jobs.maintenance import Upkeep
from persistence.kit.jobs.runner import Runner
from persistence.kit.limits.moving_window import Windows, windows
from persistence.kit.limits.token_bucket import LocalQuota, SharedQuota
from persistence.kit.notifications import LogNotifier, Notifier
from persistence.kit.redis.client import connect
from persistence.purchases import table as purchases


def create_app(settings: Settings, replaced: Mapping[type[Any], Any] | None = None) -> Starlette:
    """`replaced` puts other ports in the place of the service's own."""
    redis = connect(settings.redis_url) if settings.redis_url else None
    database = Database.connect(
        settings.database_url,
        replica_url=settings.database_replica_url,
        pool=settings.pool,
        positions=SharedPositions(redis) if redis else None,
    )
    broker = RedisBroker(settings.redis_url, settings.database_url) if settings.redis_url else LocalBroker()
    feed = Feed(database, broker)
    telemetry = observed(database, settings)
    tokens = Tokens(database, settings.signing_key, settings.older_keys)
    blobs = blobs_at(settings.files_url)
    upkeep = Upkeep(
        database,
        {
            "events": partial(events.prune, history=settings.event_history),
            "idempotency keys": idempotency.prune,
            "logins": logins.prune,
        },
    )
    engine = Engine(
        executable, telemetry, suggestions=settings.suggestions, introspection=settings.introspection, fast=settings.fast_path_enabled
    )
    cache = SharedCache(redis, "storegraph:cache") if redis else None
    versions = followed(database, redis, settings.database_url)
    quota = SharedQuota(redis, settings.budget) if redis else LocalQuota(settings.budget)
    limits = Limits(engine, quota, max_cost=settings.max_cost, enabled=settings.rate_limits_enabled)
    vitals = Vitals(database, blobs, redis, draining=lambda: connections.draining)
    ports: dict[type[Any], Any] = {
        AccessTokens: tokens,
        Blobs: blobs,
        Computing: Computing(),
        Meter: limits,
        Notifier: LogNotifier(),
        SignupPolicy: SignupPolicy(settings.scopes_at_signup),
        Vitals: vitals,
        Windows: windows(redis, enabled=settings.rate_limits_enabled),
        sources.PriceSource: sources.TablePrices(database),
        sources.InventorySource: sources.TableInventory(database),
    }
    services = Services(database, feed, broker, telemetry, ports | dict(replaced or {}))
    runner = Runner(database, {purchases.PLACED: purchases.Completion(services.ports[Notifier])})
    # What a replica answers may be older than the versions under which it would be kept.
    keeps = settings.response_cache_enabled and settings.database_replica_url is None
    pipeline = Pipeline(
        engine,
        services,
        Documents(
            Trusted.read(settings.documents_manifest),
            mode=settings.documents_mode,
            mode_by_client=settings.documents_mode_by_client,
            shared=cache,
        ),
        limits,
        telemetry,
        planner=Planner(schema, engine, services) if settings.fast_path_enabled else None,
        responses=Responses(versions, telemetry.metrics.cache, shared=cache, edition=schema.as_str()) if keeps else None,
    )
    monitoring = Monitoring(telemetry.metrics, services, token=settings.metrics_token)
    callers, origins = Callers(tokens), Origins(settings.allowed_origins)
    connections = Connections(tokens, per_caller=settings.connections_per_caller)
    departure = Departure(feed, connections, seconds=settings.drain_seconds)
    explorer = Explorer() if settings.explorer else None
    http = HttpEndpoint(pipeline, callers, origins, EventStreams(pipeline, connections), page=explorer.page if explorer else None)
    socket = SocketEndpoint(pipeline, callers, origins, connections)
    shims = Shims(services, callers, origins, Throttle(settings.redis_url, enabled=settings.rate_limits_enabled), limits)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[dict[str, Any]]:
        await broker.start()
        await feed.start()
        await runner.start()
        forever = (connections.watch(), files.keep_swept(database, blobs), upkeep.keep())
        tasks = [asyncio.create_task(each) for each in forever]
        await pipeline.prepare_trusted()
        async with monitoring.running():
            yield {"departure": departure}
        for task in tasks:
            task.cancel()
        await runner.stop(seconds=settings.drain_seconds / 10)
        await services.ports[Computing].stop()
        await feed.stop()
        await broker.stop()
        await quota.close()
        await versions.stop()
        if redis:
            await redis.aclose()
        await database.close()
        await telemetry.close()

    app = Application(
        routes=[
            Route("/graphql", http),  # Only for its redirect of `/graphql/`.
            Route("/metrics", monitoring.scrape),
            *FileRoutes(blobs, most_bytes=settings.max_upload_bytes).routes(shims),
            *exports.routes(shims),
            *HealthRoutes(vitals).routes,
            *pages(settings, explorer),
        ],
        middleware=[
            *([Middleware(TrustedProxies, trusted=networks(settings.trusted_proxies))] if settings.trusted_proxies else ()),
            Middleware(Envelope),
            Middleware(Farewell, departure=departure),
            *telemetry.middleware,
            Middleware(Direct, path="/graphql", endpoint=socket, kind="websocket"),
            *([Middleware(Repeats, path="/graphql", pipeline=pipeline, callers=callers)] if keeps else ()),
            Middleware(Direct, path="/graphql", endpoint=http, plain=True),
            Middleware(Compression),
            Middleware(Cors, allow_origins=settings.allowed_origins, allow_methods=METHODS, allow_headers=["*"], max_age=600),
            Middleware(Direct, path="/graphql", endpoint=http),
        ],
        exception_handlers={HTTPException: not_served},
        lifespan=lifespan,
    )
    app.state.services, app.state.tokens, app.state.connections, app.state.pipeline = services, tokens, connections, pipeline
    return app


def pages(settings: Settings, explorer: Explorer | None) -> list[Route]:
    """What is for people."""
    # The explorer reads the schema there where introspection is off.
    sdl = schema.as_str() if settings.introspection or explorer else None
    landing = Landing(settings.app_name, sdl, explorer=explorer is not None)
    return [*landing.routes, *STYLES, *(explorer.routes if explorer else ()), *Docs().routes]


def observed(database: Database, settings: Settings) -> Telemetry:
    metrics, log = Metrics(settings.metrics_folder), OperationLog(settings)
    if settings.otel_exporter_otlp_endpoint is None:
        return Telemetry(metrics, log)
    from graph.server.telemetry.tracing import Tracing

    tracing = Tracing(metrics, log, endpoint=settings.otel_exporter_otlp_endpoint, service=settings.app_name.lower())
    database.watch(tracing.statement)
    return tracing
