"""A request that came before, byte for byte …"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.support.service import Service

NAMES = "{ items { nodes { name description tags createdAt updatedAt } } }"
OWN = {"x-request-id", "x-process-time", "date"}


@pytest.fixture
def unread(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request can be read any more: an answer is one that is repeated."""

    async def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(service.app.state.pipeline, "prepare", fail)


async def post(service: Service, **headers: str) -> httpx.Response:
    return await service.http.post("/graphql", json={"query": NAMES}, headers=headers)


def seen(response: httpx.Response) -> tuple[int, bytes, dict[str, Any]]:
    return response.status_code, response.content, {name: value for name, value in response.headers.items() if name not in OWN}


@pytest.mark.parametrize("encoding", ["identity", "gzip, deflate"])
@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_gets_the_very_same_response(service: Service, request: pytest.FixtureRequest, accept: str, encoding: str) -> None:
    for number in range(5):
        await service.make_item(f"Kettle {number}")
    headers = {"Accept": accept, "Accept-Encoding": encoding}
    first = await post(service, **headers)
    request.getfixturevalue("unread")
    assert seen(await post(service, **headers)) == seen(first)
    assert first.headers.get("content-encoding", "identity") in encoding
    assert first.headers["content-type"] == f"{accept}; charset=utf-8"


async def test_is_read_anew_after_a_change(service: Service) -> None:
    for number in range(3):
        await service.make_item(f"Kettle {number}")
        assert len((await post(service)).json()["data"]["items"]["nodes"]) == number + 1


async def test_is_refused_with_a_token_that_is_not_good(service: Service, request: pytest.FixtureRequest) -> None:
    await post(service)
    request.getfixturevalue("unread")
    refused = await post(service, Authorization="Bearer nonsense")
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")


async def test_from_a_page_passes_cors(service: Service) -> None:
    await post(service)
    refused = await post(service, Origin="https://elsewhere.example")
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://elsewhere.example"}, {"Accept-Encoding": "identity"}])
async def test_is_told_once_what_its_answer_depends_on(service: Service, headers: dict[str, str]) -> None:
    for _ in range(2):
        assert (await post(service, **headers)).headers["vary"] == "Accept, Authorization, Accept-Encoding, Origin"


async def raw(service: Service, head: str, *parts: bytes) -> bytes:
    """The answer to a request whose body comes in these parts, each when the last has been read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    try:
        writer.write(f"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nConnection: close\r\n{head}\r\n".encode())
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("cut", [1, 40, -1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_is_the_whole_body(service: Service, cut: int, chunked: bool) -> None:
    """Its first part alone was once enough to be answered, and kept with whatever variables came behind it."""
    await service.make_item()
    rest = json.dumps({"query": NAMES, "variables": {"unused": "x" * 2_000}}).encode()
    beginning, end = rest[:cut], rest[cut:]

    def framed(part: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(part), part) if chunked else part

    head = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(rest)}\r\n"
    for _ in range(2):
        assert (await raw(service, head, framed(beginning), framed(end) + (b"0\r\n\r\n" if chunked else b""))).startswith(b"HTTP/1.1 200 ")
    cut_off = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(beginning)}\r\n"
    assert (await raw(service, cut_off, framed(beginning) + (b"0\r\n\r\n" if chunked else b""))).startswith(b"HTTP/1.1 400 ")
