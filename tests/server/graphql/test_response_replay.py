"""A request that came before, byte for byte …"""

from __future__ import annotations

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
