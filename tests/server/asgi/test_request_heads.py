"""The head of a request, of any bytes …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from graph.server.asgi.protocols.http_protocol import NO_SUCH_METHOD, HttpProtocol
from graph.server.asgi.protocols.request_line import is_host
from graph.server.asgi.protocols.transport import WireLimits
from tests.server.asgi.test_http_protocol import LAST, LAST_ANSWER, Impatient, Served, answers, get
from tests.server.asgi.test_pipelining import read_all
from tests.support.clients.raw_http import BAD_REQUEST, HANDSHAKE, TOO_LARGE, UPGRADE, exchange, head
from tests.support.endpoints import until

if TYPE_CHECKING:
    from tests.support.service import Service

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
    assert answer.endswith(
        b'{"error":{"code":"BAD_USER_INPUT","message":"The request needs one Host field with a valid value."},"path":"/graphql"}'
    )


@pytest.mark.parametrize(
    ("fields", "status"), [((), 200), (("Host: here",), 200), (("Host: a", "Host: a"), 400), (("Host: a b",), 400), (("Host:",), 400)]
)
async def test_needs_no_host_in_http_1_0(embedded: Service, fields: tuple[str, ...], status: int) -> None:
    assert (await exchange(embedded, head(*fields, line="GET /live HTTP/1.0"))).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_speaks_a_version_of_http_that_is_served(embedded: Service, version: str) -> None:
    assert (await exchange(embedded, head("Host: here", line=f"GET /live HTTP/{version}"))).startswith(b"HTTP/1.1 505 ")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://here/live", 200),
        ("HTTP://elsewhere:80/live?x=1", 200),
        ("http://here", 200),
        ("http://here:8000?x=/", 200),
        ("https://user@here?", 200),
        ("http:///live", 400),
        ("http://", 400),
        ("here", 400),
        ("*", 400),
        ("*/live", 400),
    ],
)
async def test_names_what_it_is_about_in_any_form(embedded: Service, target: str, status: int) -> None:
    """RFC 9112, section 3.2; an absolute form without a path is about `/`."""
    answer = await exchange(embedded, head("Host: here", "Connection: close", line=f"GET {target} HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("fields", [(), ("Content-Length: 0",), ("Origin: http://here.example",)])
async def test_may_be_about_the_whole_server(embedded: Service, fields: tuple[str, ...]) -> None:
    """RFC 9110, section 9.3.7: OPTIONS with an asterisk "is only useful as a "ping" or "no-op" type of method"."""
    sent = head("Host: here", *fields, line="OPTIONS * HTTP/1.1")
    answer = await exchange(embedded, sent + head("Host: here", "Connection: close"))
    top, _, rest = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"content-length" not in top
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    for other in ("OPTIONS ** HTTP/1.1", "OPTIONS *?x HTTP/1.1", "POST * HTTP/1.1"):
        assert (await exchange(embedded, head("Host: here", line=other))).startswith(BAD_REQUEST)


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


async def test_of_http_1_0_opens_no_websocket(embedded: Service) -> None:
    """RFC 9110, section 7.8: "A server that receives an Upgrade header field in an HTTP/1.0 request MUST ignore that Upgrade field"."""
    assert (await exchange(embedded, head("Host: here", *UPGRADE, line="GET /live HTTP/1.0"))).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "fields",
    [
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: deflate,CHUNKED",),
    ],
)
async def test_is_refused_with_a_transfer_coding_that_is_not_read(embedded: Service, fields: tuple[str, ...]) -> None:
    """RFC 9112, section 6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD respond with 501"."""
    sent = head("Host: here", "Content-Type: application/json", *fields, line="POST /graphql HTTP/1.1")
    assert (await exchange(embedded, sent + b"18\r\n" + b'{"query":"{__typename}"}' + b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 501 ")


async def test_may_name_the_chunks_of_its_body_in_any_case(embedded: Service) -> None:
    sent = head(
        "Host: here", "Connection: close", "Content-Type: application/json", "Transfer-Encoding:  Chunked ", line="POST /graphql HTTP/1.1"
    )
    answer = await exchange(embedded, sent + b"18\r\n" + b'{"query":"{__typename}"}' + b"\r\n0\r\n\r\n")
    assert answer.endswith(b'{"data":{"__typename":"Query"}}')


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
    assert WireLimits().head_seconds + WireLimits().check_seconds <= 20


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
    ],
)
async def test_is_refused_where_two_could_read_it_differently(embedded: Service, line: str, fields: tuple[str, ...]) -> None:
    """RFC 9112, sections 2.2, 5.1, 5.2, 6.1 and 6.3."""
    assert (await exchange(embedded, head("Host: here", *fields, line=line) + b"{}\r\n")).startswith(BAD_REQUEST)


@pytest.mark.parametrize("path", ["/live", "/graphql", "/api/v2/files/upload", "/docs/README.md", "/nowhere"])
@pytest.mark.parametrize("method", ["BREW", "get", "GETS", "POST-", "P", "!#$%&'*+-.^_`|~", "PROPFIND", "SETUP", "CONNECT"])
async def test_is_told_that_its_method_is_none_of_the_servers(embedded: Service, method: str, path: str) -> None:
    """RFC 9110, section 9.1: "An origin server that receives a request method that is unrecognized or not implemented SHOULD respond with 501"."""
    target = "here:443" if method == "CONNECT" else path
    answer = await exchange(embedded, head("Host: here", line=f"{method} {target}?x=1 HTTP/1.1"))
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert (top.count(b"\r\nconnection: close"), top.count(b"\r\nx-request-id: ")) == (1, 1)
    assert orjson.loads(body) == {"error": {"code": "NOT_IMPLEMENTED", "message": NO_SUCH_METHOD.message}, "path": target}


@pytest.mark.parametrize(
    ("path", "allowed"), [("/live", "GET, HEAD"), ("/graphql", "GET, HEAD, POST, QUERY"), ("/api/v2/files/upload", "POST")]
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"])
async def test_is_told_which_methods_its_address_has(embedded: Service, method: str, path: str, allowed: str) -> None:
    """The same section: one that is recognized and not allowed gets 405."""
    answer = await exchange(embedded, head("Host: here", "Connection: close", line=f"{method} {path} HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    (told,) = (line.partition(b": ")[2] for line in answer.lower().split(b"\r\n") if line.startswith(b"allow: "))
    assert sorted(told.decode().upper().split(", ")) == sorted(allowed.split(", "))


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((b"BR", b"EW / HTTP/1.1\r\n"), 501),
        ((b"GE", b"TS / HTTP/1.1\r\n"), 501),
        ((get("/whole"), b"BREW / HTTP/1.1\r\n"), 501),
        ((get("/whole") + b"BREW / HTTP/1.1\r\nHost: here\r\n\r\n",), 501),
        ((b"SET", b"UP / HTTP/1.1\r\n"), 501),
        ((get("/whole") + b"\x16\x03\x01\x02",), 400),
        ((b"BREW /\r\n\r\n",), 400),
        ((b"BREW / HTTP/3.0\r\n",), 400),
        ((b"{BREW / HTTP/1.1\r\n",), 400),
        ((b" GET / HTTP/1.1\r\n",), 400),
        ((b"\x16\x03\x01",), 400),
    ],
)
async def test_may_come_in_parts(parts: tuple[bytes, ...], status: int) -> None:
    served = Served(answers, HttpProtocol)
    async with served.client() as (reader, _):
        await until(lambda: bool(served.state.connections))
        (connection,) = served.state.connections
        for part in parts:
            connection.data_received(part)
        assert b"HTTP/1.1 %d " % status in await reader.read()


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
