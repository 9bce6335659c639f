"""Lists of items: every row once, in order, both ways; filters and search that mean the same on every database."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from persistence.items import table as items
from persistence.items.table import ItemValues
from tests.support.service import Service

ORDERS = [None, *({"field": field, "direction": way} for field in ("NAME", "PRICE", "CREATED_AT", "INVENTORY") for way in ("ASC", "DESC"))]
KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "NAME": lambda item: item["name"],
    "PRICE": lambda item: Decimal(item["price"]),
    "CREATED_AT": lambda item: item["createdAt"],
    "INVENTORY": lambda item: item["inventory"],
}
PAGE = """
query Page($order: ItemOrder, $first: Int, $after: String, $last: Int, $before: String) {
  items(orderBy: $order, first: $first, after: $after, last: $last, before: $before) {
    nodes { id name price inventory createdAt }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
FOUND = "query Found($search: String, $filter: ItemFilter) { items(search: $search, filter: $filter) { totalCount nodes { name } } }"
CHINOOK = Path(__file__).parents[3] / "shared" / "data" / "chinook_tracks.csv"


async def fill(service: Service, *drafts: ItemValues) -> None:
    async with service.database.transaction() as work:
        for draft in drafts:
            draft.check()
        await items.create_all(work, drafts, owner_id=None)


async def forward(service: Service, order: Any, size: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor, more = None, True
    while more:
        page = (await service.ask(PAGE, {"order": order, "first": size, "after": cursor}))["items"]
        rows += page["nodes"]
        cursor, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    return rows


async def backward(service: Service, order: Any, size: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor, more = None, True
    while more:
        page = (await service.ask(PAGE, {"order": order, "last": size, "before": cursor}))["items"]
        rows = page["nodes"] + rows
        cursor, more = page["pageInfo"]["startCursor"], page["pageInfo"]["hasPreviousPage"]
    return rows


async def found(service: Service, search: str | None = None, **filter_: Any) -> list[str]:
    answer = (await service.ask(FOUND, {"search": search, "filter": filter_ or None}))["items"]
    assert answer["totalCount"] == len(answer["nodes"])
    return [item["name"] for item in answer["nodes"]]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order['field']} {order['direction']}" if order else "as added")
async def test_shows_every_row_once_in_both_directions(service: Service, order: dict[str, str] | None) -> None:
    await fill(service, *(ItemValues(f"{'aBé'[n % 3]}{n % 5}", Decimal(n % 4), inventory=n % 2) for n in range(23)))
    rows = await forward(service, order, 4)
    assert len({row["id"] for row in rows}) == len(rows) == 23
    assert await backward(service, order, 5) == rows
    if order:
        keys = [KEYS[order["field"]](row) for row in rows]
        assert keys == sorted(keys, reverse=order["direction"] == "DESC")


@pytest.mark.skipif(not CHINOOK.exists(), reason="the Chinook catalogue is not beside this checkout")
async def test_shows_a_real_catalogue_once_under_each_order(service: Service) -> None:
    with CHINOOK.open(encoding="utf-8", newline="") as file:
        tracks = [
            ItemValues(row["name"], Decimal(row["price"]), row["description"] or None, row["tags"].split(";"), int(row["inventory"]))
            for row in csv.DictReader(file)
        ]
    await fill(service, *tracks)
    for order in ORDERS:
        rows = await forward(service, order, 100)
        assert sorted(row["name"] for row in rows) == sorted(track.name for track in tracks)
        assert await backward(service, order, 100) == rows


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("motor", ["Motörhead"]),
        ("MOTÖR", ["Motörhead"]),
        ("of sp", ["Ace of Spades"]),
        ("spades ace", ["Ace of Spades"]),
        ("head", []),
        ("loud", ["Motörhead"]),
        ("a\"b' OR *", []),
        ("!!!", []),
        ("  ", ["Motörhead", "Ace of Spades", "安い"]),
        ("安", ["安い"]),
        ("ace\u19b0spades", []),
        ("ace spades missing", []),
    ],
)
async def test_finds_rows_whose_words_begin_with_the_querys(service: Service, search: str, names: list[str]) -> None:
    await fill(
        service, ItemValues("Motörhead", Decimal(1), "Loud!"), ItemValues("Ace of Spades", Decimal(1)), ItemValues("安い", Decimal(1))
    )
    assert await found(service, search) == names


async def test_finds_a_renamed_item_under_its_new_name_only(service: Service) -> None:
    await fill(service, ItemValues("Kettle", Decimal(1)))
    async with service.database.transaction() as work:
        row = (await items.create_all(work, [ItemValues("Pan", Decimal(1))], owner_id=None))[0]
    async with service.database.transaction() as work:
        await items.change(work, row.id, {"name": "Wok"})
    assert (await found(service, "pan"), await found(service, "wok")) == ([], ["Wok"])


@pytest.mark.parametrize(
    ("filter_", "names"),
    [
        ({"priceMin": "2"}, ["b", "c"]),
        ({"priceMax": "2"}, ["a", "b"]),
        ({"priceMin": 2, "priceMax": 2}, ["b"]),
        ({"inStock": True}, ["b", "c"]),
        ({"inStock": False}, ["a"]),
        ({"tagsAny": ["x", "z"]}, ["a", "c"]),
        ({"tagsAny": []}, []),
        ({"tagsAll": ["x", "y"]}, ["a"]),
        ({"tagsAll": []}, ["a", "b", "c"]),
        ({"tagsAll": ["x"], "tagsAny": ["z"]}, []),
        ({"createdAfter": "2000-01-01T00:00:00Z"}, ["a", "b", "c"]),
        ({"createdBefore": "2000-01-01T00:00:00+02:00"}, []),
        ({"priceMin": None}, ["a", "b", "c"]),
    ],
)
async def test_filters(service: Service, filter_: dict[str, Any], names: list[str]) -> None:
    drafts = [
        ItemValues("a", Decimal(1), tags=("x", "y")),
        ItemValues("b", Decimal(2), tags=("y",), inventory=1),
        ItemValues("c", Decimal(3), tags=("z",), inventory=2),
    ]
    await fill(service, *drafts)
    assert await found(service, **filter_) == names


@pytest.mark.parametrize(
    "arguments",
    [
        "first: 101",
        "first: -1",
        "last: 101",
        "first: 1, last: 1",
        'after: "garbage"',
        'before: "WyJ4IiwxLDFd"',
        'filter: {priceMin: "-1"}',
        'filter: {priceMin: "NaN"}',
        'filter: {createdAfter: "yesterday"}',
        'filter: {createdAfter: "2026-01-01T00:00:00"}',
        f'search: "{"x" * 201}"',
    ],
)
async def test_refuses_a_bad_argument(service: Service, arguments: str) -> None:
    assert (await service.send(f"{{ items({arguments}) {{ nodes {{ id }} }} }}")).json()["errors"][0]["extensions"]["code"] in {
        "BAD_USER_INPUT",
        "GRAPHQL_VALIDATION_FAILED",
    }


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("CREATED_AT", "0001-01-01T00:00:00+14:00"),
        ("CREATED_AT", "9999-12-31T23:59:59-14:00"),
        ("INVENTORY", 2**31),
        ("INVENTORY", -(2**62)),
        ("PRICE", "1e30"),
        ("PRICE", "NaN"),
        ("NAME", "a\0"),
    ],
)
async def test_refuses_a_cursor_to_a_place_that_cannot_be(service: Service, field: str, place: object) -> None:
    """Its mark is right: anybody can take it from a real cursor."""
    await service.make_item()
    order = {"field": field}
    cursor = (await service.ask(PAGE, {"order": order, "first": 1}))["items"]["pageInfo"]["endCursor"]
    mark, _, id_ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([mark, place, id_]).encode()).decode().rstrip("=")
    assert await service.refused(PAGE, {"order": order, "first": 1, "after": forged}) == "BAD_USER_INPUT"


