"""GraphQL over HTTP, held against its text (September 2026, of which the August draft is quoted), RFC 9110 and RFC 10008."""

from __future__ import annotations

import asyncio
import gzip
import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from graph.server.graphql.http import HttpLimits
from graph.server.graphql.pipeline import EncodedResponse
from tests.support.endpoints import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Receive, Scope, Send

    from graph.kit.execution.engine import Operation
    from tests.support.service import Service

MODERN, LEGACY = "application/graphql-response+json", "application/json"
HELLO = {"query": "{ __typename }"}
HELLO_ANSWER = {"data": {"__typename": "Query"}}
CREATE = 'mutation { createItem(input: { name: "Kettle", price: "1.00" }) { __typename } }'


@pytest.fixture
def service(embedded: Service) -> Service:
    return embedded


def media_type(response: httpx.Response) -> str:
    return response.headers["Content-Type"].partition(";")[0]


def code(response: httpx.Response) -> str:
    """Of the one error of a response that has no data."""
    body = response.json()
    assert list(body) == ["errors"], body
    assert len(body["errors"]) == 1, body
    return body["errors"][0]["extensions"]["code"]


async def post(service: Service, body: Any, *, accept: str | None = None, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": LEGACY, "Accept": accept or LEGACY} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await service.http.post("/graphql", content=content, headers=sent)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (MODERN, MODERN),
        (LEGACY, LEGACY),
        ("*/*", LEGACY),
        ("", LEGACY),
        ("application/*", LEGACY),
        (f"{MODERN}, {LEGACY};q=0.9", MODERN),
        (f"{LEGACY}, {MODERN}", MODERN),
        (f"{MODERN};q=0.4, {LEGACY};q=0.5", LEGACY),
        (f"{MODERN};q=0, {LEGACY};q=0.1", LEGACY),
        (f"{LEGACY};q=0, */*", MODERN),
        (f"text/csv, {MODERN.upper()} ; Q=0.1", MODERN),
        (f'{MODERN}; charset="UTF-8"', MODERN),
        (f'{LEGACY};profile="a;q=0"', LEGACY),
        (f'{LEGACY};profile="a, {MODERN};q=1, \\", b"', LEGACY),
        ("text/html, application/xhtml+xml, */*;q=0.8", LEGACY),
        (f"{LEGACY}, text/event-stream, multipart/mixed", LEGACY),
        (", ,", LEGACY),
        (f", {MODERN},", MODERN),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", LEGACY),  # Java's HttpURLConnection.
        (f"{LEGACY};q = 0, {MODERN};q=.4", MODERN),
        (f"{MODERN}, {'text/csv, ' * 97} {LEGACY};q=0.001", MODERN),
        (f"{MODERN};q=0.3, {'text/csv, ' * 94}{LEGACY};q=0.2", MODERN),
    ],
)
async def test_answers_in_the_highest_priority_media_type_listed(service: Service, accept: str, chosen: str) -> None:
    """Body: "the server MUST respect the given Accept header and attempt to encode the response in the highest priority media type listed"."""
    response = await post(service, HELLO, accept=accept or None)
    assert (response.status_code, media_type(response), response.json()) == (200, chosen, HELLO_ANSWER)
    assert response.headers["Content-Type"].endswith("; charset=utf-8")  # "and SHOULD indicate the encoding"
    assert "Accept" in response.headers["Vary"].split(", ")  # RFC 9110, section 12.5.5


@pytest.mark.parametrize(
    "accept",
    [
        "text/csv",
        f"{LEGACY};q=0",
        *(f"{LEGACY};q={text}" for text in ("nan", "inf", "1e1", "0_1", "+1", ".", ".0001", "1.1", "2", "0.1234", "-0", "")),
        f"{MODERN};charset=utf-16",
        "nonsense",
    ],
)
async def test_refuses_what_it_cannot_write(service: Service, accept: str) -> None:
    """Body: "does not indicate support for any of the server's supported media types … the server SHOULD respond with 406 Not Acceptable"."""
    response = await post(service, HELLO, accept=accept)
    assert (response.status_code, media_type(response), code(response)) == (406, LEGACY, "BAD_USER_INPUT")


