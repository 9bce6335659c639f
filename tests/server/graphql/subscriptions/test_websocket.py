"""The graphql-transport-ws protocol, in raw frames. Quotations are from graphql-ws' PROTOCOL.md."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus

from graph.server.graphql.subscriptions.websocket import SocketLimits
from tests.support.clients.websocket_frames import (
    ACK,
    CREATE,
    INIT,
    LISTEN,
    NAMES,
    SUBPROTOCOL,
    bearer,
    echo,
    heard_after_start,
    subscribe,
    talking,
)
from tests.support.endpoints import Wire, until

if TYPE_CHECKING:
    from starlette.types import Message

    from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry
    from tests.support.service import Service


@pytest.fixture
def service(embedded: Service) -> Service:
    return embedded


@pytest.fixture
def connections(embedded: Service) -> ConnectionRegistry:
    return embedded.app.state.connections


@pytest.mark.parametrize("subprotocol", [None, "graphql-ws", "soap"])
async def test_speaks_no_other_subprotocol(service: Service, subprotocol: str | None) -> None:
    """Communication: "The WebSocket sub-protocol for this specification is: graphql-transport-ws"."""
    async with talking(service, init=False, subprotocol=subprotocol) as talk:
        assert await talk.closed() == (4406, "Subprotocol not acceptable")


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {}}, {"payload": {"a": [1]}}, {"payload": {"Authorization": None}}])
async def test_acknowledges_a_connection(service: Service, payload: dict[str, Any]) -> None:
    """ConnectionInit: "payload?: Record<string, unknown> | null"."""
    async with talking(service, init=False) as talk:
        await talk.send(INIT | payload)
        assert await talk.hear() == ACK


@pytest.mark.parametrize("pings", [0, 3])
async def test_waits_only_so_long_for_the_initialisation(service: Service, pings: int) -> None:
    """ConnectionInit: "If the client does not request a connection within the allowed timeout, the server will close the socket with the
    event: 4408: Connection initialisation timeout"."""
    sent: list[Message] = []
    events: list[Message] = [{"type": "websocket.connect"}, *([{"type": "websocket.receive", "text": '{"type":"ping"}'}] * pings)]

    async def receive() -> Message:
        return events.pop(0) if events else await asyncio.Event().wait() and {}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "headers": [], "subprotocols": [SUBPROTOCOL], "client": ("::1", 1)}
    await Wire(service).socket(limits=SocketLimits(init_seconds=0.01))(scope, receive, send)
    pongs = [{"type": "websocket.send", "text": '{"type":"pong"}'}] * pings
    close = {"type": "websocket.close", "code": 4408, "reason": "Connection initialisation timeout"}
    assert sent == [{"type": "websocket.accept", "subprotocol": SUBPROTOCOL}, *pongs, close]
    assert SocketLimits().init_seconds == 10


async def test_initialises_once(service: Service) -> None:
    """ConnectionInit: "more than one ConnectionInit message at any given time, … 4429: Too many initialisation requests"."""
    async with talking(service) as talk:
        await talk.send(INIT)
        assert await talk.closed() == (4429, "Too many initialisation requests")


async def test_runs_nothing_before_it_has_acknowledged(service: Service) -> None:
    """Subscribe: "if the connection is not acknowledged, the socket will be closed immediately with the event 4401: Unauthorized"."""
    async with talking(service, init=False) as talk:
        await talk.send(subscribe(CREATE))
        assert await talk.closed() == (4401, "Unauthorized")
    assert await service.ask(NAMES) == {"items": {"edges": []}}


@pytest.mark.parametrize("authorization", ["Bearer forged", "Basic YTpi", "Bearer", "x", 7, ["Bearer x"], {}])
async def test_forbids_a_connection_with_a_bad_token(service: Service, authorization: Any) -> None:
    """ConnectionInit: "If the server wishes to reject the connection, for example during authentication, it is recommended to close the
    socket with 4403: Forbidden"."""
    async with talking(service, init=False) as talk:
        await talk.send(INIT | {"payload": {"Authorization": authorization}})
        assert await talk.closed() == (4403, "Forbidden")


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
async def test_knows_the_caller_by_the_payload(service: Service, name: str) -> None:
    token = await service.sign_in()
    async with talking(service, init={name: f"Bearer {token}"}) as talk:
        assert (await talk.result(CREATE))["payload"] == {"data": {"createItem": {"__typename": "Item"}}}


async def test_knows_the_caller_by_the_handshake(service: Service) -> None:
    token = await service.sign_in()
    async with talking(service, **bearer(token)) as talk:
        assert (await talk.result(CREATE))["payload"] == {"data": {"createItem": {"__typename": "Item"}}}


