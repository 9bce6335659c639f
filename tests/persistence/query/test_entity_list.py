"""A declared list has the rows that fulfil all of its conditions, in its order, on either database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from persistence.items.table import ENTITY, Item
from persistence.kit.errors import InvalidInput
from persistence.kit.query import entity
from persistence.kit.query.entity_list import Comparison, Condition, EntityList, SortOrder, children
from persistence.kit.query.paging import PageArguments
from persistence.kit.search import ordered_scan

if TYPE_CHECKING:
    from tests.support.service import Service

ROWS = 40
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int) -> dict[str, Any]:
    moment = BEGAN + timedelta(hours=number)
    words = "all seldom" if number % 9 == 0 else "all"
    common = {"tags": ["odd"] if number % 2 else ["even", "two"], "version": 1, "created_at": moment, "updated_at": moment}
    return common | {"name": f"{number % 7}", "price": Decimal(number), "inventory": number % 5, "search_words": words}


@pytest.fixture
async def filled(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(ordered_scan, "SCAN_ROWS", 16)
    monkeypatch.setattr(ordered_scan, "SAMPLE_ROWS", 4)
    async with service.database.transaction() as work:
        gone = row(0) | {"deleted_at": BEGAN}
        await work.session.execute(insert(Item), [*({"deleted_at": None} | row(number) for number in range(ROWS)), gone])
    return service


def condition(attribute: str, comparison: Comparison, value: Any) -> Condition:
    return Condition(f"{attribute}_{comparison.name.lower()}", attribute, comparison, value)


CONDITIONS: list[tuple[Condition, set[int]]] = [
    (condition("price", Comparison.EQUAL, Decimal(3)), {3}),
    (condition("price", Comparison.AT_LEAST, Decimal(38)), {38, 39}),
    (condition("price", Comparison.AT_MOST, Decimal(1)), {0, 1}),
    (condition("price", Comparison.ABOVE, Decimal(38)), {39}),
    (condition("created_at", Comparison.BELOW, BEGAN + timedelta(hours=2)), {0, 1}),
    (condition("name", Comparison.EQUAL, "6"), set(range(6, ROWS, 7))),
    (condition("in_stock", Comparison.EQUAL, False), set(range(0, ROWS, 5))),
    (condition("tags", Comparison.ANY_OF, ("odd", "no")), set(range(1, ROWS, 2))),
    (condition("tags", Comparison.ALL_OF, ("two", "even")), set(range(0, ROWS, 2))),
    (condition("tags", Comparison.ALL_OF, ("even", "odd")), set()),
    (condition("tags", Comparison.ANY_OF, ()), set()),
    (condition("tags", Comparison.ALL_OF, ()), set(range(ROWS))),
]


async def numbers(service: Service, rows: EntityList) -> list[int]:
    async with service.database.reading() as session:
        page = await entity.page(session, rows, PageArguments(first=100))
        assert await entity.count(session, rows) == len(page.rows)
        return [int(each.price) for each in page.rows]


async def test_by_each_condition_and_two_together(filled: Service) -> None:
    for one, expected in CONDITIONS:
        assert await numbers(filled, EntityList(ENTITY, conditions=(one,))) == sorted(expected), one
        for other, more in CONDITIONS:
            if one.name != other.name:
                both = EntityList(ENTITY, SortOrder("price", descending=True), (one, other))
                assert await numbers(filled, both) == sorted(expected & more, reverse=True), (one, other)


async def test_by_words_beside_a_condition(filled: Service) -> None:
    rows = EntityList(ENTITY, conditions=(condition("price", Comparison.AT_LEAST, Decimal(10)),), search="seld")
    assert await numbers(filled, rows) == [18, 27, 36]


def test_has_a_form_that_values_do_not_change() -> None:
    def of(value: Any) -> EntityList:
        return EntityList(ENTITY, conditions=(condition("price", Comparison.AT_LEAST, value),))

    assert of(Decimal(1)).form == of(Decimal(2)).form != EntityList(ENTITY).form
    assert of(Decimal(1)).fingerprint != of(Decimal(2)).fingerprint
    yes, no = (EntityList(ENTITY, conditions=(condition("in_stock", Comparison.EQUAL, value),)) for value in (True, False))
    assert yes.form != no.form


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (Condition("price_min", "price", Comparison.AT_LEAST, Decimal("NaN")), "priceMin: must be between 0 and 9999999999.99"),
        (Condition("name", "name", Comparison.EQUAL, "\0"), "name: must not contain control characters"),
        (Condition("name", "name", Comparison.EQUAL, "x" * 201), "name: must have at most 200 characters, not 201"),
        (Condition("tags_any", "tags", Comparison.ANY_OF, ("a",) * 21), "tagsAny: must be at most 20 tags"),
        (Condition("tags_any", "tags", Comparison.ANY_OF, ("a", "\ud800")), "tagsAny.1: must be valid Unicode"),
    ],
)
def test_names_a_value_that_is_out_of_its_bounds(one: Condition, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        EntityList(ENTITY, conditions=(one,))


def test_of_a_parent_has_an_index() -> None:
    with pytest.raises(TypeError, match=r'Item.version has no index: add Index\("ix_items_version", "version", "id"\)'):
        children(EntityList(ENTITY), "version")


def test_of_a_parent_is_not_filtered() -> None:
    with pytest.raises(AssertionError):
        children(EntityList(ENTITY, search="words"), "owner_id")
