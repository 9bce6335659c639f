"""Through nginx, configured as it is deployed, before two processes of the service …"""

import asyncio
import hashlib
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from graph.kit.access import Scope
from graph.server.app import create_app
from tests.conftest import settings_for
from tests.processes import ROOT, Process, serving
from tests.servers import free_port, unavailable, wait_until_listening
from tests.service import Service

CREATE = """
mutation Create($name: String!, $key: String!) {
  createItem(input: {name: $name, price: "1.00"}, idempotencyKey: $key) { ... on Item { id name } }
}
"""
MEGABYTE = 2**20
CLIENTS = 8
WRITES_EACH = 40


@contextmanager
def nginx(*ports: int) -> Generator[str]:
    """The address of nginx before services on these ports."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:/usr/local/bin:/usr/bin")
    if program is None:
        unavailable("nginx", "it is not installed (on Debian: apt-get install nginx)")
    folder = Path(tempfile.mkdtemp(prefix="storegraph-nginx-"))
    folder.chmod(0o755)  # nginx's workers are another user when root starts it.
    listen = free_port()
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;" for port in ports)
    values = {"LISTEN": f"127.0.0.1:{listen}", "FOLDER": str(folder), "RESOLVER": "", "SERVERS": servers}
    template = Template((ROOT / "scripts/deploy/nginx.conf").read_text())
    (folder / "nginx.conf").write_text(template.safe_substitute(values))
    process = subprocess.Popen([program, "-e", "stderr", "-c", folder / "nginx.conf", "-g", "daemon off;"])
    try:
        wait_until_listening(process, listen)
        yield f"http://127.0.0.1:{listen}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


class Deployment:
    """The service seen through the proxy; `processes` are what stands behind."""

    def __init__(self, service: Service, processes: list[Process]) -> None:
        self.service, self.processes = service, processes


@pytest.fixture(scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Deployment]:
    folder = tmp_path_factory.mktemp("proxy")
    settings = await settings_for("postgresql", folder)
    with ExitStack() as stack:
        processes = [stack.enter_context(serving(settings, folder, FORWARDED_ALLOW_IPS="127.0.0.1")) for _ in range(2)]
        url = stack.enter_context(nginx(*(process.port for process in processes)))
        app = create_app(settings)
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            service = Service(url, settings, app.state.services, app.state.tokens, http, app)
            yield Deployment(service, processes)
        await service.database.close()


async def create(service: Service, token: str, name: str) -> str:
    """The id of a new item: repeated with its key until it is acknowledged, as a client does."""
    while True:
        try:
            response = await service.send(CREATE, {"name": name, "key": name}, token=token)
        except httpx.TransportError:
            continue
        if response.status_code == 200:
            return response.json()["data"]["createItem"]["id"]
        assert response.status_code in {502, 503, 504}, response.text


async def test_a_query_is_answered_by_either_process(deployment: Deployment) -> None:
    answers = [await deployment.service.ask("{ items(first: 1) { totalCount } }") for _ in range(4)]
    assert answers == [{"items": {"totalCount": 0}}] * 4


async def test_a_socket_speaks_graphql(deployment: Deployment) -> None:
    async with connect(deployment.service.socket_url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        await socket.send('{"type": "connection_init"}')
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        await socket.send('{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}')
        assert json.loads(await socket.recv()) == {"type": "next", "id": "1", "payload": {"data": {"__typename": "Query"}}}


async def test_an_event_stream_comes_as_it_is_made(deployment: Deployment) -> None:
    asked, accept = {"query": "{ __typename }"}, {"Accept": "text/event-stream"}
    async with deployment.service.http.stream("POST", "/graphql", json=asked, headers=accept) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        lines = [line async for line in response.aiter_lines()]
    assert lines[:2] == ["event: next", 'data: {"data":{"__typename":"Query"}}']


async def test_an_upload_of_200_mb_comes_back_byte_for_byte(deployment: Deployment, tmp_path: Path) -> None:
    token = await deployment.service.sign_in(Scope.FILES_READ, Scope.FILES_WRITE, username="uploader")
    bearer = {"Authorization": f"Bearer {token}"}
    path, sent = tmp_path / "large.bin", hashlib.sha256()
    with path.open("wb") as large:
        for number in range(200):
            part = random.Random(number).randbytes(MEGABYTE)
            sent.update(part)
            large.write(part)

    with path.open("rb") as large:
        response = await deployment.service.http.post("/api/v2/files/upload", headers=bearer, files={"file": ("large.bin", large)})
    assert response.status_code == 201, response.text
    assert (response.json()["sizeBytes"], response.json()["sha256"]) == (200 * MEGABYTE, sent.hexdigest())

    received = hashlib.sha256()
    async with deployment.service.http.stream("GET", "/api/v2/files/download/large.bin", headers=bearer) as download:
        async for part in download.aiter_raw():
            received.update(part)
    assert received.hexdigest() == sent.hexdigest()


async def test_an_upload_too_large_hears_so_before_it_is_sent(deployment: Deployment) -> None:
    token = await deployment.service.sign_in(Scope.FILES_WRITE, username="overloader")
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1
            yield bytes(MEGABYTE)

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(400 * MEGABYTE)}
    response = await deployment.service.http.post("/api/v2/files/upload", headers=headers, content=endless())
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "TOO_LARGE"
    assert sent < 400


async def test_figures_are_for_the_inside(deployment: Deployment) -> None:
    assert (await deployment.service.http.get("/metrics")).status_code == 404


async def test_no_acknowledged_write_is_lost_when_a_process_is_killed_under_load(deployment: Deployment) -> None:
    service, acknowledged = deployment.service, dict[str, str]()
    token = await service.sign_in()
    half_done = asyncio.Event()

    async def client(number: int) -> None:
        for write in range(WRITES_EACH):
            name = f"item {number}-{write}"
            acknowledged[await create(service, token, name)] = name
            if len(acknowledged) >= CLIENTS * WRITES_EACH // 2:
                half_done.set()

    async def killer() -> None:
        await half_done.wait()
        deployment.processes[0].kill()

    await asyncio.gather(killer(), *(client(number) for number in range(CLIENTS)))

    kept: dict[str, str] = {}
    cursor: Any = None
    while True:
        query = "query ($after: String) { items(first: 100, after: $after) { nodes { id name } pageInfo { hasNextPage endCursor } } }"
        page = (await service.ask(query, {"after": cursor}))["items"]
        kept |= {item["id"]: item["name"] for item in page["nodes"]}
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert kept == acknowledged
    assert len(kept) == CLIENTS * WRITES_EACH
