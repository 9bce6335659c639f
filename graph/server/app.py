"""The composition root: creates every service, orders the middleware, and registers the routes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from graph.budget import BudgetMeter
from graph.kit.auth import AccessTokens
from graph.kit.context import Services
from graph.kit.execution.engine import Engine
from graph.kit.limits.route_rate_limiter import RouteRateLimiter
from graph.kit.planner.planner import Planner
from graph.kit.process_pool import ProcessPool
from graph.schema import executable, schema
from graph.server.asgi.compression import Compression
from graph.server.asgi.http_protocol import HTTP_CONNECTIONS, HttpConnections
from graph.server.asgi.middleware import CorsShortcut, PathShortcut, PlainStarlette
from graph.server.asgi.origins import Origins
from graph.server.asgi.response_headers import ResponseHeadersMiddleware
from graph.server.asgi.trusted_proxies import TrustedProxies, is_trusted, networks
from graph.server.auth.callers import Callers
from graph.server.auth.tokens import Tokens
from graph.server.graceful_shutdown import GracefulShutdown, ShutdownMiddleware, ShutdownStack
from graph.server.graphql.budget import BudgetService
from graph.server.graphql.connection_registry import ConnectionRegistry
from graph.server.graphql.http import METHODS, HttpEndpoint
from graph.server.graphql.persisted_documents import PersistedDocuments, TrustedDocuments
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.response_cache import ResponseCache
from graph.server.graphql.response_replay import ResponseReplay
from graph.server.graphql.sse import EventStreams
from graph.server.graphql.websocket import SocketEndpoint, SocketLimits
from graph.server.pages.docs import DocsPages
from graph.server.pages.explorer import STYLES, Explorer
from graph.server.pages.home import HomePage
from graph.server.pages.shop import ShopPage
from graph.server.rest import exports
from graph.server.rest.files import FileRoutes
from graph.server.rest.health import HealthRoutes
from graph.server.rest.imports import ImportRoutes
from graph.server.rest.routes import Routes, UnroutedResponse, metered
from graph.server.rest.sales_report import SalesReportRoutes
from graph.server.settings import Settings
from graph.server.telemetry.endpoint import MetricsEndpoint
from graph.server.telemetry.logs import OperationLog
from graph.server.telemetry.metrics import Metrics
from graph.server.telemetry.telemetry import Telemetry
from graph.users.mutations import SignupPolicy
from persistence import erasure, files, logins
from persistence.erasure import Erasure
from persistence.health_checks import HealthChecks
from persistence.items import sources
from persistence.kit import idempotency
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.blobs.by_url import open_blobs
from persistence.kit.cache.store import SharedCache
from persistence.kit.cache.table_versions import TableVersions, table_versions_for
from persistence.kit.database.database import Database
from persistence.kit.database.replica import SharedPositions
from persistence.kit.events import log as events
from persistence.kit.events.broker import Broker, LocalBroker
from persistence.kit.events.feed import Feed
from persistence.kit.events.redis_broker import RedisBroker
from persistence.kit.finding.facet_cache import FacetCache
from persistence.kit.jobs.maintenance import Maintenance
from persistence.kit.jobs.queue import Handler
from persistence.kit.jobs.runner import JobRunner
from persistence.kit.limits.guess_throttle import GuessThrottle
from persistence.kit.limits.moving_window import MovingWindow, moving_window
from persistence.kit.limits.token_bucket import LocalTokenBucket, SharedTokenBucket, TokenBucket
from persistence.kit.notifications import LogNotifier, Notifier
from persistence.kit.redis.client import Redis, connect
from persistence.kit.tasks.supervisor import Supervisor
from persistence.purchases import table as purchases

HTTP_PER_SOCKET = 10  # HTTP connections of one network for each WebSocket or event stream that a caller may have.


def create_app(settings: Settings, replaced: Mapping[type[Any], Any] | None = None) -> Starlette:
    """`replaced` puts other ports in the place of the service's own."""
    metrics = Metrics(settings.metrics_folder)
    supervisor = Supervisor(restarted=lambda task: metrics.restarts.add(1, task))
    stores = Stores.of(settings, supervisor)
    telemetry = create_telemetry(stores.database, settings, metrics)
    tokens = Tokens(stores.database, settings.signing_key, settings.older_keys)
    connections = ConnectionRegistry(tokens, per_caller=settings.connections_per_caller)
    checks = HealthChecks(
        stores.database, stores.blobs, stores.redis, draining=lambda: connections.draining, failing=lambda: supervisor.failing
    )
    engine = Engine(
        executable, telemetry, suggestions=settings.suggestions, introspection=settings.introspection, fast=settings.fast_path_enabled
    )
    limits = BudgetService(engine, stores.quota, max_cost=settings.max_cost, enabled=settings.rate_limits_enabled)
    ports = create_ports(settings, stores, tokens, limits, checks) | dict(replaced or {})
    services = Services(stores.database, stores.feed, stores.broker, telemetry, ports)
    pipeline = create_pipeline(settings, stores, services, engine, limits, telemetry)
    monitoring = MetricsEndpoint(metrics, services, supervisor, token=settings.metrics_token)
    shutdown = GracefulShutdown(stores.feed, connections, seconds=settings.drain_seconds)
    parts = Parts(settings, stores, services, supervisor, telemetry, tokens, connections, limits, pipeline, monitoring, shutdown)
    explorer = Explorer() if settings.explorer else None
    http = create_http_endpoint(parts, explorer)
    app = PlainStarlette(
        routes=create_routes(parts, http, checks, explorer),
        middleware=create_middleware(parts, http),
        exception_handlers={HTTPException: UnroutedResponse(limits)},
        lifespan=partial(lifespan, parts),
    )
    app.state.services, app.state.tokens, app.state.connections, app.state.pipeline = services, tokens, connections, pipeline
    return app


