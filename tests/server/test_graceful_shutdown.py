"""A process that is told to end …"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from persistence.kit.events import log as events
from tests.conftest import settings_for
from tests.support.clients.websocket_subscriber import PROTOCOL
from tests.support.endpoints import until
from tests.support.servers import databases
from tests.support.servers.processes import Process, serving
from tests.support.service import Service, running

if TYPE_CHECKING:
    from pathlib import Path

    from graph.server.settings import Settings

CREATE = 'mutation { createItem(input: {name: "Kettle", price: "1.00"}) { __typename } }'
EVENTS = "subscription ($after: String, $items: [ID!]) { itemEvents(after: $after, itemIds: $items) { __typename ... on ItemChange { cursor } } }"
ECHO = 'subscription { echo(channel: "a", message: "hello") { text } }'


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    """Beside the processes that end, on their database."""
    async with running(await settings_for("sqlite", tmp_path_factory.mktemp("drain"))) as service:
        yield service


@pytest.fixture
async def token(service: Service) -> AsyncGenerator[str]:
    yield await service.sign_in()
    await service.empty()


@contextmanager
def locked(settings: Settings) -> Generator[sqlite3.Connection]:
    """Hold SQLite's write lock, and with it every mutation, until the connection is closed."""
    connection = sqlite3.connect(settings.database_url.partition("///")[2], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        connection.close()


async def refuses_connections(process: Process) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", process.port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def asking(url: str, token: str) -> AsyncGenerator[asyncio.Task[httpx.Response]]:
    """A mutation on its way, on a connection that the process has served before."""
    async with httpx.AsyncClient(base_url=url, timeout=60, headers={"Authorization": f"Bearer {token}"}) as http:
        begun = asyncio.Event()

        async def body() -> AsyncGenerator[bytes]:
            yield json.dumps({"query": CREATE}).encode()
            begun.set()

        assert (await http.get("/live")).status_code == 200
        waiting = asyncio.ensure_future(http.post("/graphql", content=body(), headers={"Content-Type": "application/json"}))
        await begun.wait()
        yield waiting


async def ended(process: Process) -> int:
    return await asyncio.to_thread(process.popen.wait, 30)


@asynccontextmanager
async def subscribed(process: Process | Service, query: str, **variables: Any) -> AsyncGenerator[websockets.ClientConnection]:
    async with websockets.connect(process.url.replace("http", "ws") + "/graphql", subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}}))
        yield socket


@asynccontextmanager
async def streamed(process: Process, query: str, **variables: Any) -> AsyncGenerator[AsyncIterator[str]]:
    body, headers = {"query": query, "variables": variables}, {"Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(base_url=process.url, timeout=30) as http,
        http.stream("POST", "/graphql", json=body, headers=headers) as stream,
    ):
        yield stream.aiter_lines()


async def newest(service: Service) -> int:
    async with service.database.reading() as session:
        return await events.newest(session)


async def farewell(socket: websockets.ClientConnection) -> tuple[list[Any], int | None]:
    """The messages up to the close, and its code."""
    heard: list[Any] = []
    with suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            while True:
                heard.append(json.loads(await socket.recv()))
    return heard, socket.close_code


