"""GraphQL over server-sent events. Quotations are from graphql-sse's PROTOCOL.md, "Distinct connections mode", unless they say otherwise."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from graph.echo import EchoMessage, topic
from graph.server.asgi.protocols import http_protocol
from graph.server.graphql.subscriptions import sse
from tests.support.endpoints import stop_reading, until
from tests.support.load.slow_clients import Target
from tests.support.servers.short_deadlines import LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry
    from tests.support.service import Service

STREAM = {"Accept": "text/event-stream"}
GREETED = 'subscription ($channel: ID! = "a") { echo(channel: $channel, message: "hello") { text } }'
CREATE = 'mutation ($name: String!) { createItem(input: { name: $name, price: "1.00" }) { __typename } }'
EVENTS = "subscription ($after: String) { itemEvents(after: $after) { ... on Event { cursor } } }"
Event = dict[str, str]


@pytest.fixture
def service(embedded: Service) -> Service:
    return embedded


@pytest.fixture
def connections(embedded: Service) -> ConnectionRegistry:
    return embedded.app.state.connections


class Stream:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines: AsyncIterator[str] = response.aiter_lines()

    async def event(self) -> Event:
        """The next event's fields; a comment counts as one, under the name `comment`."""
        event: Event = {}
        async for line in self._lines:
            if not line:
                return event
            name, _, value = line.partition(":")
            event[name or "comment"] = value.removeprefix(" ")
        raise EOFError

    async def result(self) -> Any:
        event = await asyncio.wait_for(self.event(), 10)
        assert event["event"] == "next", event
        return json.loads(event["data"])

    async def rest(self) -> list[Event]:
        events: list[Event] = []
        try:
            while True:
                events.append(await asyncio.wait_for(self.event(), 10))
        except EOFError:
            return events


@asynccontextmanager
async def streaming(
    service: Service, query: str, *, token: str | None = None, method: str = "POST", last: str | None = None, **variables: Any
) -> AsyncGenerator[Stream]:
    headers = STREAM | ({"Authorization": f"Bearer {token}"} if token else {}) | ({"Last-Event-ID": last} if last else {})
    asked: dict[str, Any] = {"json": {"query": query, "variables": variables}}
    if method == "GET":
        asked = {"params": {"query": query, "variables": json.dumps(variables)}}
    async with service.http.stream(method, "/graphql", headers=headers, **asked) as response:
        assert response.status_code == 200
        # "The Content-Type MUST always be text/event-stream as per the Server-Sent Events spec."
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert "Content-Encoding" not in response.headers  # a compressor would hold events back
        yield Stream(response)


async def echo(service: Service, message: str) -> None:
    await service.ask('mutation ($message: String!) { sendEcho(channel: "a", message: $message) { text } }', {"message": message})


@pytest.mark.parametrize("method", ["POST", "GET", "QUERY"])
async def test_streams_the_results_of_a_subscription(service: Service, method: str) -> None:
    """next event: "Operation execution result(s) from the source stream"."""
    async with streaming(service, GREETED, method=method, channel="a") as stream:
        assert await stream.result() == {"data": {"echo": {"text": "echo: hello"}}}
        await echo(service, "news")
        assert await stream.result() == {"data": {"echo": {"text": "echo: news"}}}


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_completes_after_a_single_result(service: Service, method: str) -> None:
    """complete event: "Include an empty data: field when sending the message to a client that uses EventSource"."""
    async with streaming(service, "{ __typename }", method=method) as stream:
        assert await stream.rest() == [{"event": "next", "data": '{"data":{"__typename":"Query"}}'}, {"event": "complete", "data": ""}]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription ($id: ID!) { echo(channel: $id) { text } }", "BAD_USER_INPUT"),
    ],
)
async def test_reports_what_was_not_run_as_an_event(service: Service, query: str, code: str) -> None:
    """2.: "Validation steps that run before execution of the GraphQL operation MUST report errors through an accepted SSE connection by emitting
    next events that contain the errors in the data field"."""
    async with streaming(service, query) as stream:
        (error,) = (refused := await stream.result())["errors"]
        assert ("data" in refused, error["extensions"]["code"]) == (False, code)
        assert await stream.rest() == [{"event": "complete", "data": ""}]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Authorization": "Bearer forged"}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_refuses_by_status_what_is_no_graphql_request(service: Service, headers: dict[str, str], status: int) -> None:
    """HTML Living Standard, section 9.2.3: a status other than 200 makes a browser give up, where it would otherwise reconnect for ever."""
    sent = {"Content-Type": "application/json"} | STREAM | headers
    response = await service.http.post("/graphql", content=json.dumps({"query": GREETED}), headers=sent)
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/json; charset=utf-8")


async def test_runs_no_mutation_by_get(service: Service) -> None:
    headers = STREAM | {"Authorization": f"Bearer {await service.sign_in()}"}
    response = await service.http.get("/graphql", params={"query": CREATE, "variables": '{"name": "Kettle"}'}, headers=headers)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert (await service.ask("{ items { edges { cursor } } }"))["items"]["edges"] == []


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_needs_a_client_that_reads_event_streams(service: Service, accept: str) -> None:
    response = await service.http.post("/graphql", json={"query": GREETED}, headers={"Accept": accept})
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (406, "BAD_USER_INPUT")


async def test_streams_to_a_client_that_takes_anything(service: Service) -> None:
    async with service.http.stream(
        "POST", "/graphql", json={"query": GREETED}, headers={"Accept": "application/json, text/event-stream"}
    ) as response:
        assert await Stream(response).result() == {"data": {"echo": {"text": "echo: hello"}}}


