"""Pages of an ordered list, forward and backward, by cursors that only this list takes."""

from __future__ import annotations

import base64
import operator
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import func, insert, select

from persistence.items.table import ENTITY, Item
from persistence.kit.errors import InvalidInput
from persistence.kit.query import paging
from persistence.kit.query.entity_list import Comparison, Condition, EntityList
from persistence.kit.query.paging import ComputedKey, OrderedQuery, PageArguments, page_of

if TYPE_CHECKING:
    from tests.support.service import Service

ROWS = 11
KEYS = ("id", "name", "price", "inventory", "created_at")
BEGAN = datetime(2026, 1, 1, 0, 0, 0, 123, tzinfo=UTC)


def row(number: int) -> dict[str, Any]:
    """Two or three rows of the same key each, and the ids go up where the keys do not."""
    moment = BEGAN + timedelta(days=number % 4)
    values = {"name": f'é"{"zyx"[number % 3]}>>>>????', "price": Decimal(number * 7 % 5) / 8, "inventory": number * 3 % 4}
    return values | {
        "tags": [],
        "version": 1,
        "created_at": moment,
        "updated_at": moment,
        "search_words": "all seldom" if number % 3 == 0 else "all",
    }


@pytest.fixture
async def filled(service: Service) -> Service:
    async with service.database.transaction() as work:
        await work.session.execute(insert(Item), [row(number) for number in range(ROWS)])
    return service


def listing(key: str = "id", *, descending: bool = False, mark: str = "a list") -> OrderedQuery[Item]:
    return OrderedQuery(select(Item), getattr(Item, key), Item.id, descending, mark)


async def whole(service: Service, key: str, *, descending: bool) -> list[int]:
    async with service.database.reading() as session:
        rows = (await session.scalars(select(Item))).all()
    return [each.id for each in sorted(rows, key=lambda each: (getattr(each, key), each.id), reverse=descending)]


async def turned(service: Service, rows: OrderedQuery[Item], size: int, *, backward: bool) -> list[int]:
    """The ids of all pages, in the order of the list."""
    found, cursor = list[int](), None
    async with service.database.reading() as session:
        while True:
            window = PageArguments(last=size, before=cursor) if backward else PageArguments(first=size, after=cursor)
            page = await paging.fetch(session, rows, window)
            ids = [each.id for each in page.rows]
            found = ids + found if backward else found + ids
            assert (page.has_next, page.has_previous) == (
                (cursor is not None, len(found) < ROWS) if backward else (len(found) < ROWS, cursor is not None)
            )
            if len(found) >= ROWS:
                return found
            assert len(ids) == size
            cursor = rows.cursor(page.rows[0 if backward else -1])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("descending", [False, True])
async def test_have_each_row_once_in_order(filled: Service, descending: bool, backward: bool) -> None:
    for key in KEYS:
        rows = listing(key, descending=descending)
        assert await turned(filled, rows, 3, backward=backward) == await whole(filled, key, descending=descending), key
    assert await turned(filled, listing(), ROWS, backward=backward) == await whole(filled, "id", descending=False)


async def test_are_cut_by_both_ends_and_by_their_size(filled: Service) -> None:
    rows, every = listing("price", descending=True), await whole(filled, "price", descending=True)
    async with filled.database.reading() as session:
        found = {each.id: each for each in (await session.scalars(select(Item))).all()}
        after, before = (rows.cursor(found[every[place]]) for place in (1, 8))
        for window, ids, beside in (
            (PageArguments(first=100, after=after, before=before), every[2:8], (False, True)),
            (PageArguments(last=100, after=after, before=before), every[2:8], (True, False)),
            (PageArguments(first=2, after=after, before=before), every[2:4], (True, True)),
            (PageArguments(last=2, after=after, before=before), every[6:8], (True, True)),
            (PageArguments(first=0), [], (True, False)),
            (PageArguments(last=0), [], (False, True)),
            (PageArguments(first=5, after=before, before=after), [], (False, True)),
            (PageArguments(), every, (False, False)),
        ):
            page = await paging.fetch(session, rows, window)
            assert ([each.id for each in page.rows], (page.has_next, page.has_previous)) == (ids, beside), window
            assert page.listing is rows
            between = replace(window, last=100) if window.backward else replace(window, first=100)
            assert len(await rows.rows(session, window)) == min(window.size + 1, len(await rows.rows(session, between)))
        for window in (PageArguments(after="x"), PageArguments(before="x")):
            with pytest.raises(InvalidInput) as refused:
                await paging.fetch(session, rows, window)
            assert [problem.path for problem in refused.value.problems] == [("after",) if window.after else ("before",)]


