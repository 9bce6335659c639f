"""The order by relevance: names before descriptions, whole words before beginnings, then by id; both ways, page by page."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.search import tokenizer
from tests.support.planner.comparison import Ways

if TYPE_CHECKING:
    from tests.support.service import Service

PAGE = """
query Page($search: String, $direction: OrderDirection!, $first: Int, $after: String, $last: Int, $before: String) {
  items(search: $search, orderBy: {field: RELEVANCE, direction: $direction}, first: $first, after: $after, last: $last, before: $before) {
    edges { cursor node { name description } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
Text = tuple[str, str | None]
ROWS: list[Text] = [
    ("Lamp", "Lights the tea table"),
    ("Teapot", None),
    ("Pot", "For green tea"),
    ("Tea", "In a pot"),
    ("Green Tea", None),
    ("Greenish teapot", None),
    ("Pan", "Greenish teapot"),
    ("Tea, green", "Tea"),
    ("Cup", None),
    ("Grün: green tea-pot", None),
]


async def fill(service: Service, rows: list[Text]) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, [ItemValues(name, Decimal(1), text) for name, text in rows], owner_id=None)


def by_hand(rows: list[Text], query: str) -> list[str]:
    def rank(row: Text) -> int | None:
        name, words = tokenizer.words(row[0]), tokenizer.words(f"{row[0]} {row[1] or ''}")
        wanted = tokenizer.prefixes(query)
        if not all(any(has.startswith(word) for has in words) for word in wanted):
            return None
        if all(word in name for word in wanted):
            return 0
        if all(any(has.startswith(word) for has in name) for word in wanted):
            return 1
        return 2 if all(word in words for word in wanted) else 3

    found = [(ranked, place) for place, row in enumerate(rows) if (ranked := rank(row)) is not None]
    return [rows[place][0] for _, place in sorted(found)]


async def paged(service: Service, query: str | None, direction: str, size: int, *, backward: bool) -> list[str]:
    """The names of the whole list, page by page, as both ways have them."""
    ways, names, cursor, more = Ways(service), list[str](), None, True
    while more:
        window: dict[str, Any] = {"last": size, "before": cursor} if backward else {"first": size, "after": cursor}
        planned, executed = await ways.answers(PAGE, {"search": query, "direction": direction, **window})
        assert planned == executed
        page = orjson.loads(planned)["data"]["items"]
        found = [edge["node"]["name"] for edge in page["edges"]]
        names = found + names if backward else names + found
        cursor = page["pageInfo"]["startCursor" if backward else "endCursor"]
        more = page["pageInfo"]["hasPreviousPage" if backward else "hasNextPage"]
        assert [cursor] == [page["edges"][0 if backward else -1]["cursor"]] if found else cursor is None
    return names


@pytest.mark.parametrize("query", ["tea", "green tea", "te gre", "pot", "teapot", "t", "nowhere"])
async def test_pages_both_ways(service: Service, query: str) -> None:
    await fill(service, ROWS)
    expected = by_hand(ROWS, query)
    for size in (2, 3):
        assert await paged(service, query, "ASC", size, backward=False) == expected
        assert await paged(service, query, "ASC", size, backward=True) == expected
        assert await paged(service, query, "DESC", size, backward=False) == expected[::-1]
    assert await Ways(service).is_planned(PAGE, {"search": query, "direction": "ASC"})


async def test_is_the_order_in_which_they_were_added_without_a_search(service: Service) -> None:
    await fill(service, ROWS)
    names = [name for name, _ in ROWS]
    assert await paged(service, None, "ASC", 3, backward=False) == names
    assert await paged(service, "  ", "DESC", 3, backward=True) == names[::-1]
    assert await paged(service, "!", "ASC", 3, backward=True) == []


words = st.lists(st.sampled_from(["tea", "teapot", "tease", "pot", "l\u2019eau", "日本語", "Ø"]), max_size=3).map(" ".join)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(words.map("x {}".format), words), max_size=12), st.sampled_from(["tea", "tea pot", "te", "eau", "日本", "o tea"]))
async def test_is_as_by_hand(service: Service, rows: list[Text], query: str) -> None:
    await service.empty()
    await fill(service, rows)
    assert await paged(service, query, "ASC", 4, backward=False) == by_hand(rows, query)


UPSERT = "mutation Upsert($inputs: [UpsertItemInput!]!) { upsertItems(inputs: $inputs) { ... on UpsertItems { created updated } } }"
UPDATE = 'mutation Update($id: ID!) { updateItem(id: $id, input: {name: "Teacup"}) { __typename } }'


async def test_follows_a_new_name_whoever_gives_it(service: Service) -> None:
    token = await service.sign_in()
    named = [{"externalId": str(number), "name": name, "price": "1"} for number, name in enumerate(["Cup", "Tea", "Pot of tea leaves"])]
    await service.ask(UPSERT, {"inputs": named}, token=token)
    assert await paged(service, "tea", "ASC", 9, backward=False) == ["Tea", "Pot of tea leaves"]
    changed = [{"externalId": "0", "name": "A cup of tea"}, {"externalId": "1", "name": "Leaf", "description": "Tea"}]
    await service.ask(UPSERT, {"inputs": changed}, token=token)
    assert await paged(service, "tea", "ASC", 9, backward=False) == ["A cup of tea", "Pot of tea leaves", "Leaf"]
    first = (await service.ask("{ items(first: 1) { nodes { id } } }"))["items"]["nodes"][0]["id"]
    await service.ask(UPDATE, {"id": first}, token=token)
    assert await paged(service, "tea", "ASC", 9, backward=False) == ["Pot of tea leaves", "Teacup", "Leaf"]


async def test_a_cursor_of_another_search_is_refused(service: Service) -> None:
    await fill(service, ROWS)
    page = (await service.ask(PAGE, {"search": "tea", "direction": "ASC", "first": 1}))["items"]
    for search_, direction in (("pot", "ASC"), ("tea", "DESC")):
        code = await service.refused(PAGE, {"search": search_, "direction": direction, "after": page["pageInfo"]["endCursor"]})
        assert code == "BAD_USER_INPUT"