@dataclass(frozen=True)
class Stores:
    """Where things are kept, and how processes hear of each other."""

    redis: Redis | None
    database: Database
    broker: Broker
    feed: Feed
    blobs: Blobs
    versions: TableVersions
    quota: TokenBucket

    @classmethod
    def of(cls, settings: Settings, supervisor: Supervisor) -> Stores:
        redis = connect(settings.redis_url) if settings.redis_url else None
        database = Database.connect(
            settings.database_url,
            replica_url=settings.database_replica_url,
            pool=settings.pool,
            positions=SharedPositions(redis) if redis else None,
        )
        broker = RedisBroker(settings.redis_url, settings.database_url, supervisor) if settings.redis_url else LocalBroker()
        return cls(
            redis,
            database,
            broker,
            Feed(database, broker, supervisor),
            open_blobs(settings.files_url, call_seconds=settings.blob_timeout_seconds),
            table_versions_for(database, redis, settings.database_url),
            SharedTokenBucket(redis, settings.budget) if redis else LocalTokenBucket(settings.budget),
        )


@dataclass(frozen=True)
class Parts:
    """What routes, middleware and the lifespan are made of."""

    settings: Settings
    stores: Stores
    services: Services
    supervisor: Supervisor
    telemetry: Telemetry
    tokens: Tokens
    connections: ConnectionRegistry
    limits: BudgetService
    pipeline: Pipeline
    monitoring: MetricsEndpoint
    shutdown: GracefulShutdown

    @property
    def keeps_responses(self) -> bool:
        return keeps_responses(self.settings)


def keeps_responses(settings: Settings) -> bool:
    """What a replica answers may be older than the versions under which it would be kept."""
    return settings.response_cache_enabled and settings.database_replica_url is None


def create_ports(settings: Settings, stores: Stores, tokens: Tokens, limits: BudgetService, checks: HealthChecks) -> dict[type[Any], Any]:
    return {
        AccessTokens: tokens,
        Blobs: stores.blobs,
        ProcessPool: ProcessPool(),
        BudgetMeter: limits,
        Notifier: LogNotifier(),
        SignupPolicy: SignupPolicy(settings.scopes_at_signup),
        HealthChecks: checks,
        MovingWindow: moving_window(stores.redis, enabled=settings.rate_limits_enabled),
        FacetCache: FacetCache(stores.versions if keeps_responses(settings) else None),
        GuessThrottle: GuessThrottle(stores.redis, enabled=settings.rate_limits_enabled),
        sources.PriceSource: sources.TablePrices(stores.database),
        sources.InventorySource: sources.TableInventory(stores.database),
    }


