"""A client that sends any frames on a WebSocket, or reads none …"""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from websockets.frames import Frame, Opcode

from graph.echo import EchoMessage, topic
from graph.kit.limits.rate_limits import CONNECTION, RateLimitRule
from graph.server.asgi.protocols import http_protocol, websocket_protocol
from graph.server.asgi.protocols.transport import BufferedTransport, WireLimits
from graph.server.asgi.protocols.websocket_protocol import FrameLimits, FrameRate
from graph.server.graphql.subscriptions import connection_registry as registry
from graph.server.graphql.subscriptions.socket_operations import SocketOperations
from graph.server.graphql.subscriptions.websocket import Socket
from tests.support.clients.websocket_frames import bearer, talking
from tests.support.endpoints import go_on_reading, stop_reading, until
from tests.support.load.slow_clients import INIT, Target, frame, message
from tests.support.servers.short_deadlines import LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from graph.server.graphql.subscriptions.connection_registry import ConnectionRegistry
    from tests.support.service import Service

TEXT, CONTINUATION, BINARY, PING, PONG = 1, 0, 2, 9, 10
CREATE = 'mutation { createItem(input: { name: "Kettle", price: "1.00" }) { __typename } }'


@pytest.fixture
def service(embedded: Service) -> Service:
    return embedded


@pytest.fixture
def connections(embedded: Service) -> ConnectionRegistry:
    return embedded.app.state.connections


class Raw:
    """A socket of whose frames each bit is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def message(self) -> Any:
        opcode, data = await self.frame()
        assert opcode == TEXT
        return json.loads(data)

    async def closed(self) -> tuple[int, str]:
        """The code and reason of the close that comes after whatever came before; then the end of the connection."""
        while True:
            opcode, data = await self.frame()
            if opcode == 8:
                await self.reader.read()
                return int.from_bytes(data[:2]), data[2:].decode()


@asynccontextmanager
async def raw(service: Service, *, init: bool = True) -> AsyncGenerator[Raw]:
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writer.write(Target(port, "", "").handshake)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            client = Raw(reader, writer)
            if init:
                writer.write(INIT)
                assert await client.message() == {"type": "connection_ack"}
            yield client
    finally:
        writer.close()


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize(
    "frames",
    [
        frame(b"", PONG) * 5_000,
        frame(b"x" * 125, PING) * 5_000,
        frame(b"", TEXT, fin=False) + frame(b"", CONTINUATION, fin=False) * 5_000,
        frame(b"{", TEXT, fin=False) + frame(b"", CONTINUATION, fin=False) * 5_000,
        frame(b"{", TEXT, fin=False) + frame(b" ", CONTINUATION, fin=False) * 5_000,
        frame(b"{", TEXT, fin=False) + (frame(b" ", CONTINUATION, fin=False) + frame(b"", PONG)) * 5_000,
    ],
)
async def test_is_closed_when_it_sends_too_many_frames(service: Service, frames: bytes, init: bool) -> None:
    """RFC 6455, section 7.4.1: "1008 indicates that an endpoint is terminating the connection because it has received a message that violates its policy"."""
    async with raw(service, init=init) as client:
        client.writer.write(frames)
        assert await client.closed() == (1008, "Too many frames")
    assert (await service.http.get("/live")).status_code == 200


async def test_is_closed_once(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """What the application says after the protocol has closed is nobody's error."""
    async with raw(service) as client:
        client.writer.write(message(type="nonsense") + frame(b"", PONG) * 5_000)
        assert (await client.closed())[0] in {1008, 4400}
        client.writer.close()
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("first", [message(type="nonsense"), frame(b"", PONG) * 5_000, frame(b"x", PONG, fin=False)])
async def test_is_aborted_when_it_sends_on_after_it_was_closed(service: Service, first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read and drop what comes takes a processor, for as long as the client may take to answer the close."""
    monkeypatch.setattr(websocket_protocol.WebSocketProtocol, "limits", WireLimits(linger_bytes=50_000, close_seconds=1_000))
    async with raw(service) as client:
        client.writer.write(first)
        with pytest.raises(ConnectionError):  # noqa: PT012 -- which of the writes it is, nobody can say
            while True:
                client.writer.write(frame(b"", PONG) * 5_000)
                await client.writer.drain()
                await asyncio.sleep(0)


def test_counts_frames_of_each_second() -> None:
    rate = FrameRate(FrameLimits(RateLimitRule("10/second", by=CONNECTION), RateLimitRule("2/second", by=CONNECTION)))
    text, pong, empty = Frame(Opcode.TEXT, b"x"), Frame(Opcode.PONG, b"x"), Frame(Opcode.CONT, b"")
    assert [rate.is_exceeded(events, 7.1) for events in ([text] * 8, [pong], [empty])] == [False, False, False]
    assert [rate.is_exceeded([text], now) for now in (7.9, 8.0)] == [True, False]
    assert [rate.is_exceeded([each], 8.5) for each in (pong, empty, pong)] == [False, False, True]


async def test_is_closed_when_a_message_has_too_many_pieces(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly they come: each takes memory, whatever is in it."""
    monkeypatch.setattr(websocket_protocol.WebSocketProtocol, "frame_limits", FrameLimits(fragments=10))
    async with raw(service) as client:
        client.writer.write(frame(b"{", TEXT, fin=False) + frame(b"", CONTINUATION, fin=False) * 10)
        assert await client.closed() == (1008, "Too many fragments")


async def test_may_send_a_message_in_pieces_with_pings_between_them(service: Service) -> None:
    """RFC 6455, section 5.4: "Control frames … MAY be injected in the middle of a fragmented message"."""
    async with raw(service) as client:
        pieces = [b'{"type":', b'"ping", "payload":', b'{"a": 1', b"}}"]
        client.writer.write(frame(pieces[0], TEXT, fin=False))
        for piece in pieces[1:]:
            client.writer.write(frame(b"p", PING) + frame(piece, CONTINUATION, fin=piece == b"}}"))
        assert [await client.frame() for _ in pieces[1:]] == [(PONG, b"p")] * 3
        assert await client.message() == {"type": "pong", "payload": {"a": 1}}


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("type_", ["ping", "pong", "complete"])
async def test_is_closed_when_it_sends_too_many_messages(service: Service, type_: str, init: bool) -> None:
    async with raw(service, init=init) as client:
        client.writer.write(message(type=type_, id="x") * 500)
        assert await client.closed() == (1008, "Too many messages")


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("type_", ["ping", "pong", "complete", "connection_init"])
async def test_gets_no_large_payload_back(service: Service, type_: str, init: bool) -> None:
    async with raw(service, init=init) as client:
        client.writer.write(message(type=type_, id="x", payload={"a": "x" * 8_192}))
        assert await client.closed() == (1009, "Message too big")


async def test_may_send_a_long_token(service: Service) -> None:
    token = await service.sign_in()
    async with talking(service, init={**bearer(token), "padding": "x" * 4_096}) as talk:
        assert (await talk.result(CREATE))["payload"] == {"data": {"createItem": {"__typename": "Item"}}}


ECHO = 'subscription { echo(channel: "flood") { text } }'


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_protocol.WebSocketProtocol, "limits", LIMITS)
    monkeypatch.setattr(http_protocol.HttpProtocol, "limits", LIMITS)
    monkeypatch.setattr(registry, "CLOSING_SECONDS", 0.1)


