"""A client that sends any bytes on HTTP …"""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from graph.server.asgi.http_protocol import HTTP_CONNECTIONS, HttpConnections, HttpProtocol, is_host
from graph.server.asgi.transport import BufferedTransport, ReadRate, WireLimits
from tests.server.asgi.test_http_protocol import ANSWERS, DATE, LAST, LAST_ANSWER, Impatient, Served, answers, body, get, start
from tests.support.endpoints import stop_reading, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from tests.support.service import Service

CRLF = "\r\n"


@asynccontextmanager
async def connected(service: Service) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()


async def exchange(service: Service, sent: bytes) -> bytes:
    """All that comes until the connection ends."""
    async with connected(service) as (reader, writer):
        writer.write(sent)
        return await reader.read()


def head(*fields: str, line: str = "GET /live HTTP/1.1") -> bytes:
    return CRLF.join([line, *fields, "", ""]).encode("latin-1")


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol: graphql-transport-ws",
)
HANDSHAKE = "GET /graphql HTTP/1.1"
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"

GOOD_HOSTS = [
    "here",
    "here:8000",
    "a.b-c.example",
    "127.0.0.1",
    "127.0.0.1:1",
    "[::1]",
    "[2001:db8::1]:443",
    "h:",
    "a_b~c",
    "x%20y",
    "EXAMPLE",
]
BAD_HOSTS = [
    "", " ", "a b", "a/b", "a@b", "user:secret@here", "here:port", "here:1:2", "here:65536", "[::1", "::1", "[::1]x", "[nonsense]", "[1.2.3.4]",
    "a#b", "a?b", "http://here", "a\\b", "a%2", "a%zz", '"here"', "<here>", "h\xe9re", "a\tb", "[::1%eth0]", "h" * 301, "[fe80::1::2]", ":80",
]  # fmt: skip


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_names_a_host(host: str) -> None:
    assert is_host(host.encode())


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("host", BAD_HOSTS)
async def test_is_refused_with_an_invalid_host(embedded: Service, host: str, upgrade: bool) -> None:
    """RFC 9112, section 3.2: "A server MUST respond with a 400 … to any request message that contains more than one Host header field line or a
    Host header field with an invalid field value"."""
    request = head(f"Host: {host}", *UPGRADE, line=HANDSHAKE) if upgrade else head(f"Host: {host}")
    assert (await exchange(embedded, request)).startswith(BAD_REQUEST)


@pytest.mark.parametrize("upgrade", [(), UPGRADE])
@pytest.mark.parametrize("fields", [(), ("Host: here", "Host: here"), ("Host: here", "X: y", "HOST: there"), ("X-Host: here",)])
async def test_is_refused_without_one_host(embedded: Service, fields: tuple[str, ...], upgrade: tuple[str, ...]) -> None:
    """The same section: "… to any HTTP/1.1 request message that lacks a Host header field"."""
    answer = await exchange(embedded, head(*fields, *upgrade, line=HANDSHAKE))
    assert answer.startswith(BAD_REQUEST)
    assert answer.endswith(b"connection: close\r\n\r\nThe request needs one Host field with a valid value.")


@pytest.mark.parametrize(
    ("fields", "status"), [((), 200), (("Host: here",), 200), (("Host: a", "Host: a"), 400), (("Host: a b",), 400), (("Host:",), 400)]
)
async def test_needs_no_host_in_http_1_0(embedded: Service, fields: tuple[str, ...], status: int) -> None:
    assert (await exchange(embedded, head(*fields, line="GET /live HTTP/1.0"))).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_speaks_a_version_of_http_that_is_served(embedded: Service, version: str) -> None:
    assert (await exchange(embedded, head("Host: here", line=f"GET /live HTTP/{version}"))).startswith(b"HTTP/1.1 505 ")


@pytest.mark.parametrize("path", ["/stream", "/chunked", "/closing"])
async def test_of_http_1_0_gets_no_chunks(path: str) -> None:
    """RFC 9112, section 6.1: "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding request indicates HTTP/1.1"."""
    received = await Served(answers, HttpProtocol).exchange(get(path, "Connection: keep-alive", version="1.0"))
    expected = {"/stream": b"\r\n\r\nsomemore", "/chunked": b"\r\n\r\nchunk", "/closing": b"\r\n\r\nbye"}[path]
    assert received.endswith(expected)
    assert b"transfer-encoding" not in received
    assert received.count(b"connection: close\r\n") == 1