def create_pipeline(
    settings: Settings, stores: Stores, services: Services, engine: Engine, limits: BudgetService, telemetry: Telemetry
) -> Pipeline:
    cache = shared_cache(stores)
    documents = PersistedDocuments(
        TrustedDocuments.read(settings.documents_manifest),
        mode=settings.documents_mode,
        mode_by_client=settings.documents_mode_by_client,
        shared=cache,
    )
    responses = ResponseCache(stores.versions, telemetry.metrics.cache, shared=cache, edition=schema.as_str())
    return Pipeline(
        engine,
        services,
        documents,
        limits,
        telemetry,
        planner=Planner(schema, engine, services) if settings.fast_path_enabled else None,
        responses=responses if keeps_responses(settings) else None,
        seconds=settings.operation_timeout_seconds,
    )


def shared_cache(stores: Stores) -> SharedCache | None:
    return SharedCache(stores.redis, "storegraph:cache") if stores.redis else None


def create_routes(parts: Parts, http: HttpEndpoint, checks: HealthChecks, explorer: Explorer | None) -> list[Route]:
    settings = parts.settings
    throttle = RouteRateLimiter(settings.redis_url, enabled=settings.rate_limits_enabled)
    callers, origins, seconds = Callers(parts.tokens, parts.limits), Origins(settings.allowed_origins), settings.operation_timeout_seconds
    rest_routes = Routes(parts.services, callers, origins, throttle, parts.limits, seconds=seconds)
    return [
        Route("/graphql", http),  # Only for its redirect of `/graphql/`.
        Route("/metrics", parts.monitoring.scrape),
        *FileRoutes(parts.stores.blobs, most_bytes=settings.max_upload_bytes, quota_bytes=settings.upload_quota_bytes).routes(rest_routes),
        *exports.routes(rest_routes),
        *ImportRoutes(most_bytes=settings.max_upload_bytes).routes(rest_routes),
        *SalesReportRoutes(settings.app_name).routes(rest_routes),
        *HealthRoutes(checks, limited=settings.rate_limits_enabled).routes,
        *(metered(route, parts.limits) for route in pages(settings, explorer)),
    ]


def create_http_endpoint(parts: Parts, explorer: Explorer | None) -> HttpEndpoint:
    seconds = parts.settings.operation_timeout_seconds
    streams = EventStreams(parts.pipeline, parts.connections, seconds=seconds)
    callers, origins = Callers(parts.tokens, parts.limits), Origins(parts.settings.allowed_origins)
    return HttpEndpoint(parts.pipeline, callers, origins, streams, page=explorer.page if explorer else None, seconds=seconds)


def create_socket_endpoint(parts: Parts) -> SocketEndpoint:
    callers, origins = Callers(parts.tokens, parts.limits), Origins(parts.settings.allowed_origins)
    limits = SocketLimits(operation_seconds=parts.settings.operation_timeout_seconds)
    return SocketEndpoint(parts.pipeline, callers, origins, parts.connections, limits=limits)


def create_middleware(parts: Parts, http: HttpEndpoint) -> list[Middleware]:
    """In the order in which requests pass."""
    settings, socket = parts.settings, create_socket_endpoint(parts)
    seconds, callers = settings.operation_timeout_seconds, Callers(parts.tokens, parts.limits)
    repeats = Middleware(ResponseReplay, path="/graphql", pipeline=parts.pipeline, callers=callers, seconds=seconds)
    return [
        *([Middleware(TrustedProxies, trusted=networks(settings.trusted_proxies))] if settings.trusted_proxies else ()),
        Middleware(ResponseHeadersMiddleware),
        Middleware(ShutdownMiddleware, shutdown=parts.shutdown),
        *parts.telemetry.middleware,
        Middleware(PathShortcut, path="/graphql", endpoint=socket, kind="websocket"),
        *([repeats] if parts.keeps_responses else ()),
        Middleware(PathShortcut, path="/graphql", endpoint=http, plain=True),
        Middleware(Compression),
        Middleware(CorsShortcut, allow_origins=settings.allowed_origins, allow_methods=METHODS, allow_headers=["*"], max_age=600),
        Middleware(PathShortcut, path="/graphql", endpoint=http),
    ]