@pytest.mark.parametrize(
    "content_type",
    [LEGACY, "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"', 'application/json; a="b;charset=latin-1"'],
)
async def test_reads_json_in_utf_8(service: Service, content_type: str) -> None:
    """Media Types: "If the media type … does not include encoding information … then utf-8 MUST be assumed"."""
    query = '{ __type(name: "Run🏃Swim🏊") { name } }'
    response = await post(service, json.dumps({"query": query}, ensure_ascii=False).encode(), Content_Type=content_type)
    assert (response.status_code, response.json()) == (200, {"data": {"__type": None}})


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/graphql", "multipart/form-data; boundary=x", "application/json; charset=latin-1", "text/json"],
)
async def test_refuses_other_media_types(service: Service, content_type: str) -> None:
    """Status Codes: "If the Content-Type of the request is not supported, status code 415 SHOULD be used"."""
    response = await service.http.post(
        "/graphql", content=json.dumps(HELLO), headers={"Content-Type": content_type} if content_type else {}
    )
    assert (response.status_code, code(response)) == (415, "BAD_USER_INPUT")
    assert response.headers["Accept-Query"] == LEGACY


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_refuses_other_methods_and_says_which_there_are(service: Service, method: str) -> None:
    """RFC 9110, section 15.5.6: "The origin server MUST generate an Allow header field in a 405 response"."""
    response = await service.http.request(method, "/graphql")
    assert (response.status_code, response.headers["Allow"], code(response)) == (405, "GET, HEAD, POST, QUERY", "BAD_USER_INPUT")


@pytest.mark.parametrize(
    ("query", "variables", "why"),
    [
        ("{", None, "GRAPHQL_PARSE_FAILED"),
        ("", None, "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", None, "GRAPHQL_VALIDATION_FAILED"),
        ("query ($id: ID!) { item(id: $id) { id } }", {"id": None}, "BAD_USER_INPUT"),
        ("query A { __typename } query B { __typename }", None, "BAD_USER_INPUT"),
    ],
)
async def test_says_by_status_that_an_operation_was_not_run(service: Service, query: str, variables: Any, why: str) -> None:
    """GraphQL, section 7.1: "If an error is raised before the execution begins, the response must be a map with errors and no data".

    The audits want 400, and 200 from a client that knows only application/json; the newer text 422 for all but the first two.
    """
    body = {"query": query, "variables": variables}
    modern, legacy = await post(service, body, accept=MODERN), await post(service, body, accept=LEGACY)
    assert (modern.status_code, media_type(modern), code(modern)) == (400, MODERN, why)
    assert (legacy.status_code, media_type(legacy), code(legacy)) == (200, LEGACY, why)


async def test_gives_partial_data_with_status_200(service: Service) -> None:
    """Field errors: "the server SHOULD respond with a status code of 200 (Okay)"."""
    response = await post(service, {"query": "{ __typename nodes(ids: []) { id } itemsPage { items { id } } }"}, accept=MODERN)
    assert response.status_code == 200
    assert response.json()["data"] is None
    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["UNAUTHENTICATED"]


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "x" * 5_000])
@pytest.mark.parametrize("accept", [MODERN, LEGACY])
async def test_never_takes_a_bad_token_for_none(service: Service, token: str, accept: str) -> None:
    """Status Codes: "If the client is not permitted to issue the GraphQL request, then the server SHOULD reply with 401, 403"."""
    response = await post(service, HELLO, accept=accept, Authorization=f"Bearer {token}")
    assert (response.status_code, media_type(response), code(response)) == (401, accept, "UNAUTHENTICATED")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_takes_a_get_for_queries(service: Service) -> None:
    """GET: "parameters MUST be provided in the query component of the request URL"."""
    query = "query A($name: String!) { __type(name: $name) { name } } query B { __typename }"
    parameters = {"query": query, "variables": '{"name": "Query"}', "operationName": "A", "extensions": "{}"}
    response = await service.http.get("/graphql", params=parameters, headers={"Accept": MODERN})
    assert (response.status_code, response.json()) == (200, {"data": {"__type": {"name": "Query"}}})


