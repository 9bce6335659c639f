"""A searched list shows the same rows in the same order whichever way its pages are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from persistence import users
from persistence.items import listing
from persistence.items.table import Item
from persistence.kit.database.executors.statement_executor import prepare
from persistence.kit.query import entity
from persistence.kit.query.entity_list import Comparison, Condition, EntityList, SortOrder
from persistence.kit.query.paging import PageArguments
from persistence.kit.search import ordered_scan

if TYPE_CHECKING:
    from persistence.kit.database.database import Database
    from tests.support.service import Service

ROWS = 240
SIZE = 7  # Rows of a page.
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = [SortOrder(name, descending) for name in ("id", "name", "price", "created_at", "inventory") for descending in (False, True)]


@dataclass(frozen=True)
class Words:
    """Which items have a word."""

    often: bool
    seldom: bool
    early: bool
    late: bool

    @classmethod
    def of(cls, number: int) -> Words:
        return cls(often=number % 3 > 0, seldom=number % 47 == 0, early=number < 12, late=number >= 200)

    def __str__(self) -> str:
        return " ".join(["all", *(word for word, has in vars(self).items() if has)])


# Found soon; looked up; predicted by the first rows and wrong; not predicted though common; in no item; beginnings of words.
SEARCHES = ["all", "often", "seldom", "early", "late", "all seldom", "often late", "early late", "nowhere", "o se", "!"]


@pytest.fixture
async def filled(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(ordered_scan, "SCAN_ROWS", 40)
    monkeypatch.setattr(ordered_scan, "SAMPLE_ROWS", 8)
    async with service.database.transaction() as work:
        await work.session.execute(insert(Item), [row(number) for number in range(ROWS)])
    return service


def row(number: int) -> dict[str, Any]:
    words = str(Words.of(number))
    moment = BEGAN + timedelta(hours=number * 7 % 50)
    common = {"tags": ["odd"] if number % 2 else [], "version": 1, "created_at": moment, "updated_at": moment, "search_words": words}
    return common | {"name": f"{number * 11 % 30:02}", "price": Decimal(number * 13 % 40), "inventory": number // 10}


async def everything(database: Database, order: SortOrder) -> list[Item]:
    """All items in order, by a list that nothing is searched in."""
    async with database.reading() as session:
        return list(await session.scalars(replace(listing.ALL, order=order).listing().first_rows(ROWS)))


async def paged(database: Database, rows: EntityList, *, backward: bool) -> list[int]:
    """The ids of the whole list, page by page."""
    ids: list[int] = []
    cursor, more = None, True
    async with database.reading() as session:
        while more:
            window = PageArguments(last=SIZE, before=cursor) if backward else PageArguments(first=SIZE, after=cursor)
            page = await entity.page(session, rows, window)
            found = [item.id for item in page.rows]
            ids = found + ids if backward else ids + found
            more = page.has_previous if backward else page.has_next
            cursor = page.listing.cursor(page.rows[0 if backward else -1]) if more else None
    return ids


def shown(item: Item, search: str) -> bool:
    wanted = [word for word in search.split() if word.isalpha()]
    return bool(wanted) and all(any(has.startswith(word) for has in item.search_words.split()) for word in wanted)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order.attribute} {'descending' if order.descending else 'ascending'}")
async def test_in_every_order_and_both_directions(filled: Service, order: SortOrder) -> None:
    items = await everything(filled.database, order)
    assert len(items) == ROWS
    for search in SEARCHES:
        expected = [item.id for item in items if shown(item, search)]
        for backward in (False, True):
            assert await paged(filled.database, replace(listing.ALL, search=search, order=order), backward=backward) == expected


async def test_with_a_filter(filled: Service) -> None:
    order = SortOrder("price", descending=True)
    odd, cheap = (
        Condition("tags_any", "tags", Comparison.ANY_OF, ("odd",)),
        Condition("price_max", "price", Comparison.AT_MOST, Decimal(30)),
    )
    sold_out = Condition("in_stock", "in_stock", Comparison.EQUAL, value=False)
    items = await everything(filled.database, order)
    for search in ("often", "seldom", "late"):
        found = [item for item in items if shown(item, search)]
        cheap_and_odd = [item.id for item in found if item.tags == ["odd"] and item.price <= 30]
        for conditions, expected in (((odd, cheap), cheap_and_odd), ((sold_out,), [item.id for item in found if item.inventory == 0])):
            rows = replace(listing.ALL, search=search, order=order, conditions=conditions)
            assert await paged(filled.database, rows, backward=False) == expected


async def test_in_numbered_pages_and_in_the_first_rows_of_an_export(filled: Service) -> None:
    items = await everything(filled.database, SortOrder())
    async with filled.database.snapshot() as session:
        for search in ("often", "seldom", "early"):
            expected = [item.id for item in items if shown(item, search)]
            rows = replace(listing.ALL, search=search)
            pages = [await entity.numbered_page(session, rows, number=number, size=5) for number in (1, 2, 9)]
            assert [[item.id for item in page] for page, _ in pages] == [expected[:5], expected[5:10], expected[40:45]]
            assert {total for _, total in pages} == {len(expected)}
            for limit in (9, 2**31 - 1):
                exported = [row.id async for part in entity.stream(session, rows, ("id",), limit=limit) for row in part]
                assert exported == expected[:limit]


async def test_of_users_too(filled: Service) -> None:
    names = [f"user{number:02}" for number in range(30)]
    for name in names:
        await filled.make_user(name)
    async with filled.database.reading() as session:
        for search, expected in (("user", names), ("user07", ["user07"]), ("user1", names[10:20])):
            first = await users.page(session, search, PageArguments(first=20))
            rest = await users.page(session, search, PageArguments(first=20, after=first.listing.cursor(first.rows[-1])))
            assert [user.username for user in (*first.rows, *rest.rows)] == expected


async def test_and_sqlite_looks_rare_words_up(embedded: Service) -> None:
    """A condition written `id IN (…) = 1` is one that it asks of every row."""
    database = embedded.database
    prepared = prepare(entity.selected(replace(listing.ALL, search="seldom"), None), database.executor_dialect)
    async with database.reading() as session:
        connection = await session.connection()
        plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {prepared.sql}", tuple(prepared.arguments({})))).all()
    assert "SEARCH items USING INTEGER PRIMARY KEY (rowid=?)" in {step.detail for step in plan}
