"""An answer that is given before its request is whole …

RFC 9110, section 10.1.1, for clients that wait for 100 Continue; RFC 9112, section 9.6, for those that do not.
"""

from __future__ import annotations

import pytest

from graph.kit.auth import Scope
from graph.server.asgi import deadline
from tests.support.clients.raw_http import connected, exchange, head
from tests.support.service import Service

JSON, FORM, CSV = "Content-Type: application/json", "Content-Type: multipart/form-data; boundary=x", "Content-Type: text/csv"
GRAPHQL, UPLOAD, IMPORT = "/graphql", "/api/v2/files/upload", "/api/v2/import/items"
NO_TOKEN, BAD_TOKEN, TOKEN = "", "Authorization: Bearer nonsense", "Authorization: Bearer {token}"

REFUSED = [
    (GRAPHQL, JSON, NO_TOKEN, 70_000, 413),
    (GRAPHQL, JSON, TOKEN, 5_000_000, 413),
    (GRAPHQL, JSON, BAD_TOKEN, 30, 401),
    (GRAPHQL, "Content-Type: text/plain", TOKEN, 30, 415),
    (GRAPHQL, f"{JSON}\r\nContent-Encoding: gzip", TOKEN, 30, 415),
    (GRAPHQL, f"{JSON}\r\nAccept: image/png", TOKEN, 30, 406),
    (GRAPHQL, f"{JSON}\r\nOrigin: https://elsewhere.example\r\nSec-Fetch-Site: cross-site", TOKEN, 30, 403),
    (UPLOAD, FORM, NO_TOKEN, 30, 401),
    (UPLOAD, FORM, BAD_TOKEN, 30, 401),
    (UPLOAD, FORM, TOKEN, 10**12, 413),
    (UPLOAD, JSON, TOKEN, 30, 415),
    (UPLOAD, f"{FORM}\r\nContent-Encoding: gzip", TOKEN, 30, 415),
    (IMPORT, CSV, NO_TOKEN, 30, 401),
    (IMPORT, CSV, BAD_TOKEN, 30, 401),
    (IMPORT, CSV, TOKEN, 10**12, 413),
    (IMPORT, FORM, TOKEN, 30, 415),
    ("/api/v2/import/items?match=nonsense", CSV, TOKEN, 30, 400),
    ("/live", JSON, NO_TOKEN, 30, 405),
    ("/nowhere", JSON, NO_TOKEN, 30, 404),
]


def request(path: str, kind: str, token: str, length: int, *more: str, method: str = "POST") -> bytes:
    fields = ["Host: here", kind, *([token] if token else ()), f"Content-Length: {length}", *more]
    return head(*fields, line=f"{method} {path} HTTP/1.1")


@pytest.mark.parametrize(("path", "kind", "token", "length", "status"), REFUSED)
async def test_comes_without_100_continue_and_ends_the_connection(
    embedded: Service, path: str, kind: str, token: str, length: int, status: int
) -> None:
    """The client need not send its body then, so what it sends next could be taken for it."""
    token = token.format(token=await embedded.sign_in())
    for expectation in ("100-continue", "100-Continue"):
        answer = await exchange(embedded, request(path, kind, token, length, f"Expect: {expectation}"))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.lower().count(b"\r\nconnection: close\r\n") == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/live", "/graphql?query=%7Bcompute(n:10)%7D", "/api/v2/stream/items.csv"])
async def test_ends_the_connection_where_a_body_means_nothing(
    embedded: Service, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the answer takes its time, and whether the client goes away is looked at meanwhile."""
    monkeypatch.setattr(deadline, "WATCH_SECONDS", 0.0)
    token = TOKEN.format(token=await embedded.sign_in())
    answer = await exchange(embedded, request(path, JSON, token, 30, "Expect: 100-continue", method=method))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("path", "kind", "body", "end"),
    [
        (GRAPHQL, JSON, b'{"query":"{__typename}"}', b'{"data":{"__typename":"Query"}}'),
        (IMPORT, CSV, b"name,price\nA,1\n", b'"unchanged":0,"deleted":0,"refused":0}\n\r\n0\r\n\r\n'),
    ],
)
async def test_is_a_100_continue_where_the_body_is_wanted(embedded: Service, path: str, kind: str, body: bytes, end: bytes) -> None:
    token = TOKEN.format(token=await embedded.sign_in())
    async with connected(embedded) as (reader, writer):
        writer.write(request(path, kind, token, len(body), "Expect: 100-continue", "Connection: close"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(end)


@pytest.mark.parametrize(("path", "kind", "token", "length", "status"), [case for case in REFUSED if case[3] > 1_000_000])
async def test_is_read_by_a_client_that_goes_on_sending(
    embedded: Service, path: str, kind: str, token: str, length: int, status: int
) -> None:
    """Closing at once would make the kernel take the answer back. Nothing of the body is read as another request."""
    token = token.format(token=await embedded.sign_in())
    async with connected(embedded) as (reader, writer):
        writer.write(request(path, kind, token, length))
        writer.write(b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n" * 20_000)
        await writer.drain()
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (answer.count(b"HTTP/1.1 "), answer.lower().count(b"\r\nconnection: close\r\n")) == (1, 1)


async def test_leaves_the_connection_open_where_the_rest_is_short(embedded: Service) -> None:
    async with connected(embedded) as (reader, writer):
        writer.write(request(UPLOAD, FORM, NO_TOKEN, 30))
        refusal = await reader.readuntil(b"}")
        assert refusal.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close" not in refusal
        writer.write(b"x" * 30 + head("Host: here", "Connection: close"))
        assert b"HTTP/1.1 200 OK\r\n" in await reader.read()


async def test_changes_nothing(embedded: Service) -> None:
    token = await embedded.sign_in(Scope.ITEMS_READ)
    answer = await exchange(embedded, request(IMPORT, CSV, f"Authorization: Bearer {token}", 15, "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert await embedded.count("items") == [0]
