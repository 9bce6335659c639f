"""The catalogue as a file."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from graph.kit.access import Scope
from persistence import items
from persistence.items import Draft
from tests.service import Service


async def fetch(service: Service, kind: str, query: str = "", *, token: str | None = None) -> tuple[int, str, str]:
    token = token or await service.sign_in(Scope.ITEMS_READ)
    answer = await service.http.get(f"/api/v2/stream/items.{kind}{query}", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.headers["content-type"], answer.text


async def fill(service: Service, *drafts: Draft) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, drafts, owner_id=None)


async def test_gives_every_row_as_csv_that_reads_back_the_same(service: Service) -> None:
    drafts = [Draft(f"Item {n}", Decimal(n), 'a "quoted", text\nof two lines', ("x", "y"), n) for n in range(2_500)]
    await fill(service, *drafts)
    status, media_type, text = await fetch(service, "csv")
    assert (status, media_type) == (200, "text/csv; charset=utf-8; header=present")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["name"], row["price"], row["tags"], row["inventory"]) for row in rows] == [
        (draft.name, f"{draft.price}.00", "x;y", str(draft.inventory)) for draft in drafts
    ]
    assert {row["description"] for row in rows} == {drafts[0].description}


async def test_makes_cells_harmless_that_a_spreadsheet_would_run(service: Service) -> None:
    await fill(service, Draft("=1+1", Decimal(1), "@x", ("-a",)))
    _, _, text = await fetch(service, "csv")
    row = next(csv.DictReader(io.StringIO(text)))
    assert (row["name"], row["description"], row["tags"]) == ("'=1+1", "'@x", "'-a")
    _, _, raw = await fetch(service, "csv", "?raw=1", token=await service.sign_in(Scope.ITEMS_READ, username="bob"))
    assert next(csv.DictReader(io.StringIO(raw)))["name"] == "=1+1"


async def test_gives_json_and_text(service: Service) -> None:
    await fill(service, *(Draft(f"Item {n}", Decimal("1.5"), tags=("x",)) for n in range(1_200)))
    token = await service.sign_in(Scope.ITEMS_READ)
    answer = await service.http.get("/api/v2/stream/items.json", headers={"Authorization": f"Bearer {token}"})
    assert [row["name"] for row in answer.json()] == [f"Item {n}" for n in range(1_200)]
    assert answer.json()[0]["price"] == "1.50"
    _, media_type, text = await fetch(service, "txt", token=token)
    assert media_type == "text/plain; charset=utf-8"
    assert len(text.splitlines()) == 1_200


@pytest.mark.parametrize("kind", ["csv", "txt", "json"])
async def test_gives_a_whole_file_of_nothing(service: Service, kind: str) -> None:
    status, _, text = await fetch(service, kind)
    assert (status, text.strip()) == (200, {"csv": "name,description,price,tags,inventory,id,createdAt", "txt": "", "json": "[]"}[kind])


async def test_finds_and_limits(service: Service) -> None:
    await fill(service, Draft("Red pan", Decimal(1)), Draft("Red pot", Decimal(1)), Draft("Blue pot", Decimal(1)))
    token = await service.sign_in(Scope.ITEMS_READ)
    _, _, text = await fetch(service, "txt", "?search=red&limit=1", token=token)
    assert [line.split("  ")[1].split(":")[0] for line in text.splitlines()] == ["Red pan"]


@pytest.mark.parametrize("query", ["?limit=0", "?limit=-1", "?limit=x", "?limit=99999999999999999999", f"?search={'x' * 201}"])
async def test_refuses_a_bad_argument_with_a_status(service: Service, query: str) -> None:
    status, _, text = await fetch(service, "csv", query)
    assert status == 400
    assert '"BAD_USER_INPUT"' in text


async def test_needs_the_scope(service: Service) -> None:
    assert (await service.http.get("/api/v2/stream/items.csv")).status_code == 401
    token = await service.sign_in(Scope.FILES_READ)
    assert (await fetch(service, "csv", token=token))[0] == 403
