"""The service's components: what `create_app` composes, created once for each process, in the order in which they depend on each other.

Routes, middleware and the lifespan take what they need from here, so that no component is created twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graph.budget import BudgetMeter
from graph.kit.auth import AccessTokens
from graph.kit.context import Services
from graph.kit.execution.engine import Engine
from graph.kit.planner.planner import Planner
from graph.schema import executable, schema
from graph.server.asgi.origins import Origins
from graph.server.auth.callers import Callers
from graph.server.auth.tokens import Tokens
from graph.server.graceful_shutdown import GracefulShutdown
from graph.server.graphql.budget import BudgetService
from graph.server.graphql.persisted_documents import PersistedDocuments, TrustedDocuments
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.response_cache import ResponseCache
from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry
from graph.server.settings import Settings
from graph.server.telemetry.logs import OperationLog
from graph.server.telemetry.metrics import Metrics
from graph.server.telemetry.metrics_endpoint import MetricsEndpoint
from graph.server.telemetry.telemetry import Telemetry
from graph.users.mutations import SignupPolicy
from persistence.health_checks import HealthChecks
from persistence.items import sources
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.blobs.by_url import open_blobs
from persistence.kit.cache.store import SharedCache
from persistence.kit.cache.table_versions import TableVersions, table_versions_for
from persistence.kit.database.database import Database
from persistence.kit.database.replica import SharedPositions
from persistence.kit.events.broker import Broker, LocalBroker
from persistence.kit.events.feed import Feed
from persistence.kit.events.redis_broker import RedisBroker
from persistence.kit.finding.facet_cache import FacetCache
from persistence.kit.limits.guess_throttle import GuessThrottle
from persistence.kit.limits.moving_window import MovingWindow, moving_window
from persistence.kit.limits.token_bucket import LocalTokenBucket, SharedTokenBucket, TokenBucket
from persistence.kit.notifications import LogNotifier, Notifier
from persistence.kit.redis.client import Redis, connect
from persistence.kit.tasks.process_pool import ProcessPool
from persistence.kit.tasks.supervisor import Supervisor


@dataclass(frozen=True)
class Stores:
    """Where data is kept, and how processes notify each other."""

    redis: Redis | None
    database: Database
    broker: Broker
    feed: Feed
    blobs: Blobs
    versions: TableVersions
    token_bucket: TokenBucket
    shared_cache: SharedCache | None

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
            SharedCache(redis, "storegraph:cache") if redis else None,
        )


@dataclass(frozen=True)
class Components:
    """What routes, middleware and the lifespan are composed of."""

    settings: Settings
    stores: Stores
    services: Services
    supervisor: Supervisor
    telemetry: Telemetry
    tokens: Tokens
    callers: Callers
    origins: Origins
    connections: ConnectionRegistry
    checks: HealthChecks
    limits: BudgetService
    pipeline: Pipeline
    monitoring: MetricsEndpoint
    shutdown: GracefulShutdown


def create_components(settings: Settings, replaced: Mapping[type[Any], Any]) -> Components:
    """`replaced` puts other ports in the place of the service's own."""
    metrics = Metrics(settings.metrics_folder)
    supervisor = Supervisor(restarted=lambda task: metrics.restarts.add(1, task))
    stores = Stores.of(settings, supervisor)
    telemetry = create_telemetry(settings, stores, metrics)
    tokens = Tokens(stores.database, settings.signing_key, settings.older_keys)
    connections = ConnectionRegistry(tokens, per_caller=settings.connections_per_caller)
    checks = create_health_checks(stores, connections, supervisor)
    engine = create_engine(settings, telemetry)
    limits = BudgetService(engine, stores.token_bucket, max_cost=settings.max_cost, enabled=settings.rate_limits_enabled)
    ports = {**create_ports(settings, stores, tokens, limits, checks), **replaced}
    services = Services(stores.database, stores.feed, stores.broker, telemetry, ports)
    return Components(
        settings,
        stores,
        services,
        supervisor,
        telemetry,
        tokens,
        Callers(tokens, limits),
        Origins(settings.allowed_origins),
        connections,
        checks,
        limits,
        create_pipeline(settings, stores, services, engine, limits, telemetry),
        MetricsEndpoint(metrics, services, supervisor, token=settings.metrics_token),
        GracefulShutdown(stores.feed, connections, seconds=settings.drain_seconds),
    )


def create_telemetry(settings: Settings, stores: Stores, metrics: Metrics) -> Telemetry:
    log = OperationLog(settings)
    if settings.otel_exporter_otlp_endpoint is None:
        return Telemetry(metrics, log)
    from graph.server.telemetry.tracing import Tracing

    tracing = Tracing(metrics, log, endpoint=settings.otel_exporter_otlp_endpoint, service=settings.app_name.lower())
    stores.database.watch(tracing.statement)
    return tracing


def create_health_checks(stores: Stores, connections: ConnectionRegistry, supervisor: Supervisor) -> HealthChecks:
    return HealthChecks(
        stores.database, stores.blobs, stores.redis, draining=lambda: connections.draining, failing=lambda: supervisor.failing
    )


def create_engine(settings: Settings, telemetry: Telemetry) -> Engine:
    return Engine(
        executable, telemetry, suggestions=settings.suggestions, introspection=settings.introspection, fast=settings.fast_path_enabled
    )


def create_ports(settings: Settings, stores: Stores, tokens: Tokens, limits: BudgetService, checks: HealthChecks) -> dict[type[Any], Any]:
    """What only some entities need, by the type that they ask for."""
    item_table = sources.ItemTable(stores.database)
    return {
        AccessTokens: tokens,
        Blobs: stores.blobs,
        ProcessPool: ProcessPool(),
        BudgetMeter: limits,
        Notifier: LogNotifier(),
        SignupPolicy: SignupPolicy(settings.scopes_at_signup),
        HealthChecks: checks,
        MovingWindow: moving_window(stores.redis, enabled=settings.rate_limits_enabled),
        FacetCache: FacetCache(stores.versions if settings.keeps_responses else None),
        GuessThrottle: GuessThrottle(stores.redis, enabled=settings.rate_limits_enabled),
        sources.PriceSource: item_table,
        sources.InventorySource: item_table,
    }


def create_pipeline(
    settings: Settings, stores: Stores, services: Services, engine: Engine, limits: BudgetService, telemetry: Telemetry
) -> Pipeline:
    documents = PersistedDocuments(
        TrustedDocuments.read(settings.documents_manifest),
        mode=settings.documents_mode,
        mode_by_client=settings.documents_mode_by_client,
        shared=stores.shared_cache,
    )
    responses = ResponseCache(stores.versions, telemetry.metrics.cache, shared=stores.shared_cache, schema_version=schema.as_str())
    return Pipeline(
        engine,
        services,
        documents,
        limits,
        telemetry,
        planner=Planner(schema, engine, services) if settings.fast_path_enabled else None,
        responses=responses if settings.keeps_responses else None,
        seconds=settings.operation_timeout_seconds,
    )
