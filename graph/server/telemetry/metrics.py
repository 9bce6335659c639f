"""The service's metrics, named after the GraphQL OpenTelemetry working group in Prometheus' spelling; others begin with `storegraph_`.

No caller can make labels at will. An operation's name is its first root field, which the schema bounds: the name that a client gives an operation goes
to the log. Clients' names and versions are as long as their instrument's bound allows, then "other".
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from graph.kit.instrumentation import Phase
from graph.server.representations.content_negotiation import prefers
from graph.server.telemetry.metric_values import Counter, Gauge, Histogram, Instrument, Instruments, SampledGauge

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
POINTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
CLIENTS = 200  # Pairs of a field and a client's name and version.

OPENMETRICS = "application/openmetrics-text"
OPERATION = ("graphql_operation_name", "graphql_operation_type")


class Metrics:
    def __init__(self, folder: Path | None = None) -> None:
        self.request = Histogram(
            "graphql_server_request_duration_seconds",
            "Queries and mutations, from their document to their answer.",
            (*OPERATION, "status"),
            bounds=SECONDS,
        )
        self.active = Gauge("graphql_server_active_requests", "Queries and mutations that run now.", ("graphql_operation_type",))
        self.phases: dict[Phase, Histogram] = {
            "parse": _step("graphql_server_request_parse_duration_seconds", "Parsing of documents that were not known yet."),
            "validate": _step("graphql_server_request_validate_duration_seconds", "Validation of documents that were not known yet."),
            "execute": _step("graphql_server_request_execute_duration_seconds", "Execution of queries and mutations."),
            "event": _step("graphql_server_subscription_event_duration_seconds", "From an event's arrival to its results."),
        }
        self.errors = Counter("graphql_server_response_error_count", "Errors in responses, by `extensions.code`.", ("code",))
        self.subscriptions = Gauge("graphql_server_subscription_active", "Subscriptions that are open.", ("graphql_operation_name",))
        self.cost = Histogram("storegraph_operation_cost_points", "Points charged for operations.", OPERATION, bounds=POINTS)
        self.batches = Histogram("storegraph_loader_batch_keys", "Keys that a loader fetched at once.", ("loader",), bounds=SIZES)
        self.cache = Counter("storegraph_response_cache_lookups", "Look-ups in the response cache.", ("result",))
        self.plans = Counter("storegraph_plans", "Plans of documents: made, refused to the reference executor, or failed.", ("result",))
        self.deprecated = Counter(
            "storegraph_deprecated_uses",
            "Uses of what is deprecated in the schema, by the client's own word for itself.",
            ("coordinate", "client_name", "client_version"),
            series=CLIENTS,
        )
        self.connections = Gauge("storegraph_database_connections", "Connections of the pools.", ("pool", "state"))
        self.jobs = SampledGauge("storegraph_jobs", "Background work that waits, and that is parked after too many failures.", ("state",))
        self.oldest_job = SampledGauge("storegraph_jobs_oldest_seconds", "Age of the oldest background work that waits.")
        self.database_up = SampledGauge("storegraph_database_up", "Whether the database answers a scrape: 1 or 0.")
        self.restarts = Counter(
            "storegraph_background_restarts", "Background tasks that failed and were started again, by their name.", ("task",)
        )
        self.failing = Gauge("storegraph_background_failing", "Background tasks that fail just now, by their name.", ("task",))
        self.event_lag = SampledGauge("storegraph_event_lag_seconds", "How long an open transaction has kept events from being delivered.")
        self.instruments = [
            *self.phases.values(),
            *(instrument for instrument in vars(self).values() if isinstance(instrument, Instrument)),
        ]
        self._instruments = Instruments(self.instruments, folder)
        self._registry = CollectorRegistry()
        self._registry.register(self._instruments)
        if folder is None:  # Of several processes these would be whichever was asked.
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self._registry)

    def write_snapshot(self) -> None:
        self._instruments.write_snapshot()

    def text(self, accept: str | None) -> tuple[bytes, str]:
        """The answer to a scrape, and its content type."""
        # By the name alone: the library fails on versions that are no numbers, and claims to write any that is one.
        encoder, content_type = choose_encoder(OPENMETRICS if prefers(accept, OPENMETRICS, "text/plain") else "")
        return encoder(self._registry), content_type


def _step(name: str, description: str) -> Histogram:
    return Histogram(name, description, bounds=SECONDS)
