"""What a caller pays for bytes: of requests, however they come, of responses, uploads and downloads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from decimal import Decimal

import pytest

from graph.budget import BudgetMeter
from graph.kit.auth import Scope
from graph.server.graphql.budget import ANSWER_BYTES_A_POINT
from graph.server.rest.exports import EXPORT_POINTS
from graph.server.rest.files import DOWNLOADED_BYTES_A_POINT
from graph.server.rest.routes import RECEIVED_BYTES_A_POINT
from persistence.items import table as items
from persistence.kit.limits.token_bucket import Budget
from tests.support.budgets import ADDRESS, cost, holds, keep, known, left, restored
from tests.support.service import Service


def body(size: int) -> bytes:
    """A query in so many bytes of JSON."""
    text = b'{"query":"{ __typename }","extensions":{"x":"'
    return text + b"x" * (size - len(text) - 3) + b'"}}'


async def test_charge_for_a_long_request_before_it_is_parsed_and_also_when_it_is_no_request(limited: Service):
    await known(limited, "{ __typename }")
    json_ = {"Content-Type": "application/json"}
    for content, spent, status in (
        (body(4_096), 50, 200),
        (body(4_096 + 256 * 10), 50 + 10, 200),
        (b"[" * 6_656, 262 + 20, 400),
        (b'{"query":"{ __typename }","extensions":{"x":[' + b"{}," * 2_399 + b"{}]}}", (2_403 * 256 // 24 - 4_096) // 256 + 1 + 50, 200),
        (b"{", 20, 400),
    ):
        await restored(limited)
        response = await limited.http.post("/graphql", content=content, headers=json_)
        level = await limited.services.ports[BudgetMeter]._quota.charge(ADDRESS, 0)
        assert (response.status_code, level.remaining) == (status, 1_000 - spent)
    await keep(limited, 9)
    refused = await limited.http.post("/graphql", content=body(4_096 + 256 * 10), headers=json_)
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["requested"]) == (429, 10)


async def bytewise(content: bytes) -> AsyncGenerator[bytes]:
    for place in range(len(content)):
        yield content[place : place + 1]


async def test_charge_for_a_body_in_small_pieces(limited: Service):
    await known(limited, "{ __typename }")
    # Each piece counts for 512 bytes; 256 cost a point, and the first 4,096 nothing.
    for place, size in enumerate((100, 100)):  # The second time, the body is known.
        await restored(limited)
        response = await limited.http.post("/graphql", content=bytewise(body(size)), headers={"Content-Type": "application/json"})
        assert (place, response.status_code, left(response)) == (place, 200, f"r={1_000 - 184 - 50}")
    await keep(limited, 183)
    refused = await limited.http.post("/graphql", content=bytewise(body(100)), headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["requested"]) == (429, 184)


async def test_charge_for_small_pieces_of_a_body_that_is_too_large(limited: Service):
    await restored(limited)
    content = body(65_537)
    large, small = content[:-100], content[-100:]

    async def pieces() -> AsyncGenerator[bytes]:
        async for piece in bytewise(small):
            yield piece
        yield large

    response = await limited.http.post("/graphql", content=pieces(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    await holds(limited.services.ports[BudgetMeter]._quota, ADDRESS, 1_000 - 184 - 20)


async def test_charge_for_small_pieces_of_a_body_whose_client_goes_away(limited: Service):
    await restored(limited)
    host, port = limited.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100
    )
    await writer.drain()
    writer.close()
    await holds(limited.services.ports[BudgetMeter]._quota, ADDRESS, 1_000 - 184)


@pytest.mark.parametrize(("size", "points"), [(200, 100), (9 * RECEIVED_BYTES_A_POINT, 100), (120 * RECEIVED_BYTES_A_POINT, 120)])
async def test_charge_for_the_bytes_of_an_upload_where_they_are_more_than_its_price(limited: Service, size: int, points: int):
    user = await limited.make_user()
    bearer = {"Authorization": f"Bearer {limited.tokens.issue(user.id, tuple(Scope))}"}
    upload = {"file": ("large.bin", bytes(size), "application/octet-stream")}
    assert (await limited.http.post("/api/v2/files/upload", files=upload, headers=bearer)).status_code == 201
    await holds(limited.services.ports[BudgetMeter]._quota, f"user:{user.id}", 1_000 - points)


async def test_charge_for_an_upload_in_small_pieces(limited: Service):
    user = await limited.make_user()
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"y" * 200 + b"\r\n--x--\r\n"
    headers = {"Authorization": f"Bearer {limited.tokens.issue(user.id, tuple(Scope))}", "Content-Type": "multipart/form-data; boundary=x"}
    answer = await limited.http.post("/api/v2/files/upload", content=bytewise(form), headers=headers)
    assert answer.status_code == 201
    points = math.ceil((len(form) * 511 - 4_096) / 256)
    assert points > 500
    await holds(limited.services.ports[BudgetMeter]._quota, f"user:{user.id}", 1_000 - points)


async def test_take_64_kb_of_strangers_and_4_mb_of_users(limited: Service):
    token = await limited.sign_in()
    limited.services.ports[BudgetMeter]._quota.refund(ADDRESS, 1_000)
    headers = {"Content-Type": "application/json"}
    statuses = [(await limited.http.post("/graphql", content=body(size), headers=headers)).status_code for size in (65_536, 65_537)]
    assert statuses == [200, 413]
    signed = headers | {"Authorization": f"Bearer {token}"}
    assert (await limited.http.post("/graphql", content=body(200_000), headers=signed)).status_code == 200


async def test_charge_for_the_bytes_of_an_answer_and_let_the_budget_fall_below_zero(limited: Service):
    owner = await limited.make_user()
    async with limited.database.transaction() as work:
        await items.create_all(work, [items.ItemValues(f"Kettle {n}", Decimal(1), "é" * 10_000) for n in range(20)], owner_id=owner.id)
    document = "{ items { nodes { description } } }"
    await known(limited, document, "{ __typename }")
    response = await limited.http.post("/graphql", json={"query": document, "extensions": {"cost": True}})
    points = -(
        -len(b'{"data":{"items":{"nodes":[' + b",".join([b'{"description":"' + "é".encode() * 10_000 + b'"}'] * 20) + b"]}}}") // 1_024
    )
    assert cost(response.json()) == (50, points) == (50, 392)
    assert left(response) == f"r={1_000 - 392}"
    await keep(limited, 50)
    assert left(await limited.send(document)) == "r=0"
    await holds(limited.services.ports[BudgetMeter]._quota, ADDRESS, 50 - 392)
    refused = await limited.send("{ __typename }")
    # 50 - 392 are there, and 50 are wanted.
    assert (refused.status_code, refused.headers["retry-after"]) == (429, str((392 - 50 + 50) * 1_000))


@pytest.mark.parametrize(("size", "points"), [(9 * DOWNLOADED_BYTES_A_POINT, 10), (24 * DOWNLOADED_BYTES_A_POINT + 1, 24)])
async def test_pay_for_the_bytes_of_a_download_where_they_are_more_than_its_price(limited: Service, size: int, points: int):
    user = await limited.make_user()
    bearer = {"Authorization": f"Bearer {limited.tokens.issue(user.id, tuple(Scope))}"}
    upload = {"file": ("large.bin", bytes(size), "application/octet-stream")}
    assert (await limited.http.post("/api/v2/files/upload", files=upload, headers=bearer)).status_code == 201
    await restored(limited)
    answer = await limited.http.get("/api/v2/files/download/large.bin", headers=bearer)
    assert (len(answer.content), left(answer)) == (size, "r=990")
    quota = limited.services.ports[BudgetMeter]._quota
    await holds(quota, f"user:{user.id}", 1_000 - points)
    part = await limited.http.get("/api/v2/files/download/large.bin", headers=bearer | {"Range": "bytes=0-9"})
    assert (len(part.content), left(part)) == (10, f"r={1_000 - points - 10}")


async def test_pay_for_the_bytes_of_an_export_where_they_are_more_than_its_price(limited: Service, monkeypatch: pytest.MonkeyPatch):
    user = await limited.make_user()
    bearer = {"Authorization": f"Bearer {limited.tokens.issue(user.id, (Scope.ITEMS_READ,))}"}
    async with limited.database.transaction() as work:
        await items.create_all(work, [items.ItemValues("Kettle", Decimal(1), "x" * 9_000)] * 100, owner_id=None)
    quota = limited.services.ports[BudgetMeter]._quota
    monkeypatch.setattr(quota, "budget", Budget(3_000, 0.001))
    await restored(limited)
    answer = await limited.http.get("/api/v2/stream/items.csv", headers=bearer)
    assert (answer.status_code, left(answer)) == (200, "r=1000")
    assert len(answer.content) // ANSWER_BYTES_A_POINT < EXPORT_POINTS
    await holds(quota, f"user:{user.id}", 1_000)
    async with limited.database.transaction() as work:
        await items.create_all(work, [items.ItemValues("Kettle", Decimal(1), "x" * 9_000)] * 300, owner_id=None)
    await restored(limited)
    answer = await limited.http.get("/api/v2/stream/items.csv", headers=bearer)
    points = len(answer.content) // ANSWER_BYTES_A_POINT
    assert points > 3_000
    await holds(quota, f"user:{user.id}", 3_000 - points)