@pytest.mark.parametrize("path", ["/known", "/deleted", "/whole", "/empty"])
async def test_of_http_1_0_gets_a_whole_answer_as_ever(path: str) -> None:
    received = await Served(answers, HttpProtocol).exchange(get(path, version="1.0"))
    assert (received.startswith(b"HTTP/1.1 "), b"transfer-encoding" in received, b"connection: close" in received) == (True, False, True)


async def test_of_http_1_0_is_not_told_to_continue() -> None:
    """RFC 9110, section 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation"."""
    sent = get("/whole", "Expect: 100-continue", "Content-Length: 2", method="POST", version="1.0") + b"{}"
    assert (await Served(answers, HttpProtocol).exchange(sent)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_of_http_1_0_reads_event_streams_exports_and_downloads(service: Service) -> None:
    token = await service.sign_in()
    await service.make_item()
    files, authorization = {"file": ("a.txt", b"some bytes")}, f"Authorization: Bearer {token}"
    await service.http.post("/api/v2/files/upload", files=files, headers={"Authorization": f"Bearer {token}"})
    stream = head("Accept: text/event-stream", line="GET /graphql?query=%7B__typename%7D HTTP/1.0")
    ends = {
        stream: b'event: next\ndata: {"data":{"__typename":"Query"}}\n\nevent: complete\ndata:\n\n',
        head(authorization, line="GET /api/v2/stream/items.csv HTTP/1.0"): b"\r\n",
        head(authorization, line="GET /api/v2/files/download/a.txt HTTP/1.0"): b"some bytes",
    }
    for request, end in ends.items():
        top, _, rest = (await exchange(service, request)).partition(b"\r\n\r\n")
        assert (top.startswith(b"HTTP/1.1 200 OK\r\n"), b"transfer-encoding" in top, b"connection: close" in top) == (True, False, True)
        assert rest.endswith(end)
        assert b"Kettle" in rest or end != b"\r\n"


BIG = WireLimits()


@pytest.mark.parametrize("upgrade", [(), UPGRADE])
@pytest.mark.parametrize(
    "fields",
    [
        [f"X-{number}: y" for number in range(BIG.head_fields)],
        ["X: y"] * 200,
        ["X: " + "y" * BIG.head_bytes],
        ["X" * BIG.head_bytes + ": y"],
        ["X: " + "y" * 8_000] * 5,
    ],
)
async def test_is_told_that_a_head_is_too_large(embedded: Service, fields: list[str], upgrade: tuple[str, ...]) -> None:
    """RFC 6585, section 5: "the server is unwilling to process the request because its header fields are too large"."""
    assert (await exchange(embedded, head("Host: here", *upgrade, *fields, line=HANDSHAKE))).startswith(TOO_LARGE)


async def test_may_use_a_large_head(embedded: Service) -> None:
    fields = [f"X-{number}: {'y' * 300}" for number in range(BIG.head_fields - 2)]
    assert (await exchange(embedded, head("Host: here", "Connection: close", *fields))).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"GET /", b"x" * 1_000),
        (b"GET / HTTP/1.1\r\nX: ", b"y" * 1_000),
        (b"GET / HTTP/1.1\r\nHost: here\r\n", b"X: y\r\n" * 100),
        (b"GET / HTTP/1.1\r\n", b"X" * 1_000),
        (b"POST /whole HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 100),
        (b"POST /whole HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y" * 1_000),
        (b"POST /whole HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"y" * 1_000),
        (b"\r\n", b"\r\n" * 1_000),
    ],
)
async def test_cannot_send_a_head_without_end(beginning: bytes, more: bytes) -> None:
    """What is answered with 431 is kept for no longer than that. A trailer is as good as a head."""
    served = Served(read_all, Impatient)
    async with served.client() as (reader, writer):
        writer.write(beginning)
        answering = asyncio.create_task(reader.read())
        sent = 0
        while not answering.done() and sent < 10 * BIG.head_bytes:
            writer.write(more)
            sent += len(more)
            await asyncio.sleep(0)
        assert (await answering).startswith(TOO_LARGE)
        assert sent < 10 * BIG.head_bytes


