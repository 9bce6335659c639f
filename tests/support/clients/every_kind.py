"""Requests of every kind, each with what it is answered: a status and a code, over whatever transport it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import websockets

from tests.support.clients.websocket_subscriber import PROTOCOL
from tests.support.load.retrying_clients import PURCHASE

ITEM = "query ($id: ID!) { item(id: $id) { name } }"
USERS = "{ users(first: 1) { totalCount nodes { username } } }"
UPDATE = "mutation ($id: ID!, $key: String!) { updateItem(id: $id, input: {description: $key}) { __typename } }"

Answer = tuple[int, str]
Request = Callable[[httpx.AsyncClient, str, str], Awaitable[Answer]]
"""Of a client with a token, about an item."""


def graphql(query: str) -> Request:
    async def ask(http: httpx.AsyncClient, token: str, item: str) -> Answer:
        variables = {"id": item, "item": item, "key": f"key {time.monotonic_ns()}"}
        answer = await http.post("/graphql", json={"query": query, "variables": variables}, headers=bearer(token))
        return answer.status_code, code(answer.json())

    return ask


async def listed(http: httpx.AsyncClient, token: str, item: str) -> Answer:
    return rest(await http.get("/api/v2/files/list", headers=bearer(token)))


async def exported(http: httpx.AsyncClient, token: str, item: str) -> Answer:
    return rest(await http.get("/api/v2/stream/items.csv", headers=bearer(token)))


async def uploaded(http: httpx.AsyncClient, token: str, item: str) -> Answer:
    file = {"file": (f"{time.monotonic_ns()}.txt", b"some")}
    return rest(await http.post("/api/v2/files/upload", files=file, headers=bearer(token)))


async def streamed(http: httpx.AsyncClient, token: str, item: str) -> Answer:
    """A single result over server-sent events, which has no status of its own once the stream is open."""
    body = {"query": ITEM, "variables": {"id": item}}
    answer = await http.post("/graphql", json=body, headers={"Accept": "text/event-stream"})
    if answer.headers["content-type"].startswith("text/event-stream"):
        (data,) = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return 503 if "errors" in data else 200, code(json.loads(data))
    return answer.status_code, code(answer.json())


async def socketed(http: httpx.AsyncClient, token: str, item: str) -> Answer:
    async with websockets.connect(socket_url(http), subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": ITEM, "variables": {"id": item}}}))
        payload = json.loads(await socket.recv())["payload"]
    found = code({"errors": payload} if isinstance(payload, list) else payload)
    return 200 if found == "ok" else 503, found


def socket_url(http: httpx.AsyncClient) -> str:
    return str(http.base_url).replace("http", "ws", 1).rstrip("/") + "/graphql"


def code(body: dict[str, Any]) -> str:
    return body["errors"][0]["extensions"]["code"] if "errors" in body else "ok"


def rest(answer: httpx.Response) -> Answer:
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