async def test_answers_what_runs_and_takes_nothing_new(service: Service, token: str, tmp_path: Path) -> None:
    with serving(service.settings, tmp_path) as process:
        async with (
            httpx.AsyncClient(base_url=process.url, timeout=30) as kept,
            httpx.AsyncClient(base_url=process.url, timeout=30) as socketed,
        ):
            assert [(await http.get("/ready")).status_code for http in (kept, socketed)] == [200, 200]
            with locked(service.settings) as lock:
                async with asking(process.url, token) as waiting:
                    process.signal(signal.SIGTERM)
                    await refuses_connections(process)
                    ready = await kept.get("/ready")
                    stream = await socketed.post("/graphql", json={"query": EVENTS}, headers={"Accept": "text/event-stream"})
                    assert not waiting.done()
                    lock.close()
                    answer = await waiting
            assert (ready.status_code, ready.json()["draining"], ready.headers["connection"]) == (503, True, "close")
            assert (stream.status_code, stream.json()["errors"][0]["extensions"]["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert answer.json() == {"data": {"createItem": {"__typename": "Item"}}}
        assert await ended(process) == -signal.SIGTERM
    assert await service.count("items") == [1]


async def test_sends_subscribers_elsewhere_with_the_cursor_of_all_they_know(service: Service, token: str, tmp_path: Path) -> None:
    """Also one whose filter let nothing through since: what it does not care about is behind it as well."""
    start = service.services.feed.cursor(0)
    wanted = await service.make_item("Kettle")
    with serving(service.settings, tmp_path) as process:
        async with (
            subscribed(process, EVENTS, after=start, items=[wanted]) as socket,
            subscribed(process, ECHO) as echo,
            streamed(process, EVENTS, after=start) as lines,
        ):
            first = json.loads(await socket.recv())["payload"]["data"]["itemEvents"]
            await echo.recv()
            await anext(line async for line in lines if line.startswith("data:"))
            await service.make_item("Pan")
            await anext(line async for line in lines if line.startswith("data:"))
            process.signal(signal.SIGTERM)
            (ping,), code = await farewell(socket)
            assert ((await farewell(echo)), code) == (([], 1012), 1012)
            rest = [line async for line in lines if line]
        assert await ended(process) == -signal.SIGTERM
    last = ping["payload"]["cursor"]
    assert last != first["cursor"]
    assert (ping["type"], rest) == ("ping", [f"id: {last}"])

    await service.make_item("Pot")
    async with subscribed(service, EVENTS, after=last) as elsewhere:
        resumed = json.loads(await elsewhere.recv())["payload"]["data"]["itemEvents"]
    assert resumed == {"__typename": "ItemCreated", "cursor": service.services.feed.cursor(await newest(service))}


async def test_cuts_off_at_the_deadline_what_is_not_finished(service: Service, token: str, tmp_path: Path) -> None:
    """An upload that waits for its client is told so, and leaves nothing."""
    released = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + b"some" * 50_000
        await released.wait()

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=x"}
    with serving(service.settings, tmp_path, DRAIN_SECONDS="2") as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as http:
            upload = asyncio.ensure_future(http.post("/api/v2/files/upload", content=parts(), headers=headers))
            await until(lambda: any(path.is_file() for path in service.folder.rglob("*")))
            process.signal(signal.SIGTERM)
            await refuses_connections(process)
            assert await ended(process) == -signal.SIGTERM
            released.set()
            answer = await upload
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert [path for path in service.folder.rglob("*") if path.is_file()] == []
    assert await service.count("stored_files") == [0]


async def test_ends_at_once_when_told_again(service: Service, token: str, tmp_path: Path) -> None:
    with serving(service.settings, tmp_path, DRAIN_SECONDS="600") as process, locked(service.settings):
        async with asking(process.url, token) as waiting:
            process.signal(signal.SIGTERM)
            await refuses_connections(process)
            process.signal(signal.SIGTERM)
            assert await ended(process) == 128 + signal.SIGTERM
            with pytest.raises(httpx.TransportError):
                await waiting
    assert await service.count("items") == [0]


async def test_takes_its_workers_with_it(service: Service, token: str, tmp_path: Path) -> None:
    """Ctrl-C reaches each of them by itself, and is no second signal to any; a second one to their parent ends all at once."""
    settings = service.settings.model_copy(update={"redis_url": databases.redis()})
    with serving(settings, tmp_path, "--workers", "2", DRAIN_SECONDS="600") as process, locked(settings):
        family = psutil.Process(process.popen.pid).children(recursive=True)
        async with subscribed(process, ECHO) as one, subscribed(process, ECHO) as two, asking(process.url, token) as waiting:
            assert [json.loads(await socket.recv())["type"] for socket in (one, two)] == ["next"] * 2
            for each in family:
                each.send_signal(signal.SIGINT)
            process.signal(signal.SIGINT)
            assert [await farewell(socket) for socket in (one, two)] == [([], 1012)] * 2
            await refuses_connections(process)
            assert not waiting.done()
            process.signal(signal.SIGTERM)
            await ended(process)
            with pytest.raises(httpx.TransportError):
                await waiting
    assert psutil.wait_procs(family, timeout=10)[1] == []