async def read_all(_scope: Scope, receive: Receive, send: Send) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await answers({"method": "GET", "path": "/whole"}, receive, send)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"G", b"HTTP/1.1 408 Request Timeout\r\n"),
        (b"GET / HTTP/1.1\r\nHost: here\r\nX-Slow: ", b"HTTP/1.1 408 Request Timeout\r\n"),
        (get("/whole") + b"GET / HTTP/1.1\r\nHo", b"HTTP/1.1 200 OK\r\n"),
    ],
)
async def test_has_so_long_for_a_head(sent: bytes, answer: bytes) -> None:
    """RFC 9110, section 15.5.9. Who sent nothing gets nothing, as a browser that opens connections ahead."""
    received = await Served(answers, Impatient).exchange(sent)
    assert received.startswith(answer)
    assert bool(received) == bool(answer)
    assert received.count(b"408 Request Timeout") == bool(sent.strip())
    assert WireLimits().head_seconds + WireLimits().look_seconds <= 20


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("POST /graphql HTTP/1.1", ("Content-Length: 2", "Transfer-Encoding: chunked")),
        ("POST /graphql HTTP/1.1", ("Transfer-Encoding: chunked", "Content-Length: 2")),
        ("POST /graphql HTTP/1.1", ("Content-Length: 2", "Content-Length: 3")),
        ("POST /graphql HTTP/1.1", ("Content-Length: +2",)),
        ("POST /graphql HTTP/1.1", ("Content-Length: 2, 2",)),
        ("POST /graphql HTTP/1.1", ("Transfer-Encoding: chunked, identity",)),
        ("POST /graphql HTTP/1.1", ("Transfer-Encoding : chunked",)),
        ("POST /graphql HTTP/1.1", ("X: a\r\n folded",)),
        ("POST /graphql HTTP/1.1", ("X: a\nY: b",)),
        ("GET /live HTTP/1.1 ", ()),
        ("get /live HTTP/1.1", ()),
    ],
)
async def test_is_refused_where_two_could_read_it_differently(embedded: Service, line: str, fields: tuple[str, ...]) -> None:
    """RFC 9112, sections 2.2, 5.1, 5.2, 6.1 and 6.3."""
    assert (await exchange(embedded, head("Host: here", *fields, line=line) + b"{}\r\n")).startswith(BAD_REQUEST)


@pytest.mark.parametrize("count", [2, 17, 500])
@pytest.mark.parametrize("pad", ["", "y" * 200])
async def test_may_ask_ahead(count: int, pad: str) -> None:
    """RFC 9112, section 9.3.2: "A client that supports persistent connections MAY "pipeline" its requests". All are answered, in order."""
    asked = list[str]()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        (connection,) = served.state.connections
        assert isinstance(connection, HttpProtocol)
        waiting.append(len(connection.pipeline))
        await send(start(200, length(1)))
        await send(body(b"."))

    waiting, served = list[int](), Served(app, HttpProtocol)
    async with served.client() as (reader, writer):
        writer.write(b"".join(get(f"/{number}", f"X: {pad}") for number in range(count)) + get("/end", "Connection: close"))
        received = await reader.read()
    assert asked == [*(f"/{number}" for number in range(count)), "/end"]
    assert received.count(b"HTTP/1.1 200 OK\r\n") == count + 1
    assert max(waiting) <= 4


def length(number: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % number


async def test_that_asks_ahead_too_much_is_cut_off_behind_what_is_answered() -> None:
    """The requests come in one piece with the end of a body, so that the parser has them all before anybody could look."""
    served = Served(read_all, HttpProtocol)
    tiny = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"
    chunked = get("/", "Transfer-Encoding: chunked", method="POST") + b"1;" + b"x" * 200 + b"\r\ny\r\n" + b"0\r\n"
    async with served.client() as (reader, writer):
        writer.write(chunked)
        await until(lambda: bool(served.state.tasks))
        connection: Any = next(iter(served.state.connections))
        connection._feed(b"\r\n" + tiny * 100)
        assert len(connection.pipeline) == connection.limits.waiting_requests
        received = await reader.read()
    assert received.count(b"HTTP/1.1 200 OK\r\n") == connection.limits.waiting_requests + 1
    assert received.count(b"connection: close\r\n") == 1


@pytest.mark.parametrize("read_before", [0, 20])
async def test_is_answered_what_it_had_sent_when_the_process_ended(read_before: int) -> None:
    """Whether that lies unread in the kernel, or its head was read in part: a proxy would not repeat it."""
    served, request = Served(answers, HttpProtocol), get("/closing")
    async with served.client() as (reader, writer):
        writer.write(get("/whole") + request[:read_before])
        assert (await reader.readuntil(b"whole")).startswith(b"HTTP/1.1 200 OK\r\n")
        (connection,) = served.state.connections
        assert isinstance(connection, HttpProtocol)
        await until(lambda: connection.is_idle is not bool(read_before))
        os.write(writer.get_extra_info("socket").fileno(), request[read_before:])  # At once: the loop has not run when the process ends.
        connection.shutdown()
        assert (await reader.read()).endswith(b"\r\nconnection: close\r\n\r\nbye")


async def test_is_closed_when_the_process_ends_and_nothing_was_sent() -> None:
    served = Served(answers, HttpProtocol)
    async with served.client() as (reader, writer):
        writer.write(get("/whole"))
        await reader.readuntil(b"whole")
        (connection,) = served.state.connections
        connection.shutdown()
        assert await reader.read() == b""


@asynccontextmanager
async def streaming(served: Served, *behind: bytes) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with served.client() as (reader, writer):
        writer.write(get("/") + b"".join(behind))
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (head("Host: here", *UPGRADE, line=HANDSHAKE), b"An upgrade has to wait for the answers to the requests before it."),
        (b"no http at all\r\n\r\n", b"Invalid HTTP request received."),
        (head(), b"The request needs one Host field with a valid value."),
        (head("Host: here", *["X: y"] * 101), b"The head of the request is too large."),
        (head("Host: here", "Transfer-Encoding: chunked", line="POST / HTTP/1.1") + b"nonsense\r\n", b"Invalid HTTP request received."),
    ],
)
async def test_gets_no_refusal_in_the_middle_of_an_answer(behind: bytes, said: bytes) -> None:
    go_on = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"some", more_body=True))
        await go_on.wait()
        await send(body(b"more"))

    async with streaming(Served(app, HttpProtocol), behind) as (reader, _):
        assert await reader.readexactly(9) == b"4\r\nsome\r\n"
        for _ in range(5):
            await asyncio.sleep(0)
        go_on.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nmore\r\n0\r\n\r\n"
        rest = await reader.read()
    assert rest.startswith(b"HTTP/1.1 4")
    assert rest.endswith(said)


