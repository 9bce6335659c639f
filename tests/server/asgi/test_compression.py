"""Which content coding an answer has. RFC 9110, section 12.5.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from graph.server.asgi.compression import Compression, choose_coding

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.support.service import Service

REFUSE_GZIP = [
    "gzip;q=0",
    "gzip;q=0.0",
    "gzip;q=0.000",
    "gzip; q=0",
    "gzip ;q=0",
    "gzip\t;\tq=0",
    "gzip;Q=0",
    "GZIP;q=0",
    "x-gzip;q=0",
    "*;q=0",
    "*;q=0.000",
    "gzip;q=0, *",
    "*, gzip;q=0",
    "*, x-gzip;q=0",
    "deflate, gzip;q=0",
    "br, gzip;q=0, *;q=0.5",
    "identity",
    "identity, gzip;q=0.5",
    "identity;q=1.0, gzip;q=0.999",
    "identity;q=0.5, *;q=0.4",
    "identity;q=0",
    "br",
    "",
    " ",
    ",",
    "gzipped",
    "notgzip",
    "gzip-not",
    "gzip;q=2",
    "gzip;q=1.001",
    "gzip;q=-1",
    "gzip;q=",
    "gzip;q=0.0001",
    "gzip;q=.5",
    "gzip;level=1",
    "gzip;q=1;q=0",
    '"gzip"',
    "gzip deflate",
]
TAKE_GZIP = [
    "gzip",
    "GZip",
    "x-gzip",
    "X-GZIP;q=0.5",
    "gzip;q=1",
    "gzip;q=1.000",
    "gzip;q=0.001",
    "gzip;q=0.1",
    "gzip; q=0.5",
    "*",
    "*;q=0.001",
    "*;q=0, gzip",
    "deflate, gzip",
    "deflate,gzip;q=0.5",
    ",, gzip ,",
    "gzip, identity",
    "gzip;q=0.5, identity;q=0.5",
    "identity;q=0, gzip;q=0.1",
    "identity;q=0.001, *",
    "identity;q=0, *",
    "br;q=1.0, gzip;q=0.8, *;q=0.1",
]


@pytest.mark.parametrize("accept", REFUSE_GZIP)
def test_are_not_chosen_where_they_are_refused_or_liked_less(accept: str) -> None:
    assert choose_coding(accept, ("gzip",)) == "identity"


@pytest.mark.parametrize("accept", TAKE_GZIP)
def test_are_chosen_where_they_are_taken(accept: str) -> None:
    assert choose_coding(accept, ("gzip",)) == "gzip"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "identity"),
        ("gzip, br", "br"),
        ("gzip, br;q=0.9", "gzip"),
        ("gzip, br;q=0", "gzip"),
        ("br;q=0.001", "br"),
        ("*", "br"),
        ("*, br;q=0", "gzip"),
        ("*;q=0", "identity"),
        ("gzip;q=0, br;q=0", "identity"),
        ("identity;q=0.9, gzip;q=0.8, br", "br"),
    ],
)
def test_are_weighed(accept: str | None, chosen: str) -> None:
    assert choose_coding(accept, ("br", "gzip")) == chosen


ROUTES = ["/schema.graphql", "/docs/README.md", "/explorer/page.css"]
QUERY = '{ __type(name: "Query") { fields { name description args { name description } } } }'


async def coded(service: Service, path: str, *lines: str, **headers: str) -> httpx.Response:
    """The answer to a request with these lines of Accept-Encoding, and none of the client's own."""
    fields = [("Accept-Encoding", line) for line in lines] + list(headers.items())
    request = service.http.build_request("GET", path, headers=fields)
    if not lines:
        del request.headers["Accept-Encoding"]
    return await service.http.send(request)


@pytest.mark.parametrize("path", ROUTES)
async def test_are_kept_to_by_every_route(embedded: Service, path: str) -> None:
    plain = await coded(embedded, path)
    assert (plain.headers.get("content-encoding"), "accept-encoding" in plain.headers["vary"].lower()) == (None, True)
    for lines in (["gzip;q=0"], ["*;q=0"], ["deflate", "gzip; q=0.000"], ["identity;q=0"], [""]):
        answer = await coded(embedded, path, *lines)
        assert (answer.headers.get("content-encoding"), answer.content) == (None, plain.content)
        assert answer.headers["vary"] == plain.headers["vary"]
    for lines in (["x-gzip"], ["*"], ["deflate", "gzip;q=0.001"], ["identity;q=0, GZIP"]):
        answer = await coded(embedded, path, *lines)
        assert answer.content == plain.content
        assert answer.headers["content-encoding"] in {"gzip", "br"}
        assert answer.headers["vary"] == plain.headers["vary"]


@pytest.mark.parametrize("again", [False, True])
async def test_are_kept_to_by_graphql(embedded: Service, again: bool) -> None:
    for _ in range(1 + again):
        for accept, coding in (("gzip;q=0", None), ("*;q=0", None), ("gzip", "gzip"), ("x-gzip", "gzip"), ("identity, gzip;q=0.5", None)):
            answer = await embedded.http.post("/graphql", json={"query": QUERY}, headers={"Accept-Encoding": accept})
            assert (answer.headers.get("content-encoding"), "errors" in answer.json()) == (coding, False)
            assert "Accept-Encoding" in answer.headers["vary"]


async def test_are_kept_to_by_a_repeated_request_for_a_cached_answer(embedded: Service) -> None:
    for number in range(30):
        await embedded.make_item(f"Kettle number {number} of a long row of kettles")
    query = {"query": "{ items(first: 30) { nodes { name } } }"}
    for accept, coding in [("gzip;q=0", None), ("gzip", "gzip"), ("*;q=0", None), ("identity, gzip;q=0.1", None)] * 3:
        answer = await embedded.http.post("/graphql", json=query, headers={"Accept-Encoding": accept})
        assert answer.headers.get("content-encoding") == coding
        assert len(answer.json()["data"]["items"]["nodes"]) == 30


async def test_code_a_short_body_only_for_who_refuses_it_as_it_is(embedded: Service) -> None:
    for accept, coding in (("gzip", None), ("gzip, identity;q=0", "gzip"), ("*;q=0, gzip", "gzip")):
        answer = await coded(embedded, "/live", accept)
        assert (answer.headers.get("content-encoding"), answer.json(), answer.headers["vary"]) == (
            coding,
            {"status": "ok"},
            "Origin, Accept-Encoding",
        )


@pytest.mark.parametrize("path", ["/schema.graphql", "/live", "/docs/README.md"])
async def test_tell_head_what_get_would_be_told(embedded: Service, path: str) -> None:
    for accept in ("gzip", "gzip;q=0", "gzip, identity;q=0"):
        get = await embedded.http.get(path, headers={"Accept-Encoding": accept})
        head = await embedded.http.head(path, headers={"Accept-Encoding": accept})
        for field in ("content-encoding", "etag", "vary", "content-type"):
            assert head.headers.get(field) == get.headers.get(field)
        assert head.headers.get("content-length") in {None, get.headers["content-length"]}


async def test_leave_a_sharers_list_of_headers_alone() -> None:
    """A message that its sender uses again must not gather what was added for other clients."""
    shared: list[tuple[bytes, bytes]] = [(b"content-type", b"text/plain")]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": shared})
        await send({"type": "http.response.body", "body": b"x" * 1_000})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(Compression(app)), base_url="http://shop.test") as client:
        for accept in ("identity", "gzip", "identity"):
            await client.get("/", headers={"Accept-Encoding": accept})
    assert shared == [(b"content-type", b"text/plain")]