def of(connections: ConnectionRegistry, before: set[Any]) -> Socket:
    (socket,) = set(connections) - before
    assert isinstance(socket, Socket)
    return socket


@asynccontextmanager
async def stalled(
    service: Service, connections: ConnectionRegistry, token: str | None = None, *more: bytes
) -> AsyncGenerator[tuple[Raw, Socket]]:
    """A subscriber for whom more waits than there is room for, and who reads none of it. `more` it has sent before."""
    before = set[Any](connections)
    async with raw(service, init=False) as client:
        client.writer.write(message(type="connection_init", payload=bearer(token) if token else None))
        assert await client.message() == {"type": "connection_ack"}
        socket = of(connections, before)
        stop_reading(client.writer)
        client.writer.write(b"".join(more) + message(type="subscribe", id="1", payload={"query": ECHO}))
        while not waiting(socket):
            await service.services.broker.publish(topic("flood"), EchoMessage.of("flood", "x" * 1_000).to_bytes())
            await asyncio.sleep(0)
        yield client, socket


def waiting(socket: Socket) -> int:
    assert isinstance(socket.transport, BufferedTransport)
    return socket.transport.get_write_buffer_size()


async def test_that_does_not_read_is_let_go(service: Service, connections: ConnectionRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    async with stalled(service, connections) as (client, socket), raw(service) as another:
        await until(lambda: socket not in set(connections))
        go_on_reading(client.writer)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.closed()
        another.writer.write(message(type="ping"))
        assert await another.message() == {"type": "pong"}
        assert len(connections) == 1
    logged = capsys.readouterr().out
    assert (logged.count("the client does not read"), logged.count("Traceback"), logged.count("error")) == (1, 0, 0)


async def test_has_its_place_until_it_is_gone(service: Service, connections: ConnectionRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the service thinks of it meanwhile: 15 sockets were open once where 5 were allowed."""
    monkeypatch.setattr(connections, "_per_caller", 1)
    monkeypatch.setattr(websocket_protocol.WebSocketProtocol, "limits", WireLimits())
    async with talking(service, init=False):
        await until(lambda: len(connections) == 1)
    await until(lambda: len(connections) == 0)
    async with stalled(service, connections) as (_, socket):
        ending = asyncio.create_task(socket.end("Token revoked"))
        await asyncio.sleep(0)
        async with raw(service, init=False) as second:
            second.writer.write(INIT)
            assert await second.closed() == (1013, "You have 1 connections open; close one.")
        assert socket in set(connections)
        connections.abort(socket)
        await until(lambda: len(connections) == 0)
        await ending
        async with raw(service):
            assert len(connections) == 1


@pytest.mark.parametrize("token_ends", [True, False])
async def test_that_does_not_read_gives_its_place_back_when_it_is_shut_out(
    service: Service, connections: ConnectionRegistry, token_ends: bool
) -> None:
    token = await service.sign_in()
    async with stalled(service, connections, token):
        if token_ends:
            await connections.check(datetime.now(UTC) + timedelta(days=1))
        else:
            await connections.drain(10)
            connections.draining = False
        await until(lambda: len(connections) == 0)


async def test_that_does_not_read_gives_its_place_back_while_a_mutation_runs(service: Service, connections: ConnectionRegistry) -> None:
    """The change is made, its answer has nobody to go to, and a place that waited for the one or the other was lost for good."""
    token, create = await service.sign_in(), message(type="subscribe", id="2", payload={"query": CREATE})
    # The transaction holds SQLite's one writer, and with it the mutation.
    async with service.database.transaction(), stalled(service, connections, token, create) as (_, socket):
        await until(lambda: socket not in set(connections))
    async with asyncio.timeout(10):
        while not (await service.ask("{ items { nodes { name } } }"))["items"]["nodes"]:
            pass
    await until(lambda: not [task for task in asyncio.all_tasks() if "Operations" in repr(task.get_coro())])


async def test_that_never_answers_a_close_is_let_go(service: Service, connections: ConnectionRegistry) -> None:
    async with raw(service) as client:
        client.writer.write(message(type="subscribe", id="1"))
        assert (await client.frame())[0] == 8
        assert len(connections) == 1
        await until(lambda: len(connections) == 0)
        assert await client.reader.read() == b""


@pytest.mark.parametrize("kind", ["silent", "init", "subscribed", "ended", "refused", "failed"])
async def test_leaves_nothing_to_the_garbage_collector(
    service: Service, connections: ConnectionRegistry, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collections of old objects are rare on purpose, see `process`: memory that waited for one would be gone for good."""
    made = list[weakref.ref[Any]]()
    for made_of in (websocket_protocol.WebSocketProtocol, BufferedTransport, Socket, SocketOperations):
        remember(made_of, made, monkeypatch)
    gc.collect()
    gc.disable()
    try:
        if kind == "failed":
            reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
            writer.write(Target(0, "", "").handshake.replace(b"Version: 13", b"Version: 12"))
            await reader.read()
            writer.close()
        else:
            async with raw(service, init=kind != "silent") as client:
                if kind in {"subscribed", "ended"}:
                    client.writer.write(message(type="subscribe", id="1", payload={"query": ECHO}))
                    await until(lambda: running(connections) == 1)
                if kind == "ended":
                    client.writer.write(message(type="complete", id="1"))
                    await until(lambda: running(connections) == 0)
                if kind == "refused":
                    client.writer.write(message(type="nonsense"))
                    await client.closed()
        assert made
        await until(lambda: not [each for each in made if each() is not None])
    finally:
        gc.enable()


def running(connections: ConnectionRegistry) -> int:
    sockets: list[Any] = [each for each in connections if isinstance(each, Socket)]
    return sum(len(each._operations._running) for each in sockets)


def remember(class_: type[Any], made: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    initialise = class_.__init__

    def initialised(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(weakref.ref(self))
        initialise(self, *args, **kwargs)

    monkeypatch.setattr(class_, "__init__", initialised)