async def test_begin_with_the_first_rows(filled: Service) -> None:
    async with filled.database.reading() as session:
        first = (await session.scalars(listing("name").first_rows(4))).all()
    assert [each.id for each in first] == (await whole(filled, "name", descending=False))[:4]


async def test_are_counted_up_to_a_bound(filled: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filled.database.reading() as session:
        assert await paging.count(session, listing()) == ROWS
        assert await paging.count(session, replace(listing(), statement=select(Item).where(Item.id < 0))) == 0
        monkeypatch.setattr(paging, "COUNT_ROWS", 4)
        assert await paging.count(session, listing()) == 4


@pytest.mark.parametrize(("search", "number"), [("all", ROWS), ("seldom", 4), ("seldom all", 4), ("never", 0), (None, ROWS)])
async def test_of_searched_lists_are_counted(filled: Service, search: str | None, number: int) -> None:
    cheap = Condition("price_max", "price", Comparison.AT_MOST, Decimal("0.13"))
    async with filled.database.reading() as session:
        assert await paging.count(session, EntityList(ENTITY, search=search).listing()) == number
        both = select(func.count()).where(Item.price <= Decimal("0.13"), Item.search_words.contains((search or "").split(" ", 1)[0]))
        assert await paging.count(session, EntityList(ENTITY, conditions=(cheap,), search=search).listing()) == await session.scalar(both)


async def test_of_branches_are_merged(filled: Service) -> None:
    branches = [select(Item).where(Item.inventory == stock) for stock in range(4)]
    for descending in (False, True):
        rows = replace(listing("price", descending=descending), branches=branches)
        for backward in (False, True):
            assert await turned(filled, rows, 4, backward=backward) == await whole(filled, "price", descending=descending)


async def test_of_a_key_that_python_computes_have_its_cursors(filled: Service) -> None:
    computed = ComputedKey(("inventory", "version"), operator.add)
    rows = replace(listing("inventory"), computed=computed)
    async with filled.database.reading() as session:
        found = (await session.scalars(select(Item).order_by(Item.id))).all()
    assert rows.key_attributes == ("inventory", "version")
    for each in found:
        assert rows.position(rows.cursor(each), "after") == (each.inventory + 1, each.id)
    columns = [[b"%d" % each.inventory for each in found], [b"1"] * ROWS, [b"%d" % each.id for each in found]]
    assert list(map(orjson.loads, rows.cursors_at(columns))) == [rows.cursor(each) for each in found]


async def test_have_cursors_as_the_database_writes_them(filled: Service) -> None:
    async with filled.database.reading() as session:
        found = (await session.scalars(select(Item))).all()
    for key in KEYS:
        rows = listing(key)
        keys = [orjson.dumps(str(value) if isinstance(value := getattr(each, key), Decimal) else value) for each in found]
        written = rows.cursors_at([keys, [b"%d" % each.id for each in found]])
        assert list(map(orjson.loads, written)) == [rows.cursor(each) for each in found]
        assert all(re.fullmatch(rb'"[A-Za-z0-9_-]+"', cursor) for cursor in written)
        for each, cursor in zip(found, map(orjson.loads, written), strict=True):
            assert rows.position(cursor, "after") == (getattr(each, key), each.id)


def cursor_of(*parts: Any, mark: str = "a list") -> str:
    return base64.urlsafe_b64encode(orjson.dumps([listing(mark=mark).tag, *parts])).decode().rstrip("=")


NO_CURSORS = {
    "id": ["", 1.5, "1", None, True, 2**63, -(2**63), [1]],
    "inventory": [2**31, -(2**31), "1", 0.0, None, False],
    "name": [1, None, "a\0b", ["a"]],
    "price": [1, "x", "1_0", None, "0.001", str(2**63), "NaN", "Infinity", f"-{(2**63 - 1) // 100 + 1}"],
    "created_at": [1, "x", None, "2026-01-01 00:00:00"],
}


@pytest.mark.parametrize("key", KEYS)
def test_refuse_what_is_no_cursor(key: str) -> None:
    rows = listing(key)
    strange = [cursor_of(value, 1) for value in NO_CURSORS[key]]
    for cursor in ("x", "é", "!!!!", "W10", cursor_of(), cursor_of(1), cursor_of(1, 2, 3), "A" * 2_001, f"!!!!{cursor_of(1, 1)}", *strange):
        with pytest.raises(InvalidInput) as refused:
            rows.position(cursor, "before")
        [problem] = refused.value.problems
        assert (problem.path, problem.message) == (("before",), "this is not a cursor: pass one that a page returned, unchanged")


def test_refuse_cursors_of_other_lists_and_ids_that_are_none() -> None:
    for cursor in (cursor_of(1, 1, mark="another"), *(cursor_of(1, id_) for id_ in (0, -1, 2**63, "1", True, None, 1.0))):
        with pytest.raises(InvalidInput) as refused:
            listing().position(cursor, "after")
        [problem] = refused.value.problems
        assert problem.message == "this cursor belongs to another list, filter or order: start again without it"
    assert listing().position(cursor_of(2**63 - 1, 2**63 - 1), "after") == (2**63 - 1, 2**63 - 1)
    assert listing("inventory").position(cursor_of(2**31 - 1, 1), "after") == (2**31 - 1, 1)
    assert listing("price").position(cursor_of("0.10", 1), "after") == (Decimal("0.10"), 1)
    assert listing("name").position(cursor_of("x" * 1_400, 1), "after") == ("x" * 1_400, 1)
    assert listing().position(cursor_of(-(2**63) + 1, 1), "after") == (-(2**63) + 1, 1)


def test_have_a_size_and_one_end() -> None:
    assert [PageArguments().size, PageArguments(first=7).size, PageArguments(last=8).size, PageArguments(first=0).size] == [20, 7, 8, 0]
    assert [PageArguments(last=1).backward, PageArguments(first=1).backward] == [True, False]
    assert PageArguments(after="", before="") == PageArguments(after="", before=None) == PageArguments()
    assert PageArguments(after="a", before="") == PageArguments(after="a")
    assert PageArguments(after="", before="b") == PageArguments(before="b")
    assert [PageArguments().is_open, PageArguments(after="a").is_open, PageArguments(before="a").is_open] == [True, False, False]
    assert PageArguments(first=100).size == 100
    windows: tuple[tuple[dict[str, Any], str, str], ...] = (
        ({"first": 1, "last": 1}, "last", "give first or last, not both"),
        ({"first": 101}, "first", "must be between 0 and 100"),
        ({"first": -1}, "first", "must be between 0 and 100"),
        ({"last": 101}, "last", "must be between 0 and 100"),
        ({"last": -1}, "last", "must be between 0 and 100"),
    )
    for window, field, message in windows:
        with pytest.raises(InvalidInput) as refused:
            PageArguments(**window)
        [problem] = refused.value.problems
        assert (problem.path, problem.message) == ((field,), message)


def test_know_what_is_beside_them() -> None:
    rows = listing()
    for window, found, expected in (
        (PageArguments(first=2), "abc", ("ab", True, False)),
        (PageArguments(first=2), "ab", ("ab", False, False)),
        (PageArguments(first=2, after="x"), "a", ("a", False, True)),
        (PageArguments(last=2), "cba", ("bc", False, True)),
        (PageArguments(last=2, before="x"), "ba", ("ab", True, False)),
        (PageArguments(first=2), "", ("", False, False)),
    ):
        page = page_of(found, rows, window)  # pyright: ignore[reportArgumentType] -- of letters, which it does not look at
        assert ("".join(map(str, page.rows)), page.has_next, page.has_previous) == expected
        assert page.listing is rows


async def test_are_counted_without_their_order(filled: Service) -> None:
    statement = listing("name").unordered([func.count()], sqlite=filled.database.dialect == "sqlite")
    assert "ORDER BY" not in str(statement)
    async with filled.database.reading() as session:
        assert await session.scalar(statement) == ROWS
