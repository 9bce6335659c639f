"""What is used of libraries below their public API is still there: each is pinned exactly, and an upgrade that breaks one of these says which.

The packages, and the reason for each pin, stand in pyproject.toml. A line here is one attribute or signature and the file of ours that relies on it.
"""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httptools
import pytest
import strawberry
import uvicorn
from graphql import GraphQLSchema, execution, validation
from graphql.execution import get_argument_values, get_variable_values
from graphql.utilities.coerce_input_value import coerce_default_value
from graphql.validation.rules.overlapping_fields_can_be_merged import RuleContext
from graphql.validation.validate import ValidationAbortedError
from limits import parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from slowapi import Limiter
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.arguments import convert_argument
from strawberry.types.field import StrawberryField
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from uvicorn.supervisors import ChangeReload, Multiprocess, multiprocess
from websockets.frames import CTRL_OPCODES, DATA_OPCODES, Frame, Opcode
from websockets.server import ServerProtocol

from graph.schema import schema

if TYPE_CHECKING:
    from collections.abc import Callable

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
PINNED = ("graphql-core", "httptools", "limits", "strawberry-graphql", "uvicorn", "websockets")


@pytest.mark.parametrize("package", PINNED)
def test_is_pinned(package: str) -> None:
    (line,) = (each for each in PYPROJECT["project"]["dependencies"] if each.partition("==")[0].partition(">")[0] == package)
    wanted = f"{package}=={version(package)}"
    assert line.partition(";")[0].strip() == wanted, (
        f"{package} is used below its public API, see tests/server/process/test_pinned_libraries.py: pin {wanted}."
    )


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """An ASGI application."""


def _http() -> HttpToolsProtocol:
    config = uvicorn.Config(_nothing, log_config=None, lifespan="off", ws="none")
    return HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())


def _cycle() -> RequestResponseCycle:
    given: dict[str, Any] = dict.fromkeys(inspect.signature(RequestResponseCycle.__init__).parameters)
    return RequestResponseCycle(**{name: value for name, value in given.items() if name != "self"})


def _socket() -> WebSocketsSansIOProtocol:
    config = uvicorn.Config(_nothing, log_config=None, lifespan="off", ws="none", ws_ping_interval=None)
    return WebSocketsSansIOProtocol(config, ServerState(), {}, asyncio.get_running_loop())


ATTRIBUTES: list[tuple[str, Callable[[], Any], str]] = [
    (
        "graph/server/asgi/protocols/http_protocol.py",
        _http,
        (
            "config app loop parser ws_protocol_class app_state timeout_keep_alive server_state connections tasks transport flow pipeline scope headers "
            "expect_100_continue cycle _should_upgrade handle_websocket_upgrade on_message_begin on_headers_complete on_body on_message_complete "
            "on_response_complete _start_asgi_task pause_writing resume_writing eof_received shutdown"
        ),
    ),
    (
        "graph/server/asgi/protocols/response_writer.py, wire.py",
        _cycle,
        (
            "scope transport flow default_headers message_event on_response disconnected keep_alive waiting_for_100_continue more_body response_started "
            "response_complete run_asgi send receive"
        ),
    ),
    ("graph/server/asgi/protocols/response_writer.py", lambda: httptools_impl, "HEADER_RE STATUS_LINE"),
    (
        "graph/server/asgi/protocols/http_protocol.py",
        lambda: FlowControl(asyncio.Transport()),
        "read_paused write_paused drain pause_reading resume_reading",
    ),
    ("graph/server/asgi/protocols/http_protocol.py", lambda: httptools, "HttpParserError HttpParserUpgrade"),
    (
        "graph/server/asgi/protocols/http_protocol.py",
        lambda: httptools.HttpRequestParser(object()),
        "feed_data get_http_version get_method should_upgrade should_keep_alive",
    ),
    ("graph/server/asgi/protocols/http_protocol.py", ServerState, "connections tasks total_requests default_headers"),
    (
        "graph/server/asgi/protocols/websocket_protocol.py",
        _socket,
        (
            "conn queue writable transport loop connections handshake_initiated handshake_complete close_sent disconnected close_timer close_timeout frames "
            "read_paused handle_connect handle_events handle_parser_exception data_received connection_lost run_asgi send receive stop_keepalive"
        ),
    ),
    (
        "graph/server/asgi/protocols/websocket_protocol.py",
        ServerProtocol,
        "parser parser_exc handshake_exc events close_sent close_rcvd fail data_to_send events_received receive_data",
    ),
    (
        "graph/server/process/server.py",
        lambda: uvicorn.Server(uvicorn.Config(_nothing, log_config=None)),
        "config server_state started handle_exit shutdown serve run",
    ),
    ("graph/server/process/server.py", lambda: multiprocess, "Process Multiprocess"),
    ("graph/server/process/server.py", lambda: Multiprocess, "handle_term handle_int terminate_all run"),
    ("graph/server/process/server.py", lambda: ChangeReload, "run"),
    ("graph/schema.py, graph/kit/planner/planner.py", lambda: schema, "_schema"),
    (
        "graph/kit/execution/engine.py",
        lambda: StrawberryGraphQLCoreExecutionContext,
        "build build_per_event_executor execute_operation execute_fields",
    ),
    ("graph/kit/execution/engine.py", lambda: execution, "create_source_event_stream execute_subscription_event"),
    ("graph/kit/execution/validation.py", lambda: validation, "OverlappingFieldsCanBeMergedRule ValidationContext specified_rules"),
    ("graph/kit/execution/coercion.py", lambda: StrawberryField, "arguments resolve_type"),
    ("graph/kit/execution/coercion.py", lambda: schema.schema_converter, "scalar_registry"),
    ("graph/kit/execution/coercion.py", lambda: schema.config.name_converter, "get_graphql_name from_field"),
    ("graph/kit/execution/validation.py", RuleContext, "remaining_complexity_budget"),
    ("persistence/kit/limits/moving_window.py", lambda: RedisStorage("async+redis://", implementation="redispy"), "bridge"),
    (
        "persistence/kit/limits/moving_window.py",
        lambda: RedisStorage("async+redis://", implementation="redispy").bridge,
        "connection_getter register_scripts",
    ),
    ("persistence/kit/limits/moving_window.py", lambda: MovingWindowRateLimiter, "hit get_window_stats"),
    ("persistence/kit/limits/moving_window.py", lambda: parse_many("1/second")[0], "amount key_for get_expiry"),
    ("graph/kit/limits/route_rate_limiter.py", lambda: Limiter(key_func=str), "limit limiter"),
]


