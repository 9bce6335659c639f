"""Facets of a list of items count what a person would count by hand, on both databases and by both ways to read them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from graph.items.connection import BOUNDS
from graph.kit.operations import facets as declared
from graph.kit.operations.facets import SCANNED_ROWS_A_POINT
from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.finding import facets
from persistence.kit.finding.facet_cache import FacetCache
from tests.support.planner.comparison import Ways

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.service import Service

ASK = """
query Facets($search: String, $filter: ItemFilter, $bounds: [Decimal!], $first: Int! = 20) {
  items(search: $search, filter: $filter, first: 0) {
    facets {
      tags(first: $first) { tag count selected }
      price { min max buckets { from to count } }
      bounded: price(bounds: $bounds) { buckets { from to count } }
      stock { inStock outOfStock }
      precision
    }
  }
}
"""
TAGS = ["Ä", "a", "b", "é", "\U0001f600", 'x"y\\']
WORDS = ["red", "redder", "blue", "pan"]
PRICES = ["0.00", "0.99", "1.00", "4.99", "5.00", "5.01", "20.00", "749.99", "1000000.00"]


@dataclass
class Made:
    """An item as the test knows it."""

    words: list[str]
    price: Decimal
    tags: list[str]
    inventory: int
    deleted: bool


made = st.builds(
    Made,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
    st.sampled_from(PRICES).map(Decimal),
    st.lists(st.sampled_from(TAGS), max_size=4, unique=True),
    st.integers(0, 2),
    st.integers(0, 9).map(lambda number: number == 0),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "tagsAny": st.lists(st.sampled_from([*TAGS, "nowhere"]), max_size=3),
        "tagsAll": st.lists(st.sampled_from(TAGS), max_size=2),
        "priceMin": st.sampled_from(PRICES),
        "priceMax": st.sampled_from(PRICES),
        "inStock": st.booleans(),
    },
)
PARTS = {"tags": ("tagsAny", "tagsAll"), "price": ("priceMin", "priceMax"), "stock": ("inStock",)}


def left(catalogue: list[Made], search: str | None, filter_: dict[str, Any]) -> list[Made]:
    """What search and filter leave, by hand."""
    conditions: dict[str, Callable[[Made, Any], bool]] = {
        "tagsAny": lambda item, tags: any(tag in item.tags for tag in tags),
        "tagsAll": lambda item, tags: all(tag in item.tags for tag in tags),
        "priceMin": lambda item, price: item.price >= Decimal(price),
        "priceMax": lambda item, price: item.price <= Decimal(price),
        "inStock": lambda item, wanted: (item.inventory > 0) is wanted,
    }
    words = (search or "").split()
    found = [item for item in catalogue if not item.deleted and all(any(has.startswith(word) for has in item.words) for word in words)]
    return [item for item in found if all(conditions[name](item, value) for name, value in filter_.items())]


def by_hand(catalogue: list[Made], search: str | None, filter_: dict[str, Any], bounds: list[str], first: int) -> dict[str, Any]:
    rows = {
        facet: left(catalogue, search, {name: filter_[name] for name in filter_ if name not in parts}) for facet, parts in PARTS.items()
    }
    counted = Counter(tag for item in rows["tags"] for tag in item.tags)
    chosen = {*filter_.get("tagsAny", []), *filter_.get("tagsAll", [])}
    prices = [item.price for item in rows["price"]]
    stocked = sum(item.inventory > 0 for item in rows["stock"])
    usual = buckets(prices, list(BOUNDS))
    filled = [place for place, bucket in enumerate(usual) if bucket["count"]]
    return {
        "tags": [
            {"tag": tag, "count": count, "selected": tag in chosen}
            for tag, count in sorted(counted.items(), key=lambda each: (-each[1], each[0]))[:first]
        ],
        "price": {
            "min": f"{min(prices):.2f}" if prices else None,
            "max": f"{max(prices):.2f}" if prices else None,
            "buckets": usual[filled[0] : filled[-1] + 1] if filled else [],
        },
        "bounded": {"buckets": buckets(prices, [Decimal(bound) for bound in bounds])},
        "stock": {"inStock": stocked, "outOfStock": len(rows["stock"]) - stocked},
        "precision": "EXACT",
    }


def buckets(prices: list[Decimal], bounds: list[Decimal]) -> list[dict[str, Any]]:
    ends = [None, *bounds, None]
    return [
        {
            "from": None if low is None else str(low),
            "to": None if high is None else str(high),
            "count": sum((low is None or price >= low) and (high is None or price < high) for price in prices),
        }
        for low, high in pairwise(ends)
    ]


@pytest.fixture
def uncached(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Each way counts for itself."""
    monkeypatch.setattr(service.services.port(FacetCache), "_versions", None)
    return service


async def fill(service: Service, catalogue: list[Made]) -> None:
    drafts = [ItemValues(" ".join(item.words), item.price, tags=item.tags, inventory=item.inventory) for item in catalogue]
    async with service.database.transaction() as work:
        rows = await items.create_all(work, drafts, owner_id=None)
        gone = [row.id for row, item in zip(rows, catalogue, strict=True) if item.deleted]
        await work.session.execute(
            update(items.Item).where(items.Item.id.in_(gone)).values(deleted_at=rows[0].created_at if rows else None)
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(made, max_size=30),
    st.sampled_from([None, "red", "blue pan", "r", "nowhere"]),
    filters,
    st.lists(st.sampled_from(PRICES[1:]), max_size=4, unique=True).map(lambda bounds: sorted(bounds, key=Decimal)),
    st.integers(0, 7),
)
async def test_equal_counts_by_hand(
    uncached: Service, catalogue: list[Made], search: str | None, filter_: dict[str, Any], bounds: list[str], first: int
) -> None:
    service = uncached
    await service.empty()
    await fill(service, catalogue)
    variables = {"search": search, "filter": filter_, "bounds": bounds, "first": first}
    ways = Ways(service)
    planned, executed = await ways.answers(ASK, variables)
    assert planned == executed
    assert orjson.loads(planned)["data"]["items"]["facets"] == by_hand(catalogue, search, filter_, bounds, first)


