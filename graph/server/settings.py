"""Settings from the environment and `.env`, validated once at start. Nothing else in the project reads the environment."""

from __future__ import annotations

import os
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from graph.kit.auth import Scope
from graph.server.asgi.trusted_proxies import networks
from graph.server.graphql.persisted_documents import DocumentMode, read_manifest
from persistence.kit.blobs.by_url import open_blobs
from persistence.kit.database.engines import DRIVERS, PoolSize, below, driver
from persistence.kit.events.log import EventRetention
from persistence.kit.limits.token_bucket import Budget
from persistence.kit.redis import client

DEVELOPMENT_KEY = "storegraph-development-key-not-for-production-use"
PLACEHOLDERS = ("change", "placeholder", "example", "secret-key", "your-", "development")
SECRET_BYTES = 32  # HS256 wants a key as long as its hash. Source: RFC 7518, section 3.2.
DEVELOPMENT_SCOPES = (Scope.ITEMS_READ, Scope.ITEMS_WRITE, Scope.FILES_READ, Scope.FILES_WRITE)
# Relative paths in settings begin here: the project's folder for scripts/storegraph, which may be called from anywhere, else the present one.
HOME = Path(os.environ.get("STOREGRAPH_HOME", ""))
VAR = HOME / "var"
# A point is about 0.03 ms of a processor, so an anonymous caller gets a sixteenth of one, after a burst of 1.5 s. 15,000 is a bulk of 10,000 items.
BUDGET = Budget(capacity=50_000, per_second=2_000)
DEVELOPMENT_BUDGET = Budget(capacity=1_000_000, per_second=40_000)