async def test_answers_a_head_like_a_get_without_the_body(service: Service) -> None:
    """RFC 9110, section 9.3.2: "The server SHOULD send the same header fields in response to a HEAD request"."""
    response = await service.http.head("/graphql", params=HELLO)
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "31")


async def test_takes_an_empty_parameter_of_a_get_for_none(service: Service) -> None:
    """GET: "Specifying the empty string for optional request parameters is equivalent to not specifying them at all"."""
    empty = {"operationName": "", "variables": "", "extensions": "", "documentId": ""}
    response = await service.http.get("/graphql", params=HELLO | empty)
    assert (response.status_code, response.json()) == (200, HELLO_ANSWER)


async def test_takes_null_in_a_get_for_a_name(service: Service) -> None:
    """GET: "operationName=null represents an operation with the name "null" (such as query null { __typename })"."""
    both = {"query": "query null { __typename } query other { a: __typename }", "operationName": "null"}
    assert (await service.http.get("/graphql", params=both)).json() == HELLO_ANSWER


@pytest.mark.parametrize(
    "query_string",
    [
        "",
        "query=",
        "query=%7B__typename%7D&variables=%5B%5D",
        "query=%7B__typename%7D&variables=%7B",
        "query=%7Ba%7D&query=%7Bb%7D",
        "query=%FF",
    ],
)
async def test_refuses_a_get_that_is_not_well_formed(service: Service, query_string: str) -> None:
    """GET: "Each of the {variables} and {extensions} parameters … MUST be encoded as a JSON string"."""
    response = await service.http.get(f"/graphql?{query_string}")
    assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")


@pytest.mark.parametrize("method", ["GET", "HEAD", "QUERY"])
async def test_runs_no_mutation_by_a_safe_method(service: Service, method: str) -> None:
    """GET: "the server MUST respond with an appropriate 4xx status code and halt execution; 405 is RECOMMENDED"."""
    token = await service.sign_in()
    headers = {"Authorization": f"Bearer {token}"}
    asked: dict[str, Any] = {"json": {"query": CREATE}} if method == "QUERY" else {"params": {"query": CREATE}}
    response = await service.http.request(method, "/graphql", headers=headers, **asked)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert (await service.ask("{ items { edges { node { id } } } }"))["items"]["edges"] == []


async def test_takes_the_query_method(service: Service) -> None:
    """RFC 10008: "QUERY … a safe, idempotent request method that can carry request content"."""
    response = await service.http.request("QUERY", "/graphql", json=HELLO)
    assert (response.status_code, response.json()) == (200, HELLO_ANSWER)


async def test_refuses_a_query_method_without_a_type(service: Service) -> None:
    """RFC 10008: "Servers MUST fail the request if the Content-Type request field is missing or is inconsistent with the request content"."""
    response = await service.http.request("QUERY", "/graphql", content=json.dumps(HELLO))
    assert (response.status_code, code(response)) == (415, "BAD_USER_INPUT")


@pytest.mark.parametrize(
    "absent", [{}, {"operationName": None}, {"operationName": ""}, {"variables": None, "extensions": None, "documentId": None}]
)
async def test_takes_null_for_absent(service: Service, absent: dict[str, Any]) -> None:
    """JSON Encoding: "Specifying null for optional request parameters is equivalent to not specifying them at all"."""
    response = await post(service, HELLO | absent, accept=MODERN)
    assert (response.status_code, response.json()) == (200, HELLO_ANSWER)


async def test_ignores_properties_it_does_not_know(service: Service) -> None:
    """JSON Encoding: "Servers receiving a request with additional properties MUST ignore properties they do not understand"."""
    response = await post(service, HELLO | {"batch": [1], "id": 3}, accept=MODERN)
    assert (response.status_code, response.json()) == (200, HELLO_ANSWER)


