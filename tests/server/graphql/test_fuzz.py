"""Whatever is sent, the service answers, tells nothing of its inside and finds no fault with itself.

`./scripts/fuzz --examples N` runs this with more inputs, other ones each time.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import settings_for
from tests.support.clients.websocket_subscriber import PROTOCOL
from tests.support.fuzz import http_requests, inputs, invariants
from tests.support.fuzz.invariants import REFUSALS, answered, fuzzed, judge, judge_response, listening_to_complaints
from tests.support.fuzz.target import SUITE_DOCUMENTS, Target, hunted, seeds
from tests.support.service import running

CLOSED_BY_RULE = {1000, 1002, 1003, 1007, 1009, 4400, 4401, 4403, 4408, 4409, 4429}
QUIET_SECONDS = 0.05  # Long enough for most first events; nothing depends on it.
RESET_FROM = 32_768  # Bytes: a head as large as this is refused while the rest is on its way, and the reset may overtake the answer.
once = pytest.mark.parametrize("target", ["sqlite"], indirect=True)  # For what is refused before a database is asked.
LISTS = {
    "items": [
        *(f"orderBy: {{field: {field}}}" for field in ("NAME", "PRICE", "CREATED_AT", "INVENTORY")),
        'search: "a"',
        "filter: {inStock: false}",
    ],
    "users": ["", 'search: "a"'],
    "files": [""],
    "auditLog": [""],
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Target]:
    settings = await settings_for(request.param, tmp_path_factory.mktemp("fuzz"), debug=False)
    async with hunted(settings) as target, running(settings.model_copy(update={"fast_path_enabled": False})) as reference:
        target.reference = reference
        target.marks = {f"{name} {more}": await mark(target, name, more) for name, variants in LISTS.items() for more in variants}
        with listening_to_complaints() as target.complaints:
            yield target
        assert target.complaints.seen == []
    if invariants.EXAMPLES:
        request.config.get_terminal_writer().line(f"\n{invariants.Count.inputs} inputs so far")


async def mark(target: Target, name: str, more: str) -> str:
    """What a cursor of this list begins with."""
    after = (await target.ask(f"{{ {name}(first: 1 {more}) {{ pageInfo {{ endCursor }} }} }}", token=target.token))[name]["pageInfo"][
        "endCursor"
    ]
    return json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))[0]


async def test_generated_documents(target: Target, request: pytest.FixtureRequest):
    await target.hunt(seeds(SUITE_DOCUMENTS // 2 if "postgresql" in request.node.name else SUITE_DOCUMENTS), target.complaints)


@fuzzed(0.03)
@given(document=inputs.documents)
async def test_valid_documents(target: Target, document: str):
    await target.asked({"query": document})


@fuzzed(0.05)
@given(request=inputs.requests, signed_in=st.booleans(), modern=st.booleans())
async def test_requests(target: Target, request: Any, signed_in: bool, modern: bool):
    accept = "application/graphql-response+json" if modern else "application/json"
    await target.asked(request, signed_in=signed_in, Accept=accept)


@once
@fuzzed(0.02)
@given(request=inputs.requests)
async def test_event_streams(target: Target, request: Any):
    headers = {**target.authorization, "Accept": "text/event-stream"}

    async def first_events() -> tuple[int, bytes]:
        async with target.http.stream("POST", "/graphql", json=request, headers=headers) as response:
            got = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_SECONDS):
                    async for piece in response.aiter_raw():
                        got += piece
            return response.status_code, got

    status, body = await answered(first_events())
    judge(status, body, json.dumps(request, ensure_ascii=False))
    for line in body.decode().splitlines():
        if line.startswith("data: {"):
            judge_response(json.loads(line.removeprefix("data: ")))


@fuzzed(0.02)
@given(position=inputs.positions, chosen=st.integers(0, 50), backward=st.booleans())
async def test_cursors(target: Target, position: Any, chosen: int, backward: bool):
    listing, mark = list(target.marks.items())[chosen % len(target.marks)]
    name, _, more = listing.partition(" ")
    cursor = json.dumps(inputs.cursor(mark, position))
    await target.asked(
        {"query": f"{{ {name}({more} {f'last: 1, before: {cursor}' if backward else f'after: {cursor}'}) {{ pageInfo {{ endCursor }} }} }}"}
    )


@once
@fuzzed(0.03)
@given(body=http_requests.bodies)
async def test_bodies(target: Target, body: bytes):
    await target.asked(body, Accept="application/json")


@fuzzed(0.015)
@given(form=http_requests.forms, kind=http_requests.form_types)
async def test_forms(target: Target, form: bytes, kind: str):
    headers = {**target.authorization, "Content-Type": kind}
    response = await answered(target.http.post("/api/v2/files/upload", content=form, headers=headers))
    judge(response.status_code, response.content, form)


@once
@fuzzed(0.05)
@given(request=http_requests.whole_requests())
async def test_whole_http_requests(target: Target, request: bytes):
    response = await answered(target.raw(request, seconds=20))
    if not response and (request.startswith((b"CONNECT", b"get")) or len(request) > RESET_FROM):
        return
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), response
    page = b"text/html" in head or b"text/plain; version" in head
    judge(int(head[9:12]), b"" if page and head.startswith(b"HTTP/1.1 200") else body if b"content-encoding" not in head else b"", request)


@once
@fuzzed(0.02)
@given(request=http_requests.splintered_requests)
async def test_bytes_that_are_hardly_http(target: Target, request: bytes):
    response = await answered(target.raw(request, seconds=QUIET_SECONDS))
    assert not response.startswith(b"HTTP/1.1 5") or int(response[9:12]) in REFUSALS, response


@once
@fuzzed(0.05)
@given(frames=st.lists(inputs.frames, min_size=1, max_size=5), initialised=st.booleans())
async def test_socket_frames(target: Target, frames: list[str | bytes], initialised: bool):
    async def talk() -> list[str | bytes]:
        heard: list[str | bytes] = []
        async with connect(target.socket_url, subprotocols=[PROTOCOL]) as socket:
            init = [json.dumps({"type": "connection_init", "payload": target.authorization})] if initialised else []
            try:
                for frame in [*init, *frames, '{"type":"ping"}', '{"type":"nothing"}']:
                    await socket.send(frame)
                while True:
                    heard.append(await socket.recv())
            except ConnectionClosed:
                assert socket.close_code in CLOSED_BY_RULE, (socket.close_code, socket.close_reason)
        return heard

    asked = " ".join(map(str, frames))
    for message in await answered(talk()):
        told = json.loads(message)
        judge(200, json.dumps(told, ensure_ascii=False).encode(), asked + json.dumps(asked))
        payload = told.get("payload")
        if told["type"] in {"next", "error"}:
            judge_response(payload if told["type"] == "next" else {"errors": payload})
