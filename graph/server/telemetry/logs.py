"""Structured logging: one JSON object a line outside development, readable text in development, uvicorn's lines included.

A line never holds a token, a password or a variable: operations are logged by the few fields named here, database errors without their parameters
(see `persistence.kit.database.database`), and tracebacks without the values of local variables.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Generator, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import orjson
import structlog

from graph.kit.auth import Caller
from graph.kit.errors import INTERNAL
from graph.server.asgi.response_headers import REQUEST_ID

if TYPE_CHECKING:
    from structlog.typing import Processor

NOISE = ("websockets", "asyncio", "aiosqlite", "alembic")  # Their INFO is about each connection or statement.


class LogSettings(Protocol):
    """What logging depends on: `graph.server.settings.Settings`."""

    @property
    def debug(self) -> bool: ...
    @property
    def log_level(self) -> str: ...
    @property
    def slow_operation_ms(self) -> int: ...
    @property
    def otel_exporter_otlp_endpoint(self) -> str | None: ...


def configure(settings: LogSettings) -> None:
    """Send structlog's and the standard library's lines to standard output. Call once in each process."""
    shared: list[Processor] = [
        identified,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not settings.debug),
        *_traced(settings),
    ]
    level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        processors=[*shared, *renderers(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    formatter = structlog.stdlib.ProcessorFormatter
    handler.setFormatter(formatter(foreign_pre_chain=shared, processors=[formatter.remove_processors_meta, *renderers(settings)]))
    handler.addFilter(_shown)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in NOISE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def identified(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say for which request a line is."""
    if (request_id := REQUEST_ID.get(None)) is not None:
        line.setdefault("request_id", request_id)
    return line


def renderers(settings: LogSettings) -> list[Processor]:
    if settings.debug:
        # Not rich's tracebacks: they show local variables, and those hold passwords.
        return [structlog.dev.ConsoleRenderer(colors=has_colours(sys.stdout), exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]


@contextmanager
def on_standard_error() -> Generator[None]:
    """For commands whose standard output is what they were asked for: a warning in the middle of an export would spoil it."""
    before = structlog.get_config()
    shown = structlog.dev.ConsoleRenderer(colors=has_colours(sys.stderr), exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), shown],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def has_colours(output: TextIO) -> bool:
    """Whether it is a terminal that has them, and the reader wants them. Source: no-color.org."""
    from rich.console import Console

    terminal = Console(file=output)
    return terminal.color_system is not None and not terminal.no_color


def _traced(settings: LogSettings) -> list[Processor]:
    if settings.otel_exporter_otlp_endpoint is None:
        return []

    def mark(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line.update(_current_trace())
        return line

    return [mark]


def _current_trace() -> dict[str, str]:
    """Which trace a line belongs to."""
    from opentelemetry import trace

    current = trace.get_current_span().get_span_context()
    return {"trace_id": f"{current.trace_id:032x}"} if current.is_valid else {}


def _json(line: Any, **_: Any) -> str:
    return orjson.dumps(line, default=str).decode()


def _shown(record: logging.LogRecord) -> bool:
    """Not uvicorn's lines on each WebSocket: they quote its address with the query string, in which careless clients put tokens."""
    return not (record.name == "uvicorn.error" and isinstance(record.msg, str) and '"WebSocket %s"' in record.msg)


class OperationLog:
    """A line for each operation: at WARNING if it was slow, at ERROR if it failed by our fault, otherwise at INFO."""

    def __init__(self, settings: LogSettings) -> None:
        self._slow_seconds = settings.slow_operation_ms / 1000
        self._least = logging.getLevelNamesMapping()[settings.log_level]
        self._put = _readable if settings.debug else _put_json
        self._is_traced = settings.otel_exporter_otlp_endpoint is not None

    def write(
        self, caller: Caller, *, status: str, codes: Sequence[str] = (), seconds: float = 0.0, source: str | None = None, **more: object
    ) -> None:
        slow = source is not None and seconds >= self._slow_seconds and more.get("kind") != "subscription"
        level = logging.ERROR if status == "failed" or INTERNAL in codes else logging.WARNING if slow else logging.INFO
        if level < self._least:
            return
        line: dict[str, object] = {"event": "operation", "level": logging.getLevelName(level).lower(), "request_id": caller.request_id}
        line |= {"status": status, **{name: value for name, value in more.items() if value is not None}}
        if source is not None:
            line["duration_ms"] = round(seconds * 1000, 3)
        line |= {"user": caller.principal.user_id} if caller.principal else {"ip": caller.client_ip}
        if caller.client_name:
            line |= {"client": caller.client_name, "client_version": caller.client_version}
        if codes:
            line["codes"] = codes
        if slow and source:
            line["document"] = f"sha256:{hashlib.sha256(source.encode()).hexdigest()}"
        if self._is_traced:
            line |= _current_trace()
        self._put(line)


def _readable(line: dict[str, object]) -> None:
    event, level = str(line.pop("event")), str(line.pop("level"))
    getattr(structlog.get_logger(), level)(event, **line)


def _put_json(line: dict[str, object]) -> None:
    # Past structlog: its chain of processors takes 30 µs a line, this 6 µs (measured), and there is a line for each operation.
    sys.stdout.write(orjson.dumps(line | {"timestamp": datetime.now(UTC)}, default=str).decode() + "\n")
    sys.stdout.flush()