@pytest.mark.parametrize("accept", [MODERN, LEGACY])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NONSENSE",
        b'{"query":',
        b"null",
        b"3",
        b'"{ __typename }"',
        b"[]",
        b'[{"query": "{ __typename }"}]',
        b'{"qeury": "{ __typename }"}',
        b'{"query": 0}',
        b'{"query": {"text": "{ __typename }"}}',
        b'{"query": "{ __typename }", "operationName": ["A"]}',
        b'{"query": "{ __typename }", "variables": [7]}',
        b'{"query": "{ __typename }", "variables": "{}"}',
        b'{"query": "{ __typename }", "extensions": false}',
        b'{"query": "{ __typename }", "documentId": 1}',
        b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        b'{"query": "{ __typename }", "variables": {"a": 1e999}}',
        b'{"query": "{ __typename }" /* twice */}',
        b'{"query": "{ __typename \xff }"}',
        '{"query": "{ __typename }"}'.encode("utf-16"),
        b'{"query": "{ __typename } # \\ud800"}',
        b'{"query": "{ __typename } # \xed\xa0\x80"}',
    ],
)
async def test_refuses_a_body_that_is_no_request(service: Service, body: bytes, accept: str) -> None:
    """Status Codes: "If the JSON body of the request could not be parsed, status code 400 SHOULD be used"; for what is not well formed the
    audits want 400, where the text has 422."""
    response = await post(service, body, accept=accept)
    assert (response.status_code, media_type(response), code(response)) == (400, accept, "BAD_USER_INPUT")


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "{ __typename }", "query": "{ items { totalCount } }"}',
        b'{"query": "{ __typename }", "qu\\u0065ry": "{ items { totalCount } }"}',
        b'{"query": "{ __typename }", "variables": {"input": {"price": 1, "price": 2}}}',
        b'{"query": "{ __typename } # \\u0022\\u0022", "a": 1, "a": 1}',
        b'{"query": "{ __typename }", "a": ' + b"[" * 500 + b"]" * 500 + b', "a": "\\u0022"}',
    ],
)
async def test_refuses_repeated_names(service: Service, body: bytes) -> None:
    """RFC 8259, section 4: "When the names within an object are not unique, the behavior of software that receives such an object is
    unpredictable"."""
    assert code(response := await post(service, body)) == "BAD_USER_INPUT"
    assert response.status_code == 400


@pytest.mark.parametrize("text", ['"', '\\"', "\\\\", '\\\\\\"', '"\\u0022"', "{}[]:,", '\\"query\\":'])
async def test_does_not_mistake_quotation_marks_for_repeated_names(service: Service, text: str) -> None:
    query = "query ($text: String) { items(search: $text, first: 0) { edges { cursor } } }"
    response = await post(service, {"query": query, "variables": {"text": text, f"unused {text}": [text, {text: text}]}})
    assert response.json() == {"data": {"items": {"edges": []}}}


async def test_skips_a_byte_order_mark(service: Service) -> None:
    """RFC 8259, section 8.1: "implementations that parse JSON texts MAY ignore the presence of a byte order mark"."""
    response = await post(service, b"\xef\xbb\xbf" + json.dumps(HELLO).encode())
    assert (response.status_code, response.json()) == (200, HELLO_ANSWER)


@pytest.mark.parametrize("depth", [65, 1_000, 30_000])
async def test_refuses_deeply_nested_json(service: Service, depth: int) -> None:
    response = await post(service, b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * depth + b"]" * depth + b"}}")
    assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")


async def test_refuses_a_body_over_the_cap(service: Service) -> None:
    """Status Codes: "If the size of the POST request body was too large, status code 413 SHOULD be used"."""
    response = await post(service, {"query": "{ __typename }" + " " * 262_144})
    assert (response.status_code, response.headers["Connection"], code(response)) == (413, "close", "BAD_USER_INPUT")


async def test_stops_reading_a_body_of_unknown_length_at_the_cap(service: Service) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        while sent < 2**30:
            sent += 65_536
            yield b" " * 65_536

    try:
        response = await service.http.post("/graphql", content=endless(), headers={"Content-Type": LEGACY})
    except httpx.NetworkError:
        pass  # the connection was closed before the client had noticed the answer
    else:
        assert response.status_code == 413
    assert sent < 2**26


async def test_leaves_room_for_a_bulk_of_a_signed_in_caller(service: Service) -> None:
    token = await service.sign_in()
    response = await post(service, {"query": "{ __typename }" + " " * 262_144}, Authorization=f"Bearer {token}")
    assert response.status_code != 413


