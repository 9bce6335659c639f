"""POST /api/v2/import/items …"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from graph.kit.auth import Scope
from tests.conftest import settings_for
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

CSV = b"externalId,name,price,inventory\nA,Kettle,1,3\nB,Pan,bad,1\nC,Pot,2,\n"


async def post(service: Service, token: str | None, content: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
    """The status, and the lines of the report or the code of the error."""
    known = {"Content-Type": "text/csv", **({"Authorization": f"Bearer {token}"} if token else {})}
    sent = known | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await service.http.post(f"/api/v2/import/items{query}", content=content, headers=sent)
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]
    assert answer.headers["content-type"] == "application/x-ndjson"
    return 200, [json.loads(line) for line in answer.text.splitlines()]


def rows(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in report if line["outcome"] != "PROGRESS"]


async def test_reports_row_by_row_and_in_sum(service: Service) -> None:
    token = await service.sign_in()
    status, report = await post(service, token, CSV, "?match=external-id")
    kettle, pot = [(await service.ask(f'{{ itemByExternalId(externalId: "{name}") {{ id }} }}'))["itemByExternalId"]["id"] for name in "AC"]
    sums = {"created": 2, "updated": 0, "unchanged": 0, "deleted": 0, "refused": 1}
    assert (status, rows(report)) == (
        200,
        [
            {"line": 2, "outcome": "CREATED", "id": kettle, "externalId": "A"},
            {"line": 3, "outcome": "REFUSED", "externalId": "B", "message": "price: must be a decimal number such as 9.99"},
            {"line": 4, "outcome": "CREATED", "id": pot, "externalId": "C"},
            {"outcome": "DONE", **sums},
        ],
    )
    lines = b'{"externalId": "A", "price": "1.00", "inventory": 5}\n'
    _, report = await post(service, token, lines, "?match=external-id&delete-missing=1", Content_Type="application/x-ndjson")
    assert rows(report) == [
        {"line": 1, "outcome": "UPDATED", "id": kettle, "externalId": "A", "fields": ["inventory"]},
        {"outcome": "DELETED", "id": pot, "externalId": "C"},
        {"outcome": "DONE", "created": 0, "updated": 1, "unchanged": 0, "deleted": 1, "refused": 0},
    ]
    _, report = await post(
        service, token, b"externalId\tprice\nA\t9\n", "?match=external-id&dry-run=1", Content_Type="text/tab-separated-values"
    )
    assert rows(report)[-1]["updated"] == 1
    _, report = await post(
        service, token, b"externalId\tprice\tgr\xf6\xdfe\nA\t9\t\n", "?match=external-id", Content_Type="text/tab-separated-values"
    )
    assert (rows(report)[0]["fields"], rows(report)[-1]["notes"]) == (["price"], ["These columns are not read: gr??e."])
    owner = await service.ask('{ itemByExternalId(externalId: "A") { price owner { username } } }')
    assert owner == {"itemByExternalId": {"price": "9.00", "owner": {"username": "ada"}}}


async def test_under_a_key_is_done_once(service: Service) -> None:
    token = await service.sign_in()
    new = b"name,price\nKettle,1\nPan,2\n"
    _, first = await post(service, token, new, Idempotency_Key="night-1")
    _, again = await post(service, token, new, Idempotency_Key="night-1")
    assert again == [first[-1]] == [{"outcome": "DONE", "created": 2, "updated": 0, "unchanged": 0, "deleted": 0, "refused": 0}]
    status, error = await post(service, token, new + b"Pot,3\n", Idempotency_Key="night-1")
    assert (status, error["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    for query, kind in (("?raw=1", "text/csv"), ("?match=id", "text/csv"), ("", "application/x-ndjson")):
        status, error = await post(service, token, new, query, Idempotency_Key="night-1", Content_Type=kind)
        assert (status, error["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert await service.count("items") == [2]
    assert (await post(service, token, new, Idempotency_Key=""))[0] == 400


async def test_is_done_once_however_many_send_it_at_once(service: Service) -> None:
    token = await service.sign_in()
    content = b"name,price\n" + b"".join(b"Item %d,1\n" % number for number in range(1_300))
    answers = await asyncio.gather(*(post(service, token, content, Idempotency_Key="night-1") for _ in range(3)))
    done = [report[-1] for status, report in answers if status == 200 and report[-1]["outcome"] == "DONE"]
    assert done[0] == {"outcome": "DONE", "created": 1_300, "updated": 0, "unchanged": 0, "deleted": 0, "refused": 0}
    refused = {report["message"] for status, report in answers if status != 200}
    assert refused <= {"Idempotency-Key: another run of this import is under way: wait for its end"}
    assert await service.count("items", "events") == [1_300, 1_300]


async def test_costs_a_point_for_each_row_and_2_000_at_least(tmp_path: Path) -> None:
    budget: dict[str, Any] = {"rate_limits_enabled": True, "budget_points": 20_000, "budget_points_per_second": 0.001}
    async with running(await settings_for("sqlite", tmp_path, **budget)) as service:
        token, left = await service.sign_in(), list[int]()
        for rows in (1, 2_600):
            content = b"externalId,price\n" + b"".join(b"%d,1\n" % number for number in range(rows))
            await post(service, token, content, "?match=external-id&dry-run=1")
            left.append((await service.ask("{ rateLimit { remaining } }", token=token))["rateLimit"]["remaining"])
        assert (
            left[0] - left[1]
            == 2_600 + (await service.ask('{ rateLimit(document: "{ rateLimit { remaining } }") { cost } }'))["rateLimit"]["cost"]
        )


@pytest.mark.parametrize(
    ("query", "headers", "content", "status", "code"),
    [
        ("", {"Content_Type": "text/plain"}, CSV, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("", {"Content_Type": "application/json"}, CSV, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("", {"Content_Encoding": "gzip"}, CSV, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("?match=name", {}, CSV, 400, "BAD_USER_INPUT"),
        ("?dryrun=1", {}, CSV, 400, "BAD_USER_INPUT"),
        ("?delete-missing=1", {}, CSV, 400, "BAD_USER_INPUT"),
        ("?match=id", {}, CSV, 400, "BAD_USER_INPUT"),
        ("?match=external-id", {}, b"name,price\nKettle,1\n", 400, "BAD_USER_INPUT"),
        ("?match=external-id", {}, b"", 400, "BAD_USER_INPUT"),
        ("?match=external-id", {}, CSV.decode().encode("utf-16-le"), 400, "BAD_USER_INPUT"),
    ],
)
async def test_is_refused_with_a_status(
    service: Service, query: str, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    found, error = await post(service, await service.sign_in(), content, query, **headers)
    assert (found, error["code"]) == (status, code)
    assert await service.count("items") == [0]


async def test_needs_the_scope(service: Service) -> None:
    assert (await post(service, None, CSV))[0] == 401
    assert (await post(service, await service.sign_in(Scope.ITEMS_READ), CSV))[0] == 403
    assert await service.count("items") == [0]


async def test_says_where_it_had_to_stop(service: Service) -> None:
    content = b"externalId,name,price\n" + b"".join(b"%d,Item,1\n" % number for number in range(600))
    _, report = await post(service, await service.sign_in(), (content.decode().encode("utf-16")) + b"x", "?match=external-id")
    assert report[-1] == {
        "outcome": "STOPPED",
        "created": 600,
        "updated": 0,
        "unchanged": 0,
        "deleted": 0,
        "refused": 0,
        "message": "From line 602 on, the file is not in UTF-16: save it as UTF-8.",
    }
