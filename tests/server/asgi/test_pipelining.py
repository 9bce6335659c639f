"""A client that sends further requests before it has its answer, or a body that is not well formed …"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from graph.server.asgi.protocols.http_protocol import HttpProtocol
from tests.server.asgi.test_http_protocol import Served, answers, body, get, start
from tests.support.clients.raw_http import BAD_REQUEST, HANDSHAKE, UPGRADE, head, length
from tests.support.endpoints import go_on_reading, stop_reading, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send


async def read_all(_scope: Scope, receive: Receive, send: Send) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await answers({"method": "GET", "path": "/whole"}, receive, send)


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


async def test_is_served_no_further_than_it_reads() -> None:
    """Its responses fill a buffer of the kernel, and hundreds of requests are no slow client but a flood."""
    asked, answer, count = list[str](), bytes(1_000), 500

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await send(start(200, length(len(answer))))
        await send(body(answer))

    served = Served(app, HttpProtocol)
    async with served.client() as (reader, writer):
        stop_reading(writer)
        writer.write(get("/") * count)
        await until(lambda: bool(asked))
        connection: Any = next(iter(served.state.connections))
        most = connection.limits.pipelined_bytes
        await until(lambda: connection._buffered.unacknowledged() > most)
        for _ in range(100):
            await asyncio.sleep(0)
        assert connection._buffered.unacknowledged() < most + 8 * len(answer)  # Requests as short as these are parsed a few at a time.
        assert len(asked) < count
        go_on_reading(writer)
        for _ in range(count):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(answer)) == answer
    assert len(asked) == count


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
        (b"no http at all\r\n\r\n", b"This is not a valid HTTP request."),
        (head(), b"The request needs one Host field with a valid value."),
        (head("Host: here", *["X: y"] * 101), b"The head of the request is too large."),
        (head("Host: here", "Transfer-Encoding: chunked", line="POST / HTTP/1.1") + b"nonsense\r\n", b"This is not a valid HTTP request."),
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
    assert said in rest


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
