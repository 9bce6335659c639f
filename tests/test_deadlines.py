"""Whatever hangs, every request is answered within its deadline, and all is as before once it goes on …"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import websockets

from persistence.kit.events import log as events
from tests.conftest import settings_for
from tests.silence import silent_proxy
from tests.support.listening import PROTOCOL, listening
from tests.support.servers import Postgres
from tests.support.service import Service, running
from tests.support.shopping import PURCHASE

SECONDS = 1.5  # The deadline of an operation.
LATE_SECONDS = 1.0  # How much later an answer may come on a machine that has too much to do.
HURRY: dict[str, Any] = {
    "operation_timeout_seconds": SECONDS,
    "database_read_timeout_seconds": 0.5,
    "database_connect_timeout_seconds": 0.5,
    "database_pool_wait_seconds": 0.5,
    "database_statement_timeout_ms": 1_000,
    "response_cache_enabled": False,
}
ITEM = "query ($id: ID!) { item(id: $id) { name } }"
USERS = "{ users(first: 1) { totalCount nodes { username } } }"
UPDATE = "mutation ($id: ID!, $key: String!) { updateItem(id: $id, input: {description: $key}) { __typename } }"
EVENTS = "subscription ($after: String!) { itemEvents(after: $after) { __typename } }"

Request = Callable[[Service, str, str], Awaitable[tuple[int, str]]]


def graphql(query: str) -> Request:
    async def ask(service: Service, token: str, item: str) -> tuple[int, str]:
        variables = {"id": item, "item": item, "key": f"key {time.monotonic_ns()}"}
        answer = await service.send(query, variables, token=token)
        body = answer.json()
        return answer.status_code, body["errors"][0]["extensions"]["code"] if "errors" in body else "ok"

    return ask


async def listed(service: Service, token: str, item: str) -> tuple[int, str]:
    return rest(await service.http.get("/api/v2/files/list", headers=bearer(token)))


async def exported(service: Service, token: str, item: str) -> tuple[int, str]:
    return rest(await service.http.get("/api/v2/stream/items.csv", headers=bearer(token)))


async def uploaded(service: Service, token: str, item: str) -> tuple[int, str]:
    file = {"file": (f"{time.monotonic_ns()}.txt", b"some")}
    return rest(await service.http.post("/api/v2/files/upload", files=file, headers=bearer(token)))


async def streamed(service: Service, token: str, item: str) -> tuple[int, str]:
    """A single result over server-sent events, which has no status of its own once the stream is open."""
    body = {"query": ITEM, "variables": {"id": item}}
    answer = await service.http.post("/graphql", json=body, headers={"Accept": "text/event-stream"})
    if answer.headers["content-type"].startswith("text/event-stream"):
        (data,) = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return 503 if "errors" in data else 200, code(json.loads(data))
    return answer.status_code, code(answer.json())


async def socketed(service: Service, token: str, item: str) -> tuple[int, str]:
    async with websockets.connect(service.socket_url, subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": ITEM, "variables": {"id": item}}}))
        payload = json.loads(await socket.recv())["payload"]
    found = code({"errors": payload} if isinstance(payload, list) else payload)
    return 200 if found == "ok" else 503, found


def code(body: dict[str, Any]) -> str:
    return body["errors"][0]["extensions"]["code"] if "errors" in body else "ok"


def rest(answer: httpx.Response) -> tuple[int, str]:
    if answer.is_success:
        return answer.status_code, "ok"
    return answer.status_code, answer.json()["error"]["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


REQUESTS: dict[str, Request] = {
    "item": graphql(ITEM),
    "users": graphql(USERS),
    "update": graphql(UPDATE),
    "purchase": graphql(PURCHASE),
    "list": listed,
    "export": exported,
    "upload": uploaded,
    "stream": streamed,
    "socket": socketed,
}


async def timed(request: Request, service: Service, token: str, item: str) -> tuple[tuple[int, str], float]:
    began = time.monotonic()
    answer = await request(service, token, item)
    return answer, time.monotonic() - began


async def all_at_once(service: Service, token: str, item: str, *, times: int) -> tuple[dict[str, Counter[tuple[int, str]]], float]:
    """How requests of each kind are answered, and how long the slowest took."""
    names = [name for name in REQUESTS for _ in range(times)]
    answers = await asyncio.gather(*(timed(REQUESTS[name], service, token, item) for name in names))
    counted: dict[str, Counter[tuple[int, str]]] = {name: Counter() for name in REQUESTS}
    for name, (answer, _) in zip(names, answers, strict=True):
        counted[name][answer] += 1
    return counted, max(seconds for _, seconds in answers)


WELL = {name: Counter({(201 if name == "upload" else 200, "ok"): 1}) for name in REQUESTS}


async def is_well(service: Service, token: str, item: str) -> None:
    answered, _ = await all_at_once(service, token, item, times=1)
    assert answered == WELL


async def no_connection_is_busy(service: Service) -> None:
    async with asyncio.timeout(5):
        while any(use.busy for use in service.database.pools().values()):  # noqa: ASYNC110 -- background work has one for a moment
            await asyncio.sleep(0.01)


@asynccontextmanager
async def hurried(folder: Path, **overrides: Any) -> AsyncGenerator[tuple[Service, str, str]]:
    async with running(await settings_for("sqlite", folder, **HURRY | overrides)) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=1_000)
        await is_well(service, token, item)
        yield service, token, item


async def hears_of_a_change(service: Service, heard: asyncio.Future[Any], item: str, token: str) -> None:
    await service.ask(UPDATE, {"id": item, "key": f"{time.monotonic_ns()}"}, token=token)
    assert (await asyncio.wait_for(heard, 10))["__typename"] == "ItemUpdated"


async def cursor_of_now(service: Service) -> str:
    async with service.database.reading() as session:
        return events.cursor(await events.identity(session), await events.newest(session))


def refusals(times: int) -> dict[str, Counter[tuple[int, str]]]:
    return {name: Counter({(503, "SERVICE_UNAVAILABLE"): times}) for name in REQUESTS}


async def outlived(service: Service, token: str, item: str, hang: Callable[[], object], go_on: Callable[[], object]) -> None:
    """Requests of every kind, and a subscriber, while the database hangs and after it."""
    process = psutil.Process()
    async with listening(service, EVENTS, {"after": await cursor_of_now(service)}) as listener:
        heard = asyncio.ensure_future(listener.next())
        await hears_of_a_change(service, heard, item, token)
        heard, before = asyncio.ensure_future(listener.next()), process.num_fds()
        hang()
        try:
            for _ in range(2):
                answered, slowest = await all_at_once(service, token, item, times=10)
                assert answered == refusals(10)
                assert slowest < SECONDS + LATE_SECONDS
            assert process.num_fds() < before + 200
        finally:
            go_on()
        await asyncio.sleep(2)  # As long as it may take to find back.
        await is_well(service, token, item)
        assert (await asyncio.wait_for(heard, 10))["__typename"] in {"ItemUpdated", "ItemPurchased"}
    await no_connection_is_busy(service)


async def test_frozen_postgresql(tmp_path: Path) -> None:
    with Postgres.own() as postgres:
        url = postgres.url.render_as_string(hide_password=False)
        async with hurried(tmp_path, database_url=url) as (service, token, item):
            await outlived(service, token, item, postgres.pause, postgres.resume)


async def test_a_network_that_swallows_what_goes_to_postgresql(tmp_path: Path) -> None:
    with Postgres.own() as postgres:
        async with silent_proxy(postgres.port) as proxy:
            url = postgres.url.set(port=proxy.port).render_as_string(hide_password=False)
            async with hurried(tmp_path, database_url=url) as (service, token, item):
                await outlived(service, token, item, proxy.fall_silent, proxy.speak)