@pytest.mark.parametrize(("where", "made", "names"), ATTRIBUTES)
async def test_has_each_name(where: str, made: Callable[[], Any], names: str) -> None:
    object_ = made()
    missing = [name for name in names.split() if not hasattr(object_, name)]
    assert not missing, f"{type(object_).__name__ if not inspect.isclass(object_) else object_.__name__} lost {missing}: see {where}."


SIGNATURES: list[tuple[str, Callable[..., Any], str]] = [
    ("graph/server/asgi/protocols/http_protocol.py", HttpToolsProtocol.__init__, "self config server_state app_state _loop"),
    ("graph/server/asgi/protocols/http_protocol.py", getattr(HttpToolsProtocol, "_start_asgi_task"), "self cycle app"),  # noqa: B009 -- that it is there is what is tested
    ("graph/server/asgi/protocols/http_protocol.py", HttpToolsProtocol.on_body, "self body"),
    ("graph/server/asgi/protocols/http_protocol.py", HttpToolsProtocol.connection_lost, "self exc"),
    ("graph/server/asgi/protocols/http_protocol.py", HttpToolsProtocol.connection_made, "self transport"),
    ("graph/server/asgi/protocols/response_writer.py", RequestResponseCycle.send, "self message"),
    ("graph/server/asgi/protocols/websocket_protocol.py", WebSocketsSansIOProtocol.__init__, "self config server_state app_state _loop"),
    ("graph/server/asgi/protocols/websocket_protocol.py", WebSocketsSansIOProtocol.send, "self message"),
    ("graph/server/asgi/protocols/websocket_protocol.py", ServerProtocol.fail, "self code reason"),
    ("graph/server/asgi/protocols/websocket_protocol.py", Frame.__init__, "self opcode data fin rsv1 rsv2 rsv3"),
    ("graph/server/asgi/protocols/websocket_protocol.py", ClientDisconnected.__init__, "self args kwargs"),
    ("graph/server/process/server.py", uvicorn.Server.handle_exit, "self sig frame"),
    ("graph/server/process/server.py", uvicorn.Server.shutdown, "self sockets"),
    ("graph/server/process/server.py", multiprocess.Process.is_alive, "self timeout"),
    ("graph/server/process/server.py", Multiprocess.__init__, "self config sockets"),
    (
        "graph/kit/execution/leaf_executor.py",
        StrawberryGraphQLCoreExecutionContext.execute_fields,
        "self parent_type source_value path grouped_field_set position_context",
    ),
    ("graph/kit/planner/steps.py", get_argument_values, "type_def node variable_values fragment_variable_values hide_suggestions"),
    ("graph/kit/planner/steps.py", get_variable_values, "schema var_def_nodes inputs max_errors hide_suggestions"),
    ("graph/kit/planner/arguments.py, bill.py", coerce_default_value, "input_value"),
    ("graph/kit/execution/coercion.py", convert_argument, "value type_ scalar_registry config info path"),
    (
        "graph/kit/execution/validation.py",
        validation.ValidationContext.__init__,
        "self schema ast type_info on_error hide_suggestions allow_empty_selection_sets",
    ),
    ("graph/kit/execution/validation.py", validation.OverlappingFieldsCanBeMergedRule.__init__, "self context"),
    ("persistence/kit/limits/moving_window.py", RedisStorage.__init__, "self uri wrap_exceptions implementation key_prefix options"),
]


@pytest.mark.parametrize(("where", "callable_", "parameters"), SIGNATURES)
def test_takes_the_same_parameters(where: str, callable_: Callable[..., Any], parameters: str) -> None:
    found = " ".join(inspect.signature(callable_).parameters)
    assert found == parameters, f"{callable_.__qualname__} takes {found} now: see {where}."


def test_means_the_same_by_its_values() -> None:
    assert (set(DATA_OPCODES), set(CTRL_OPCODES)) == ({Opcode.CONT, Opcode.TEXT, Opcode.BINARY}, {Opcode.CLOSE, Opcode.PING, Opcode.PONG})
    assert httptools_impl.STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    assert issubclass(ClientDisconnected, OSError)
    assert issubclass(ValidationAbortedError, Exception)
    assert issubclass(HttpToolsProtocol, asyncio.Protocol)
    assert isinstance(schema._schema, GraphQLSchema)  # pyright: ignore[reportPrivateUsage] -- that it is there is what is tested
    assert isinstance(schema, strawberry.Schema)