SIX = [
    Made(["red", "pan"], Decimal("4.99"), ["a", "b"], 1, deleted=False),
    Made(["red"], Decimal("0.99"), ["a"], 0, deleted=False),
    Made(["blue", "pan"], Decimal("20.00"), ["b"], 2, deleted=False),
    Made(["redder"], Decimal("5.00"), [], 0, deleted=False),
    Made(["blue"], Decimal("5.01"), ["a", "é"], 1, deleted=False),
    Made(["pan"], Decimal("1.00"), ["a"], 1, deleted=True),
]


@pytest.fixture
async def six(service: Service) -> Service:
    await fill(service, SIX)
    return service


async def test_are_planned_beside_the_page_with_one_statement_more(
    six: Service, statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    document = (
        "query Page($s: String) { items(search: $s) { nodes { name } totalCount t: facets { __typename tags { t: tag } stock { inStock } }"
        " facets { price(bounds: [1]) { max } } } }"
    )
    assert await Ways(six).is_planned(document, {"s": "pan"})
    with statements() as sent:
        answer = await six.ask(document, {"s": "red"})
    assert len(sent) == 2
    assert answer["items"]["t"] == {"__typename": "ItemFacets", "tags": [{"t": "a"}, {"t": "b"}], "stock": {"inStock": 1}}
    assert answer["items"]["facets"] == {"price": {"max": "5.00"}}


async def test_are_counted_again_only_after_a_change(six: Service, statements: Callable[[], AbstractContextManager[list[str]]]) -> None:
    pages = [f"{{ items(first: {first}) {{ nodes {{ name }} facets {{ stock {{ inStock outOfStock }} }} }} }}" for first in (1, 2, 3)]
    await six.ask(pages[0])
    with statements() as sent:
        found = await six.ask(pages[1])
    assert len(sent) == 1
    assert found["items"]["facets"]["stock"] == {"inStock": 3, "outOfStock": 2}
    await six.make_item(inventory=1)
    assert (await six.ask(pages[2]))["items"]["facets"]["stock"] == {"inStock": 4, "outOfStock": 2}


async def test_say_at_least_where_counting_ends(six: Service, uncached: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert six is uncached
    for bound, precision in ((6, "EXACT"), (5, "AT_LEAST"), (2, "AT_LEAST")):
        monkeypatch.setattr(facets, "FACET_ROWS", bound)
        monkeypatch.setattr(declared, "FACET_ROWS", bound)
        found = (await six.ask(f"{{ b{bound}: items {{ facets {{ precision stock {{ inStock outOfStock }} }} }} }}"))[f"b{bound}"]["facets"]
        assert found["precision"] == precision
        assert sum(found["stock"].values()) == min(bound, 5)


@pytest.mark.parametrize(
    ("facet", "path", "message"),
    [
        ("tags(first: -1) { tag }", "first", "must be between 0 and 100"),
        ("tags(first: 101) { tag }", "first", "must be between 0 and 100"),
        ("price(bounds: [2, 1]) { max }", "bounds.1", "must be above the one before it"),
        ("price(bounds: [1, 1]) { max }", "bounds.1", "must be above the one before it"),
        ('price(bounds: ["0.001"]) { max }', "bounds", "must have at most two decimal places"),
        ("price(bounds: [-1]) { max }", "bounds", "must be between 0 and"),
        (f"price(bounds: {list(range(21))}) {{ max }}", "bounds", "must be at most 20, not 21"),
    ],
)
async def test_refuse_what_they_cannot_count(six: Service, facet: str, path: str, message: str) -> None:
    answer = (await six.send(f"{{ items {{ facets {{ {facet} }} }} }}")).json()
    [error] = answer["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert error["message"].startswith(f"{path}: {message}")


async def test_of_what_a_user_added(service: Service) -> None:
    users = [await service.make_user(name) for name in ("ada", "bob")]
    async with service.database.transaction() as work:
        for number, owner in enumerate((users[0], users[0], users[1], None)):
            await items.create(work, ItemValues(f"Pan {number}", Decimal(number), tags=["a"]), owner_id=owner and owner.id)
    token = service.tokens.issue(users[0].id, ())
    found = await service.ask("{ me { items(first: 1) { facets { tags { count } price { max } precision } } } }", token=token)
    assert found["me"]["items"]["facets"] == {"tags": [{"count": 2}], "price": {"max": "1.00"}, "precision": "EXACT"}


async def test_cost_what_they_look_at(six: Service) -> None:
    document = "{ items(first: 0) { facets { tags(first: 2) { tag } price { max } stock { inStock } precision } } }"
    request = {"query": document, "extensions": {"cost": True}}
    answers = [(await six.http.post("/graphql", json=request)).json()["extensions"]["cost"] for _ in range(2)]
    scan = facets.FACET_ROWS // SCANNED_ROWS_A_POINT
    assert [(answer["requested"], answer["actual"]) for answer in answers] == [(10 + 1 + 2 + 4 * 60 + 4 * scan, 10 + 2 + 1 + 4 * 60)] * 2
