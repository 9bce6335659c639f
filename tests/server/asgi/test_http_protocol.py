"""The wire carries what uvicorn's own protocol would, byte for byte: each exchange is held with both.

What it does otherwise is in test_request_heads, test_pipelining and test_connection_limits.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from graph.server.asgi.protocols.http_protocol import HTTP_CONNECTIONS, HttpConnections, HttpProtocol
from graph.server.asgi.protocols.transport import WireLimits
from graph.server.cli.serve import KEEP_ALIVE_SECONDS
from tests.support.endpoints import until
from tests.support.servers.short_deadlines import LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

DATE = b"Tue, 24 Nov 2026 12:00:00 GMT"
LAST = b"GET /last HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
LAST_ANSWER = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlast" % DATE


class Impatient(HttpProtocol):
    limits = LIMITS


class Served:
    """An application on a port of its own, under either protocol."""

    def __init__(self, app: ASGIApp, protocol: type[HttpToolsProtocol], **options: Any) -> None:
        self._config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", **options)
        self._protocol, self.state, self.port = protocol, ServerState(), 0
        self.app_state: dict[str, Any] = {}
        self.state.default_headers = [(b"date", DATE)]

    def connection(self) -> HttpToolsProtocol:
        return self._protocol(self._config, self.state, self.app_state)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        server = await asyncio.get_running_loop().create_server(self.connection, "127.0.0.1", 0)
        async with asyncio.timeout(60), server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
            yield reader, writer
            writer.close()
            await until(lambda: not self.state.tasks)

    async def exchange(self, *parts: bytes) -> bytes:
        """All that comes until the connection ends, each part sent when the last has had an answer."""
        async with self.client() as (reader, writer):
            received = b""
            for part in parts:
                writer.write(part)
                received += await reader.read(65_536)
            return received + await reader.read()


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(text: bytes = b"", **more: bool) -> Message:
    return {"type": "http.response.body", "body": text, **more}


def length(number: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % number


ANSWERS: dict[str, list[Message]] = {
    "/whole": [start(200, (b"x-tab", b"a\tb"), (b"x-100%", b"100 %d"), length(5)), body(b"whole")],
    "/empty": [start(200, length(0)), {"type": "http.response.body"}],
    "/named": [start(200, (b"X-Loud", b"A"), (b"Content-Length", b"5")), body(b"named")],
    "/last": [start(200, length(4)), body(b"last")],
    "/closing": [start(200, length(3), (b"connection", b"close")), body(b"bye")],
    "/stream": [start(), body(b"some", more_body=True), body(b"more")],
    "/pieces": [start(200, length(8)), body(b"some", more_body=True), body(b"more")],
    "/ended": [start(200, length(5)), body(b"whole", more_body=True), body()],
    "/known": [start(304, (b"etag", b'"1"')), body()],
    "/deleted": [start(204), body()],
    "/chunked": [start(200, (b"transfer-encoding", b"chunked"), length(9)), body(b"chunk")],
    "/twice": [start(200, length(2)), body(b"me"), start(200, length(2)), body(b"me")],
    "/lengths": [start(200, length(2), length(8)), body(b"too long")],
    "/trailers": [start(200, length(0)), {"type": "http.response.trailers", "headers": []}],
    "/short": [start(200, length(9)), body(b"short")],
    "/long": [start(200, length(2)), body(b"too long")],
    "/begun": [start(200, length(2)), start(200, length(2))],
    "/silent": [],
}


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "POST":
        await receive()
    for message in ANSWERS[scope["path"]]:
        await send(dict(message))
    if scope["method"] == "PUT":
        await receive()


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/{version}", "Host: here", *headers, "")).encode()


async def assert_same(*parts: bytes) -> None:
    ours, theirs = Served(answers, HttpProtocol), Served(answers, HttpToolsProtocol)
    assert await ours.exchange(*parts) == await theirs.exchange(*parts)
    assert ours.state.total_requests == theirs.state.total_requests


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_carries_each_kind_of_answer(path: str, method: str) -> None:
    await assert_same(get(path, method=method) + LAST)


@pytest.mark.parametrize(
    "parts",
    [
        (get("/whole"), get("/whole"), get("/stream"), get("/whole"), LAST),
        (get("/whole") + get("/stream") + get("/whole") + LAST,),
        (get("/whole", version="1.0"),),
        (get("/whole", "Connection: keep-alive", version="1.0"),),
        (get("/whole", "Connection: close"),),
        (get("/whole", "Expect: 100-continue", "Content-Length: 2", method="POST"), b"{}", LAST),
        (get("/whole", "Expect: 100-continue", "Content-Length: 2", method="PUT") + b"{}" + LAST,),
        (get("/stream", "Expect: 100-continue", "Content-Length: 2", method="POST"), b"{}", LAST),
    ],
)
async def test_carries_one_answer_after_another(parts: tuple[bytes, ...]) -> None:
    await assert_same(*parts)


async def test_frames_a_whole_answer() -> None:
    received = await Served(answers, HttpProtocol).exchange(get("/whole") + LAST)
    assert received == b"HTTP/1.1 200 OK\r\ndate: %b\r\nx-tab: a\tb\r\nx-100%%: 100 %%d\r\ncontent-length: 5\r\n\r\nwhole%b" % (
        DATE,
        LAST_ANSWER,
    )


@pytest.mark.parametrize(
    "header",
    [
        (b"x-name", b"a\r\nset-cookie: b"),
        (b"x-name", b"a\nb"),
        (b"x-name", b"a\x00"),
        (b"x-name: a\r\nset-cookie", b"b"),
        (b"x name", b"a"),
    ],
)
async def test_carries_no_field_that_breaks_out_of_its_line(header: tuple[bytes, bytes]) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start(200, length(2), header))
        await send(body(b"ok"))

    received = await Served(app, HttpProtocol).exchange(get("/"))
    head = b"HTTP/1.1 500 Internal Server Error\r\ndate: %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n" % DATE
    assert received == head + b"connection: close\r\n\r\nInternal Server Error"


async def test_carries_the_head_of_a_stream_before_there_is_more() -> None:
    more = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start())
        await more.wait()
        await send(body(b":\n\n"))

    served = Served(app, HttpProtocol)
    served.state.default_headers = []
    async with served.client() as (reader, writer):
        writer.write(get("/"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        more.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\n:\n\n\r\n0\r\n\r\n"


async def test_tells_who_watches_for_the_end_of_an_answer() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        watching = asyncio.create_task(_type_of(receive))
        await asyncio.sleep(0)
        for message in ANSWERS["/whole"]:
            await send(dict(message))
        seen.append(await watching)

    seen = list[str]()
    await Served(app, HttpProtocol).exchange(get("/") + LAST)
    assert seen == ["http.disconnect"] * 2


async def _type_of(receive: Receive) -> str:
    return (await receive())["type"]


async def test_writes_nothing_to_a_client_that_has_gone() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert await _type_of(receive) == "http.disconnect"
        for message in ANSWERS["/whole"]:
            await send(dict(message))
        done.append(True)

    done, served = list[bool](), Served(app, HttpProtocol)
    async with served.client() as (_, writer):
        writer.write(get("/"))
        await until(lambda: bool(served.state.tasks))
    assert (done, served.state.total_requests) == ([True], 0)


async def test_waits_for_a_client_that_does_not_keep_up() -> None:
    large = b"x" * 2**24

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        began.append(True)
        await send(start(200, length(len(large))))
        await send(body(large))
        sent.append(True)

    began, sent, served = list[bool](), list[bool](), Served(app, HttpProtocol)
    async with served.client() as (reader, writer):
        writer.write(get("/") + get("/"))
        await until(lambda: len(began) == 2)
        await asyncio.sleep(0)
        assert len(sent) == 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(large)) == large
    assert len(sent) == 2


@pytest.mark.parametrize(("is_proxy", "seconds"), [(False, WireLimits().idle_seconds), (True, KEEP_ALIVE_SECONDS)])
async def test_ends_a_connection_that_is_idle(is_proxy: bool, seconds: float) -> None:
    served = Served(answers, HttpProtocol, timeout_keep_alive=KEEP_ALIVE_SECONDS)
    served.app_state = {HTTP_CONNECTIONS: HttpConnections(1, lambda _: is_proxy)}
    async with served.client() as (reader, writer):
        writer.write(get("/whole"))
        await reader.readuntil(b"\r\n\r\nwhole")
        connection: Any = next(iter(served.state.connections))
        connection.check_progress(connection._idle_since + seconds - 1)
        assert not connection.transport.is_closing()
        connection.check_progress(connection._idle_since + seconds)
        assert await reader.read() == b""


async def test_leaves_a_connection_that_is_used() -> None:
    done = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/named":
            await done.wait()
        await answers(scope, receive, send)

    served = Served(app, Impatient, timeout_keep_alive=0)
    async with served.client() as (reader, writer):
        writer.write(get("/whole") + get("/named") + LAST)
        await reader.readuntil(b"\r\n\r\nwhole")
        (connection,) = served.state.connections
        assert isinstance(connection, HttpProtocol)
        connection.check_progress(connection.loop.time() + 1_000)
        done.set()
        assert (await reader.read()).endswith(b"named" + LAST_ANSWER)