async def test_refuses_a_cursor_of_another_list(service: Service) -> None:
    await fill(service, ItemValues("a", Decimal(1)), ItemValues("b", Decimal(2)))
    cursor = (await service.ask(PAGE, {"first": 1}))["items"]["pageInfo"]["endCursor"]
    other = {"order": {"field": "PRICE", "direction": "DESC"}, "first": 1, "after": cursor}
    assert await service.refused(PAGE, other) == "BAD_USER_INPUT"


async def test_costs_the_same_statements_for_three_rows_as_for_thirty(
    service: Service, statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    token = await service.sign_in()
    for number in range(30):
        user = await service.make_user(f"user{number}")
        async with service.database.transaction() as work:
            await items.create(work, ItemValues(f"Item {number}", Decimal(1)), owner_id=user.id)
    counts: list[int] = []
    for first in (1, 3, 30):  # The first one also looks up the caller's standing, which is kept for a second.
        with statements() as sent:
            await service.ask(
                "query ($n: Int) { items(first: $n) { totalCount nodes { owner { username email } } } }", {"n": first}, token=token
            )
        counts.append(len(sent))
    assert counts[1] == counts[2]


async def test_numbers_pages_for_administrators(service: Service) -> None:
    await fill(service, *(ItemValues(f"Item {number}", Decimal(1)) for number in range(7)))
    token = await service.sign_in()
    answer = await service.ask("{ itemsPage(page: 2, pageSize: 3) { items { name } page pageSize total pages } }", token=token)
    assert answer["itemsPage"] == {"items": [{"name": f"Item {n}"} for n in (3, 4, 5)], "page": 2, "pageSize": 3, "total": 7, "pages": 3}
    for bad in ("page: 0", "pageSize: 0", "pageSize: 101"):
        assert await service.refused(f"{{ itemsPage({bad}) {{ total }} }}", token=token) == "BAD_USER_INPUT"
