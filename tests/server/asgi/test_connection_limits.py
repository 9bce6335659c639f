"""A connection that is slow, idle, or one of too many …"""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from graph.server.asgi.protocols.http_protocol import HTTP_CONNECTIONS, HttpConnections, HttpProtocol
from graph.server.asgi.protocols.transport import BufferedTransport, ReadRate, WireLimits
from tests.server.asgi.test_http_protocol import ANSWERS, DATE, Impatient, Served, answers, body, get, start
from tests.support.clients.raw_http import HANDSHAKE, UPGRADE, connected, head, length
from tests.support.endpoints import stop_reading, until

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.support.service import Service


@pytest.mark.parametrize("sent", [get("/large"), get("/large") * 50, get("/stalled")])
async def test_that_does_not_read_is_let_go(sent: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    ended = list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/large":
            await send(start(200, length(2**24)))
            await send(body(bytes(2**24)))
            return
        await send(start())
        watching = asyncio.create_task(_disconnected(receive))
        while not watching.done():
            await send(body(bytes(2**16), more_body=True))
            await asyncio.sleep(0)
        ended.append("stream")

    served = Served(app, Impatient)
    async with served.client() as (_, writer):
        stop_reading(writer)
        writer.write(sent)
        await until(lambda: bool(served.state.connections))
        await until(lambda: not served.state.connections)
    assert bool(ended) == (b"stalled" in sent)
    assert capsys.readouterr().out.count("connection aborted: the client does not read") == 1


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_is_slow_only_where_it_takes_less_than_it_could() -> None:
    reading = ReadRate(0.0)
    assert reading.slow_for(5, delivered=0, unread=10_000_000, least_rate=4_096) == 0
    assert reading.slow_for(10, delivered=4_096 * 5, unread=9_900_000, least_rate=4_096) == 0
    assert reading.slow_for(15, delivered=4_096 * 10 - 1, unread=9_900_000, least_rate=4_096) == 5
    assert reading.slow_for(20, delivered=4_096 * 10, unread=1, least_rate=4_096) == 10
    assert reading.slow_for(25, delivered=4_096 * 10 + 1, unread=9_000, least_rate=4_096) == 0  # All that there was.
    assert reading.slow_for(30, delivered=4_096 * 10 + 1, unread=0, least_rate=4_096) == 5
    assert reading.slow_for(35, delivered=4_096 * 10 + 1, unread=0, least_rate=4_096) == 0


@pytest.mark.parametrize(
    "sent", [get("/whole"), get("/whole") * 100, get("/silent-stream") + get("/whole") * 1_000, b"GET / HT", b"x", b"", get("/big") * 9]
)
async def test_leaves_nothing_to_the_garbage_collector(sent: bytes) -> None:
    """Collections of old objects are rare on purpose, see `process`: memory that waited for one would be gone for good."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in ANSWERS:
            await answers(scope, receive, send)
        elif scope["path"] == "/big":
            await send(start(200, length(2**20)))
            await send(body(bytes(2**20)))
        else:
            await receive()
            await send(start())
            await _disconnected(receive)

    made = list[weakref.ref[Any]]()

    class Seen(Impatient):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            made.extend([weakref.ref(self), weakref.ref(self._buffered)])

    served = Served(app, Seen)
    gc.collect()
    gc.disable()
    try:
        async with served.client() as (_, writer):
            writer.write(sent)
            await until(lambda: bool(made))
            for _ in range(20):
                await asyncio.sleep(0)
            writer.transport.abort()
            await until(lambda: not served.state.connections and not served.state.tasks)
            await until(lambda: all(each() is None for each in made))
    finally:
        gc.enable()


def test_is_served_within_limits_that_are_stated() -> None:
    limits = WireLimits()
    assert (limits.head_bytes, limits.head_fields, limits.waiting_requests) == (32_768, 100, 16)
    assert limits.slow_seconds + 2 * limits.check_seconds <= 30
    assert limits.idle_seconds + limits.check_seconds < 60
    assert BufferedTransport.__doc__
    assert DATE


async def test_has_so_many_connections_and_one_more_for_an_idle_one() -> None:
    gate, connections = asyncio.Event(), HttpConnections(3, lambda _: False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await gate.wait()
        for message in (start(200, (b"content-length", b"2")), body(b"ok")):
            await send(message)

    served = Served(app, HttpProtocol)
    served.app_state = {HTTP_CONNECTIONS: connections}
    server = await asyncio.get_running_loop().create_server(served.connection, "127.0.0.1", 0)
    async with asyncio.timeout(60), server:
        port = server.sockets[0].getsockname()[1]
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await until(lambda: len(connections) == 3)
        for (reader, writer), path in zip(opened, ("/wait", "/wait", "/"), strict=True):
            writer.write(get(path))
            if path == "/":
                assert (await reader.read(65_536)).endswith(b"ok")
        await until(lambda: len(served.state.tasks) == 2)
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        assert await opened[2][0].read() == b""  # It was idle, and gave its place.
        opened[3][1].write(get("/wait"))
        await until(lambda: len(served.state.tasks) == 3)
        refused, _ = await asyncio.open_connection("127.0.0.1", port)
        answer = await refused.read()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Too many connections are open from your network: close one." in answer
        gate.set()
        for reader, _ in (opened[0], opened[1], opened[3]):
            assert (await reader.read(65_536)).endswith(b"ok")
        for _, writer in opened:
            writer.close()
        await until(lambda: len(connections) == 0)


async def test_shares_no_places_with_other_networks_or_proxies() -> None:
    connections, served = HttpConnections(1, lambda address: address == "192.0.2.9"), Served(answers, HttpProtocol)
    made: list[Any] = [served.connection() for _ in range(6)]
    first, *others = made
    assert connections.register(first, "2001:db8::1") == "2001:db8::/64"
    first._begun = True
    assert connections.register(others[0], "2001:db8::ffff") is None
    assert connections.register(others[1], "2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert [connections.register(each, "192.0.2.9") for each in others[2:4]] == ["", ""]
    connections.unregister(first, "2001:db8::/64")
    connections.unregister(first, "2001:db8::/64")
    assert connections.register(others[4], "2001:db8::2") == "2001:db8::/64"
    assert len(connections) == 2


async def test_is_counted_by_the_service_until_it_is_a_websocket(embedded: Service) -> None:
    async with connected(embedded) as (reader, writer):
        writer.write(head("Host: here"))
        assert (await reader.read(65_536)).startswith(b"HTTP/1.1 200 OK")
        port = int(embedded.url.rpartition(":")[2])
        counted = next(each._connections for each in protocols() if each._connections is not None and each.server[1] == port)
        before = len(counted)
        async with connected(embedded) as (other, upgraded):
            upgraded.write(head("Host: here", *UPGRADE, line=HANDSHAKE))
            assert (await other.read(65_536)).startswith(b"HTTP/1.1 101 ")
            assert len(counted) == before


def protocols() -> list[Any]:
    return [each for each in gc.get_objects() if isinstance(each, HttpProtocol)]