async def test_refuses_compressed_bodies(service: Service) -> None:
    """RFC 9110, section 15.5.16: 415 with "Accept-Encoding … what content codings would have been accepted"."""
    bomb = gzip.compress(b" " * 10_000_000)
    response = await post(service, bomb, Content_Encoding="gzip")
    assert (response.status_code, response.headers["Accept-Encoding"], code(response)) == (415, "identity", "BAD_USER_INPUT")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "OWN"}, 200),
    ],
)
async def test_serves_no_page_of_another_site(service: Service, headers: dict[str, str], status: int) -> None:
    """Security: "media types such as multipart/form-data … opening the server up to Cross-Site Request Forgery"; here with the JSON type,
    that a page can send after a preflight or by an old browser's fault."""
    sent = {name: service.url if value == "OWN" else value for name, value in headers.items()}
    response = await post(service, HELLO, **sent)
    assert response.status_code == status
    by_get = await service.http.get("/graphql", params=HELLO, headers=sent)
    assert by_get.status_code == status
    if status == 403:
        assert (code(response), code(by_get)) == ("FORBIDDEN", "FORBIDDEN")


async def test_keeps_answers_out_of_shared_caches(service: Service) -> None:
    assert (await post(service, HELLO)).headers["Cache-Control"] == "private, no-store"


async def test_gives_up_on_a_body_that_does_not_come(service: Service) -> None:
    """Status Codes: "If the client did not produce a request within the time that the server was prepared to wait, … 408"."""
    endpoint = Wire(service).http(limits=HttpLimits(seconds=0.01))
    sent: list[Message] = []

    async def never() -> Message:
        return await asyncio.Event().wait() and {}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": [(b"content-type", LEGACY.encode())], "client": ("::1", 1)}
    await endpoint(scope, never, send)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["errors"][0]["extensions"]) == (408, {"code": "BAD_USER_INPUT"})


async def test_shows_a_browser_the_page_unless_it_asks_something(service: Service) -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<h1>Storegraph</h1>"})

    transport = httpx.ASGITransport(Wire(service).http(page=page))
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Site": "cross-site"}
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        assert (await http.get("/graphql", headers=browser)).text == "<h1>Storegraph</h1>"
        assert (await http.get("/graphql?tab=2", headers=browser)).text == "<h1>Storegraph</h1>"
        assert code(await http.get("/graphql")) == "BAD_USER_INPUT"
        assert (await http.get("/graphql", params=HELLO, headers={"Accept": browser["Accept"]})).json() == HELLO_ANSWER


class PublicAnswers:
    """A pipeline whose answers anybody may see."""

    def __init__(self, wire: Wire) -> None:
        self.read, self.prepare = wire.pipeline.read, wire.pipeline.prepare

    async def run(self, operation: Operation, *_: object) -> EncodedResponse:
        return EncodedResponse(b'{"data":{}}', public=True)


EMPTY = b'{"data":{}}'
TAG = f'"{blake2b(EMPTY, digest_size=12).hexdigest()}"'


@pytest.mark.parametrize(
    ("known", "status"), [(None, 200), ('"v0"', 200), (TAG, 304), (f"W/{TAG}", 304), (f'"v0", {TAG}', 304), ("*", 304)]
)
async def test_says_that_a_client_has_the_answer_already(service: Service, known: str | None, status: int) -> None:
    """RFC 9110, section 15.4.5: a 304 must carry Cache-Control, ETag and Vary "that would have been sent in a 200 (OK) response"."""
    wire = Wire(service)
    transport = httpx.ASGITransport(wire.http(PublicAnswers(wire)))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        response = await http.get("/graphql", params=HELLO, headers={"If-None-Match": known} if known else {})
        posted = await http.post("/graphql", json=HELLO, headers={"If-None-Match": TAG})
    assert (response.status_code, response.content) == (status, b"" if status == 304 else b'{"data":{}}')
    assert (response.headers["ETag"], response.headers["Cache-Control"]) == (TAG, "public, no-cache")
    assert response.headers["Vary"] == "Accept, Authorization, Accept-Encoding, Origin"
    assert (posted.status_code, posted.headers["Cache-Control"]) == (200, "private, no-store")
    assert "ETag" not in posted.headers