async def test_sends_a_heartbeat(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTML Living Standard, section 9.2.7: "authors can include a comment line (one starting with a ':' character) every 15 seconds or so"."""
    assert sse.HEARTBEAT_SECONDS <= 15
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.01)
    async with streaming(service, GREETED) as stream:
        await stream.result()
        assert await stream.event() == {"comment": ""}


async def create(service: Service, token: str, name: str) -> None:
    await service.ask(CREATE, {"name": name}, token=token)


async def test_carries_the_events_cursor(service: Service) -> None:
    """HTML Living Standard, section 9.2.6: "If the field name is "id" … set the last event ID buffer to the field value"."""
    token = await service.sign_in()
    async with streaming(service, EVENTS, token=token) as stream:
        # The stream may begin after the first of these; that it has begun, only an event tells.
        heard = asyncio.ensure_future(stream.event())
        while not heard.done():
            await create(service, token, "Kettle")
            await asyncio.wait([heard], timeout=0.1)
        event = heard.result()
    assert event["id"] == json.loads(event["data"])["data"]["itemEvents"]["cursor"]


FRAGMENTS = """subscription { ... { ...Events } }
fragment Events on Subscription { itemEvents { ... on Event { cursor } ... on ItemCreated { item { name } } } }"""


@pytest.mark.parametrize("arguments", ["", '(after: "nonsense")', "(itemIds: null)"])
async def test_goes_on_after_the_last_event_that_a_client_has(service: Service, arguments: str) -> None:
    """HTML Living Standard, section 9.2.4: "The Last-Event-ID HTTP request header reports an EventSource object's last event ID string to the
    server when the user agent is to reestablish the connection"."""
    token = await service.sign_in()
    await create(service, token, "Kettle")
    start = service.services.feed.cursor(0)
    query = FRAGMENTS.replace("itemEvents", f"itemEvents{arguments}")
    ids: list[str] = []
    for name in ("Pan", "Pot"):
        await create(service, token, name)
    for last, names in ((start, ["Kettle", "Pan", "Pot"]), (None, ["Pan", "Pot"])):
        async with streaming(service, query, token=token, last=last or ids[0]) as stream:
            events = [await asyncio.wait_for(stream.event(), 10) for _ in names]
        ids = [event["id"] for event in events]
        assert [json.loads(event["data"])["data"]["itemEvents"]["item"]["name"] for event in events] == names


async def test_ends_without_a_complete_when_the_token_does(service: Service, connections: ConnectionRegistry) -> None:
    """So that the client comes back, and learns by a 401 that it needs a new one."""
    async with streaming(service, GREETED, token=await service.sign_in()) as stream:
        await stream.result()
        await connections.check(datetime.now(UTC) + timedelta(days=1))
        assert await stream.rest() == []


async def test_ends_without_a_complete_when_the_process_stops(service: Service, connections: ConnectionRegistry) -> None:
    async with streaming(service, GREETED) as stream:
        await stream.result()
        await connections.drain(10)
        connections.draining = False
        assert await stream.rest() == []


async def test_opens_a_bounded_number_of_streams_for_a_caller(
    service: Service, connections: ConnectionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_per_caller", 1)
    async with streaming(service, GREETED) as stream:
        await stream.result()
        response = await service.http.post("/graphql", json={"query": GREETED}, headers=STREAM)
        assert (response.status_code, response.headers["Retry-After"]) == (429, "10")
        assert response.json()["errors"][0]["extensions"] == {"code": "RATE_LIMITED", "retryAfter": 10}


async def test_notices_that_the_client_has_gone(service: Service, connections: ConnectionRegistry) -> None:
    """ "Streaming operations … are terminated/completed by having the client simply close the SSE connection"."""
    async with streaming(service, GREETED) as stream:
        await stream.result()
        assert len(connections) == 1
    await until(lambda: not len(connections))


async def test_has_fields_of_its_own(service: Service) -> None:
    """A head that streams shared collected the ids and times of all that came before."""
    for query in (GREETED, "{", "{ __typename }") * 3:
        async with streaming(service, query) as stream:
            names = [name for name, _ in stream.response.headers.raw]
            assert len(names) == len(set(names)), names
            assert {b"x-request-id", b"x-process-time"} <= set(names)


async def test_frees_its_place_when_its_client_does_not_read(
    service: Service, connections: ConnectionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol.HttpProtocol, "limits", LIMITS)
    monkeypatch.setattr(connections, "_per_caller", 1)
    target = Target(int(service.url.rpartition(":")[2]), "", "")
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        writer.write(target.post(GREETED, "Accept: text/event-stream", channel="flood"))
        await reader.readuntil(b"hello")
        stop_reading(writer)
        (stream,) = connections
        async with asyncio.timeout(60):
            while stream in set(connections):
                await service.services.broker.publish(topic("flood"), EchoMessage.of("flood", "x" * 1_000).to_bytes())
                await asyncio.sleep(0)
        async with streaming(service, GREETED) as another:
            assert await another.result() == {"data": {"echo": {"text": "echo: hello"}}}
    finally:
        writer.close()


@pytest.mark.parametrize("behind", [b"", b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_frees_its_place_at_once_when_its_client_leaves(service: Service, connections: ConnectionRegistry, behind: bytes) -> None:
    """Whatever else was asked for on the connection."""
    target = Target(int(service.url.rpartition(":")[2]), "", "")
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(target.post(GREETED, "Accept: text/event-stream", channel="a") + behind)
    await reader.readuntil(b"hello")
    assert len(connections) == 1
    writer.transport.abort()
    await until(lambda: not len(connections))