async def test_runs_queries_and_mutations(service: Service) -> None:
    """Single result operation: "at most one Next message is sent"; operationName and variables as over HTTP."""
    async with talking(service, init=bearer(await service.sign_in())) as talk:
        assert (await talk.result(CREATE))["type"] == "next"
        query = "query A($first: Int!) { items(first: $first) { edges { node { name } } } } query B { __typename }"
        expected = {"id": "é", "type": "next", "payload": {"data": {"items": {"edges": [{"node": {"name": "Kettle"}}]}}}}
        assert await talk.result(query, "é", operationName="A", variables={"first": 1}, extensions=None) == expected
        assert (await talk.result("{ __typename }", operationName="", variables=None))["payload"] == {"data": {"__typename": "Query"}}


async def test_streams_until_the_client_completes(service: Service) -> None:
    """Complete: "No further events, relevant to the original subscription, should be sent through"; Subscribe: "Once a client completes an
    operation, it is free to re-use that ID"."""
    async with talking(service) as talk:
        await heard_after_start(talk, service)
        await echo(service, "news")
        assert await talk.hear() == {"id": "1", "type": "next", "payload": {"data": {"echo": {"text": "echo: news"}}}}
        await talk.send({"type": "complete", "id": "1"})
        assert await talk.result("{ __typename }") == {"id": "1", "type": "next", "payload": {"data": {"__typename": "Query"}}}
        await echo(service, "unheard")
        await talk.send({"type": "ping"})
        assert await talk.hear() == {"type": "pong"}


async def test_keeps_operations_apart_by_id(service: Service) -> None:
    """Communication: "Multiple operations identified with separate IDs can be active at any time and their messages can be interleaved"."""
    async with talking(service) as talk:
        await heard_after_start(talk, service, "1", "a")
        await heard_after_start(talk, service, "2", "b")
        await echo(service, "x", "b")
        assert (await talk.hear())["id"] == "2"
        assert (await talk.result("{ __typename }", "3"))["id"] == "3"
        await echo(service, "x", "a")
        assert (await talk.hear())["id"] == "1"


@pytest.mark.parametrize("id_", ["1", "é" * 128])
async def test_refuses_a_second_operation_with_an_id_in_use(service: Service, id_: str) -> None:
    """Subscribe: "the server must close the socket immediately with the event 4409: Subscriber for <unique-operation-id> already exists"; a
    close reason has 123 bytes at most (RFC 6455, section 5.5)."""
    async with talking(service) as talk:
        await heard_after_start(talk, service, id_)
        await talk.send(subscribe("{ __typename }", id_))
        code, reason = await talk.closed()
        assert (code, f"Subscriber for {id_} already exists".startswith(reason)) == (4409, True)


@pytest.mark.parametrize(("query", "code"), [("{", "GRAPHQL_PARSE_FAILED"), ("{ nothing }", "GRAPHQL_VALIDATION_FAILED")])
async def test_tells_of_a_bad_document_and_stays_open(service: Service, query: str, code: str) -> None:
    """Error: "This can occur before execution starts, usually due to validation errors … no further messages will be sent"."""
    async with talking(service) as talk:
        heard = await talk.result(query)
        assert (heard["id"], heard["type"], [each["extensions"]["code"] for each in heard["payload"]]) == ("1", "error", [code])
        assert (await talk.result("{ __typename }"))["type"] == "next"


async def test_tells_of_variables_that_do_not_fit(service: Service) -> None:
    async with talking(service) as talk:
        for query in ("query ($id: ID!) { item(id: $id) { id } }", "subscription ($id: ID!) { echo(channel: $id) { text } }"):
            heard = await talk.result(query, variables={"id": None})
            assert (heard["type"], [each["extensions"]["code"] for each in heard["payload"]]) == ("error", ["BAD_USER_INPUT"])


async def test_gives_errors_of_fields_in_the_result(service: Service) -> None:
    async with talking(service) as talk:
        heard = await talk.result(CREATE)
        assert (heard["type"], heard["payload"]["data"]) == ("next", None)
        assert [each["extensions"]["code"] for each in heard["payload"]["errors"]] == ["UNAUTHENTICATED"]


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {"a": [1, {"b": "é"}]}}])
@pytest.mark.parametrize("init", [True, False])
async def test_answers_pings_at_any_time(service: Service, payload: dict[str, Any], init: bool) -> None:
    """Ping: "A Pong must be sent in response from the receiving party as soon as possible"."""
    async with talking(service, init=init) as talk:
        await talk.send({"type": "pong"}, {"type": "pong", "payload": {"a": 1}}, {"type": "ping", **payload})
        assert await talk.hear() == {"type": "pong"} | {key: value for key, value in payload.items() if value is not None}