class Settings(BaseSettings):
    """One attribute for each variable, of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=HOME / ".env", extra="forbid", frozen=True, allow_inf_nan=False)

    app_name: Annotated[str, Field(min_length=1, max_length=100)] = "Storegraph"
    debug: bool = False
    secret_key: str = ""
    secret_keys_old: Annotated[tuple[str, ...], NoDecode] = ()  # Former keys: tokens that they signed stay good until they expire.
    database_url: str = Field(default_factory=lambda: f"sqlite+aiosqlite:///{VAR.absolute() / 'storegraph.db'}")
    database_replica_url: str | None = None
    database_pool_size: Annotated[int, Field(gt=0)] = PoolSize.size
    database_pool_overflow: Annotated[int, Field(ge=0)] = PoolSize.overflow
    database_pool_wait_seconds: Annotated[float, Field(gt=0)] = PoolSize.wait_seconds
    database_pool_recycle_seconds: Annotated[int, Field(gt=0)] = PoolSize.recycle_seconds
    database_statement_timeout_ms: Annotated[int, Field(ge=0)] = PoolSize.statement_timeout_ms
    database_statement_cache: bool = PoolSize.statement_cache
    database_connect_timeout_seconds: Annotated[float, Field(gt=0)] = PoolSize.connect_seconds
    database_read_timeout_seconds: Annotated[float, Field(gt=0)] = 2
    operation_timeout_seconds: Annotated[float, Field(gt=0)] = 10
    blob_timeout_seconds: Annotated[float, Field(gt=0)] = 10
    redis_url: str | None = None
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    files_url: str = Field(default_factory=(VAR.absolute() / "files").as_uri)
    max_upload_bytes: Annotated[int, Field(gt=0)] = 256 * 2**20
    upload_quota_bytes: Annotated[int, Field(gt=0)] = 10 * 2**30  # What one user's files may take together.
    signup_scopes: Annotated[tuple[Scope, ...] | None, NoDecode] = None
    introspection_enabled: bool | None = None
    explorer_enabled: bool | None = None
    suggestions_enabled: bool | None = None
    rate_limits_enabled: bool = True
    budget_points: Annotated[int | None, Field(gt=0)] = None
    budget_points_per_second: Annotated[float | None, Field(gt=0)] = None
    max_cost: Annotated[int, Field(gt=0)] = 15_000
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    response_cache_enabled: bool = True
    fast_path_enabled: bool = True
    documents_manifest: Path | None = None
    documents_mode: DocumentMode = DocumentMode.OFF
    documents_mode_by_client: Annotated[dict[str, DocumentMode], NoDecode] = {}
    event_history_hours: Annotated[int, Field(gt=0)] = 168
    event_history_count: Annotated[int, Field(gt=0)] = 1_000_000  # About 200 bytes each.
    connections_per_caller: Annotated[int, Field(gt=0)] = 100
    drain_seconds: Annotated[float, Field(ge=1)] = 25
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    slow_operation_ms: Annotated[int, Field(ge=0)] = 500
    metrics_folder: Path | None = None
    metrics_token: Annotated[str, Field(min_length=16)] | None = None
    otel_exporter_otlp_endpoint: str | None = None

    @field_validator("allowed_origins", "secret_keys_old", "signup_scopes", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("documents_mode_by_client", mode="before")
    @classmethod
    def _paired(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(separator for _, separator, _ in pairs):
            raise ValueError("must be NAME=MODE, separated by commas")
        return {name.strip(): mode.strip() for name, _, mode in pairs}

    @field_validator("documents_manifest")
    @classmethod
    def _readable_manifest(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_manifest(HOME / value)
        return value and HOME / value

    @field_validator("metrics_folder")
    @classmethod
    def _at_home(cls, value: Path | None) -> Path | None:
        return value and HOME / value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _traceable(cls, value: str | None) -> str | None:
        if value is not None and find_spec("opentelemetry") is None:
            raise ValueError("needs the packages of requirements-tracing.lock, which are not installed")
        return value

    @field_validator("database_url", "database_replica_url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is not None and driver(value) not in DRIVERS:
            raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in DRIVERS)}")
        return value and below(HOME, value)

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, value: str | None) -> str | None:
        if value is not None:
            client.check(value)
        return value

    @field_validator("files_url")
    @classmethod
    def _usable_storage(cls, value: str) -> str:
        open_blobs(value)
        return value

    @model_validator(mode="after")
    def _real_secret(self) -> Settings:
        if not self.debug and not _is_secret(self.secret_key):
            raise ValueError(
                f"SECRET_KEY must be at least {SECRET_BYTES} random bytes outside development: "
                "make one with `openssl rand -hex 32`, or set DEBUG=true on your own machine"
            )
        if not self.debug and not all(map(_is_secret, self.secret_keys_old)):
            raise ValueError(f"SECRET_KEYS_OLD must hold keys of at least {SECRET_BYTES} random bytes, separated by commas")
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _real_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks(value)
        return value

    @model_validator(mode="after")
    def _payable(self) -> Settings:
        if self.max_cost > self.budget.capacity:
            raise ValueError("MAX_COST is above BUDGET_POINTS: an operation could cost more than anybody ever has")
        return self

    @property
    def budget(self) -> Budget:
        """Each caller's. A developer's own programs are let run wild, on a machine that is theirs."""
        usual = DEVELOPMENT_BUDGET if self.debug else BUDGET
        return Budget(self.budget_points or usual.capacity, self.budget_points_per_second or usual.per_second)

    @property
    def introspection(self) -> bool:
        return self._unless_said(self.introspection_enabled)

    @property
    def explorer(self) -> bool:
        return self._unless_said(self.explorer_enabled)

    @property
    def suggestions(self) -> bool:
        return self._unless_said(self.suggestions_enabled)

    @property
    def keeps_responses(self) -> bool:
        """Not with a replica: what it answers may be older than the table versions under which a response would be cached."""
        return self.response_cache_enabled and self.database_replica_url is None

    def _unless_said(self, setting: bool | None) -> bool:
        """What helps a developer helps an attacker: without a word on it, it is for development alone."""
        return self.debug if setting is None else setting

    @property
    def pool(self) -> PoolSize:
        return PoolSize(
            self.database_pool_size,
            self.database_pool_overflow,
            self.database_pool_wait_seconds,
            self.database_pool_recycle_seconds,
            self.database_statement_timeout_ms,
            self.database_statement_cache,
            self.database_connect_timeout_seconds,
            self.database_read_timeout_seconds,
        )

    @property
    def signing_key(self) -> bytes:
        return (self.secret_key or DEVELOPMENT_KEY).encode()

    @property
    def older_keys(self) -> tuple[bytes, ...]:
        return tuple(key.encode() for key in self.secret_keys_old)

    @property
    def event_history(self) -> EventRetention:
        return EventRetention(timedelta(hours=self.event_history_hours), self.event_history_count)

    @property
    def scopes_at_signup(self) -> tuple[Scope, ...]:
        if self.signup_scopes is not None:
            return self.signup_scopes
        return DEVELOPMENT_SCOPES if self.debug else (Scope.ITEMS_READ,)


def _is_secret(key: str) -> bool:
    return len(key.encode()) >= SECRET_BYTES and not any(part in key.lower() for part in PLACEHOLDERS)


class BadSettings(Exception):
    """The service must not start. Its text names each variable that is wrong."""


def load(**overrides: Any) -> Settings:
    """Raises: BadSettings."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise BadSettings("\n".join(_describe(problem) for problem in error.errors())) from error


def _describe(problem: Any) -> str:
    name = str(problem["loc"][0]).upper() if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return f"{name}: there is no such setting; remove it from .env or correct its name"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