@pytest.mark.parametrize("behind", [b"", get("/next"), get("/next", "X: " + "y" * 200), head("Host: here", *UPGRADE, line=HANDSHAKE)])
async def test_is_known_to_have_gone_whatever_it_asked_ahead(behind: bytes) -> None:
    gone = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with streaming(Served(app, HttpProtocol), behind) as (_, writer):
        writer.transport.abort()
        await asyncio.wait_for(gone.wait(), 10)


async def test_is_told_of_a_malformed_body() -> None:
    heard = list[str]()

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        heard.append(message["type"])

    sent = get("/", "Transfer-Encoding: chunked", method="POST") + b"2\r\nab\r\nnonsense\r\n"
    assert (await Served(app, HttpProtocol).exchange(sent)).startswith(BAD_REQUEST)
    assert heard == ["http.disconnect"]


async def test_adds_no_field_by_a_trailer() -> None:
    """RFC 9110, section 6.5.1: "a recipient MUST NOT merge a trailer field into the message's header section unless …"."""
    seen = list[Any]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        seen.extend(scope["headers"])
        await answers({"method": "GET", "path": "/last"}, receive, send)

    sent = get("/", "Transfer-Encoding: chunked", "Connection: close", method="POST") + b"2\r\nab\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    assert (await Served(app, HttpProtocol).exchange(sent)).endswith(b"last")
    assert [name for name, _ in seen] == [b"host", b"transfer-encoding", b"connection"]


async def test_may_offer_another_protocol() -> None:
    """RFC 9110, section 7.8: "A server MAY ignore a received Upgrade header field"; curl --http2 sends one."""
    sent = (
        get("/whole", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A", "Content-Length: 2", method="POST")
        + b"{}"
    )
    assert (await Served(answers, HttpProtocol).exchange(sent + LAST)).endswith(b"whole" + LAST_ANSWER)


@pytest.mark.parametrize(
    "fields", [[*UPGRADE, "X: " + "y" * 9_000], [*UPGRADE, "Content-Length: 2"], [*UPGRADE, "Transfer-Encoding: chunked"]]
)
async def test_gets_an_answer_to_a_handshake_that_fails(embedded: Service, fields: list[str]) -> None:
    answer = await exchange(embedded, head("Host: here", *fields, line=HANDSHAKE))
    assert answer.startswith((BAD_REQUEST, TOO_LARGE))


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
    assert limits.slow_seconds + 2 * limits.look_seconds <= 30
    assert BufferedTransport.__doc__
    assert DATE


async def test_has_so_many_connections_and_one_more_for_an_idle_one() -> None:
    gate, connections = asyncio.Event(), HttpConnections(3, lambda _: False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await gate.wait()
        for message in (start(200, (b"content-length", b"2")), body(b"ok")):
            await send(message)

    served = Served(app, Impatient)
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
        assert answer.endswith(b"Too many connections are open from your network: close one.")
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