async def test_ignores_ids_it_does_not_know(service: Service) -> None:
    """Invalid message: "It is permissable to simply ignore all unknown IDs without closing the connection"."""
    async with talking(service) as talk:
        await talk.send({"type": "complete", "id": "never"})
        assert (await talk.result("{ __typename }"))["type"] == "next"


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "7",
        '"ping"',
        "[]",
        '[{"type": "ping"}]',
        "{}",
        '{"type": 1}',
        '{"type": null}',
        '{"type": ["ping"]}',
        '{"type": "nothing"}',
        '{"type": "start", "id": "1", "payload": {}}',
        '{"type": "connection_ack"}',
        '{"type": "next", "id": "1", "payload": {}}',
        '{"type": "error", "id": "1", "payload": []}',
        '{"type": "ping", "payload": []}',
        '{"type": "pong", "payload": "x"}',
        '{"type": "connection_init", "payload": 1}',
        '{"type": "complete"}',
        '{"type": "complete", "id": 1}',
        '{"type": "ping", "type": "pong"}',
        '{"type": "ping", "payload": {"a": "\\ud800"}}',
        '{"type": "ping", "payload": ' + '{"a":' * 70 + "1" + "}" * 71,
        "[" * 60_000,
        b'{"type": "ping"}',
        b"\x00\xff",
    ],
)
async def test_closes_on_what_is_no_message(service: Service, message: str | bytes, init: bool) -> None:
    """Invalid message: "Receiving a message of a type or format which is not specified in this document will result in an immediate socket
    closure with the event 4400: <error-message>"."""
    async with talking(service, init=init) as talk:
        await talk.send(message)
        code, reason = await talk.closed()
        assert (code, reason != "") == (4400, True)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 1},
        {"id": ""},
        {"id": "x" * 129},
        {"payload": None},
        {"payload": []},
        {"payload": {}},
        {"payload": {"query": 1}},
        {"payload": {"query": "{ __typename }", "variables": []}},
        {"payload": {"query": "{ __typename }", "extensions": "x"}},
        {"payload": {"query": "{ __typename }", "operationName": 1}},
    ],
)
async def test_closes_on_a_subscribe_with_wrong_fields(service: Service, change: dict[str, Any]) -> None:
    """Subscribe: "operationName?: string | null; query: string; variables?: Record<string, unknown> | null"."""
    async with talking(service) as talk:
        await talk.send(subscribe("{ __typename }") | change)
        assert (await talk.closed())[0] == 4400


@pytest.mark.parametrize("characters", [262_145, 2_000_000])
async def test_takes_no_huge_message(service: Service, characters: int) -> None:
    """RFC 6455, section 7.4.1: "1009 … a message that is too big for it to process"."""
    async with talking(service) as talk:
        await talk.send(json.dumps({"type": "ping", "payload": {"a": "x" * characters}}))
        assert (await talk.closed())[0] == 1009


async def test_runs_a_bounded_number_of_operations(service: Service) -> None:
    async with talking(service) as talk:
        await talk.send(*(subscribe(LISTEN, str(number)) for number in range(60)))
        refused = [await talk.hear() for _ in range(10)]
        assert [(each["type"], each["id"], each["payload"][0]["extensions"]["code"]) for each in refused] == [
            ("error", str(number), "RATE_LIMITED") for number in range(50, 60)
        ]
        await talk.send({"type": "complete", "id": "0"}, {"type": "ping"})
        assert await talk.hear() == {"type": "pong"}
        assert (await talk.result("{ __typename }", "again"))["type"] == "next"


async def test_finishes_a_mutation_that_nobody_waits_for(service: Service) -> None:
    """Complete: "Even if the client sent a Complete message for a single-result-operation before it resolved, the result should not be sent
    through once it does"."""
    async with talking(service, init=bearer(await service.sign_in())) as talk:
        async with service.database.transaction():  # holds SQLite's one writer, and with it the mutation
            await talk.send(subscribe(CREATE), {"type": "ping"})
            assert await talk.hear() == {"type": "pong"}
            await talk.send({"type": "complete", "id": "1"}, {"type": "ping"})
            assert await talk.hear() == {"type": "pong"}
        async with asyncio.timeout(10):
            while not (await service.ask(NAMES))["items"]["edges"]:
                pass
        await talk.send({"type": "ping"})
        assert await talk.hear() == {"type": "pong"}


async def test_gives_each_operation_its_end_when_the_process_stops(service: Service, connections: ConnectionRegistry) -> None:
    """A subscription gets no `complete`, after which a client believes that it is over: close code 1012 makes it subscribe again."""
    async with talking(service, init=bearer(await service.sign_in())) as talk:
        await heard_after_start(talk, service)
        async with service.database.transaction():
            await talk.send(subscribe(CREATE, "2"), {"type": "ping"})
            assert await talk.hear() == {"type": "pong"}
            draining = asyncio.ensure_future(connections.drain(10))
            await asyncio.sleep(0)
            with pytest.raises(InvalidStatus):
                async with talking(service):
                    pass
        await draining
        connections.draining = False
        assert await talk.hear() == {"id": "2", "type": "next", "payload": {"data": {"createItem": {"__typename": "Item"}}}}
        assert await talk.hear() == {"id": "2", "type": "complete"}
        assert await talk.closed() == (1012, "Service restart")


async def test_leaves_nothing_behind(service: Service, connections: ConnectionRegistry) -> None:
    async with talking(service) as talk:
        await heard_after_start(talk, service)
        assert len(connections) == 1
    await until(lambda: not len(connections))
    assert not [task for task in asyncio.all_tasks() if "Operations" in repr(task.get_coro())]
