"""Through nginx, configured as it is deployed, before two processes of the service …"""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id, row_id
from persistence.kit.events import log as events
from persistence.purchases import table as purchases
from tests.support.clients.websocket_subscriber import listening
from tests.support.load.rolling_restart import Outcome, rolled
from tests.support.servers.nginx import Deployment, deployed
from tests.support.service import Service

PURCHASE = """
mutation ($item: ID!, $key: String!) { purchaseItem(itemId: $item, idempotencyKey: $key) { ... on Purchase { id } } }
"""
EVENTS = "subscription ($items: [ID!]!, $after: String!) { itemEvents(itemIds: $items, after: $after) { __typename } }"
MEGABYTE = 2**20
CLIENTS = 8
PURCHASES_EACH = 40


@pytest.fixture(scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("proxy")) as deployment:
        yield deployment


async def now(service: Service) -> str:
    """The cursor of the newest event: what is heard after it does not depend on when listening begins."""
    async with service.database.reading() as session:
        identity = await session.scalar(select(events.EventLog.identity))
        return events.cursor(str(identity), await events.newest(session))


async def purchase(service: Service, token: str, item: str, key: str) -> str:
    """The id of a purchase: asked for again with its key until it is acknowledged, as a client does."""
    while True:
        try:
            response = await service.send(PURCHASE, {"item": item, "key": key}, token=token)
        except httpx.TransportError:
            continue
        if response.status_code == 200:
            return response.json()["data"]["purchaseItem"]["id"]
        assert response.status_code in {502, 503, 504}, response.text


async def test_a_query_is_answered_by_either_process(deployment: Deployment) -> None:
    answers = [await deployment.service.ask("{ items(first: 1) { totalCount } }") for _ in range(4)]
    assert answers == [{"items": {"totalCount": 0}}] * 4


async def test_a_client_has_the_address_it_comes_from_not_the_one_it_claims(deployment: Deployment) -> None:
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.7")
    claims = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    async with httpx.AsyncClient(transport=transport, base_url=deployment.service.url, headers=claims) as http:
        await http.post("/graphql", json={"query": "query WhoAmI { __typename }"})
    logged: list[str] = []
    async with asyncio.timeout(10):
        while not logged:  # The line is written beside the answer, so perhaps after it.
            await asyncio.sleep(0.01)
            lines = "".join(process.log.read_text() for process in deployment.processes).splitlines()
            logged = [line for line in lines if '"WhoAmI"' in line]
    assert [json.loads(line)["ip"] for line in logged] == ["127.0.0.7"]


async def test_a_socket_hears_of_what_happens_at_either_process(deployment: Deployment) -> None:
    token, item = await deployment.service.sign_in(username="talker"), await deployment.service.make_item(inventory=4)
    async with listening(deployment.service, EVENTS, {"items": [item], "after": await now(deployment.service)}) as listener:
        for number in range(4):
            await purchase(deployment.service, token, item, f"socket {number}")
            assert await listener.next() == {"__typename": "ItemPurchased"}


async def test_an_event_stream_comes_as_it_happens(deployment: Deployment) -> None:
    token, item = await deployment.service.sign_in(username="streamer"), await deployment.service.make_item(inventory=4)
    asked = {"query": EVENTS, "variables": {"items": [item], "after": await now(deployment.service)}}
    async with deployment.service.http.stream("POST", "/graphql", json=asked, headers={"Accept": "text/event-stream"}) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        lines = response.aiter_lines()
        for number in range(4):
            await purchase(deployment.service, token, item, f"stream {number}")
            heard = await anext(line async for line in lines if line.startswith("data:"))
            assert heard == 'data: {"data":{"itemEvents":{"__typename":"ItemPurchased"}}}'


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


async def test_an_upload_too_large_is_refused_in_the_words_of_the_service(deployment: Deployment) -> None:
    token = await deployment.service.sign_in(Scope.FILES_WRITE, username="overloader")
    kept = sorted(deployment.service.folder.rglob("*"))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(400 * MEGABYTE)}

    async def parts() -> AsyncGenerator[bytes]:
        for _ in range(400):
            yield bytes(MEGABYTE)

    response = await deployment.service.http.post("/api/v2/files/upload", headers=headers, content=parts())
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "TOO_LARGE"
    assert sorted(deployment.service.folder.rglob("*")) == kept


async def test_figures_are_for_the_inside(deployment: Deployment) -> None:
    assert (await deployment.service.http.get("/metrics")).status_code == 404


async def test_a_rolling_restart_is_noticed_by_nobody_but_as_a_reconnect(deployment: Deployment) -> None:
    outcome = await rolled(deployment, subscribers=20)
    assert outcome == Outcome(acknowledged=outcome.acknowledged, reconnects=outcome.reconnects)
    assert outcome.acknowledged > 0
    assert outcome.reconnects >= 20  # Each subscriber was at one of the two.


async def test_no_acknowledged_write_is_lost_when_a_process_is_killed_under_load(deployment: Deployment) -> None:
    service, acknowledged = deployment.service, set[str]()
    token, item = await service.sign_in(username="customer"), await service.make_item(inventory=CLIENTS * PURCHASES_EACH)
    half_done = asyncio.Event()

    async def client(number: int) -> None:
        for turn in range(PURCHASES_EACH):
            acknowledged.add(await purchase(service, token, item, f"client {number}, {turn}"))
            if len(acknowledged) >= CLIENTS * PURCHASES_EACH // 2:
                half_done.set()

    async def killer() -> None:
        await half_done.wait()
        deployment.processes[0].kill()

    await asyncio.gather(killer(), *(client(number) for number in range(CLIENTS)))

    async with service.database.reading() as session:
        kept = await session.scalars(select(purchases.Purchase.id).where(purchases.Purchase.item_id == row_id("Item", item)))
        assert {global_id("Purchase", id_) for id_ in kept} == acknowledged
    assert len(acknowledged) == CLIENTS * PURCHASES_EACH
    assert await service.ask("query ($id: ID!) { item(id: $id) { inventory } }", {"id": item}) == {"item": {"inventory": 0}}