@asynccontextmanager
async def lifespan(parts: Parts, _app: Starlette) -> AsyncGenerator[dict[str, Any]]:
    """Starts what runs beside requests. What is started last ends first, and nothing keeps the rest from ending."""
    stores, supervisor, ports = parts.stores, parts.supervisor, parts.services.ports
    runner = JobRunner(stores.database, create_job_handlers(parts), supervisor=supervisor)
    async with ShutdownStack() as stack:
        stack.step("telemetry", parts.telemetry.close)
        stack.step("database", stores.database.close)
        if stores.redis:
            stack.step("redis", stores.redis.aclose)
        stack.step("table versions", stores.versions.stop)
        stack.step("budgets", stores.quota.close)
        stack.step("broker", stores.broker.stop)
        await stores.broker.start()
        stack.step("event log", stores.feed.stop)
        await stores.feed.start()
        stack.step("process pool", ports[ProcessPool].stop)
        stack.step("background tasks", supervisor.stop)
        stack.step("background work", partial(runner.stop, seconds=parts.settings.drain_seconds / 10))
        await runner.start()
        stack.step("monitoring", parts.monitoring.stop)
        parts.monitoring.start()
        stack.step("connections", parts.connections.ended)
        await parts.pipeline.prepare_trusted()
        watch_over(parts)
        yield {"shutdown": parts.shutdown, HTTP_CONNECTIONS: create_http_connections(parts.settings)}


def create_http_connections(settings: Settings) -> HttpConnections:
    """Browsers open six of a site; behind one address there may be many of them, and programs that keep a pool."""
    trusted = networks(settings.trusted_proxies)
    return HttpConnections(HTTP_PER_SOCKET * settings.connections_per_caller, partial(is_trusted, trusted=trusted))


def create_job_handlers(parts: Parts) -> dict[str, Handler]:
    stores, ports = parts.stores, parts.services.ports
    return {
        purchases.PLACED: purchases.Completion(ports[Notifier]),
        purchases.CANCELLATION: purchases.Notice(ports[Notifier]),
        erasure.ERASED: Erasure(stores.database, ports[Blobs], ports[GuessThrottle], shared_cache(stores)),
    }


def watch_over(parts: Parts) -> None:
    """What is done now and then, for as long as the process lives."""
    stores, supervisor = parts.stores, parts.supervisor
    prune_tasks = {
        "events": partial(events.prune, history=parts.settings.event_history),
        "idempotency keys": idempotency.prune,
        "logins": logins.prune,
    }
    supervisor.start("connections", parts.connections.watch)
    supervisor.start("file sweep", partial(files.sweep_forever, stores.database, stores.blobs))
    supervisor.start("maintenance", Maintenance(stores.database, prune_tasks).run_forever)


def pages(settings: Settings, explorer: Explorer | None) -> list[Route]:
    """What is for people."""
    # The explorer reads the schema there where introspection is off.
    sdl = schema.as_str() if settings.introspection or explorer else None
    landing = HomePage(settings.app_name, sdl, explorer=explorer is not None, shop=settings.debug)
    shop = ShopPage(settings.app_name) if settings.debug else None
    return [*landing.routes, *STYLES, *(explorer.routes if explorer else ()), *(shop.routes if shop else ()), *DocsPages().routes]


def create_telemetry(database: Database, settings: Settings, metrics: Metrics) -> Telemetry:
    log = OperationLog(settings)
    if settings.otel_exporter_otlp_endpoint is None:
        return Telemetry(metrics, log)
    from graph.server.telemetry.tracing import Tracing

    tracing = Tracing(metrics, log, endpoint=settings.otel_exporter_otlp_endpoint, service=settings.app_name.lower())
    database.watch(tracing.statement)
    return tracing
