"""A search that finds nothing finds what was meant: within one typing error or two, the same on both databases, and nothing else is bent."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.finding.near_words import distance, spellings, tolerance
from persistence.kit.search import tokenizer
from tests.persistence.finding.typing_errors import ENOUGH, demo_catalogue, missed, mistyped, typing_errors
from tests.support.planner.comparison import Ways

if TYPE_CHECKING:
    from tests.support.service import Service

ASK = """
query Near($search: String, $filter: ItemFilter, $first: Int, $after: String, $orderBy: ItemOrder) {
  items(search: $search, filter: $filter, first: $first, after: $after, orderBy: $orderBy) {
    matching didYouMean totalCount
    edges { node { name } highlights { field start length } }
    pageInfo { endCursor hasNextPage }
    facets { tags { tag count } stock { inStock } }
  }
}
"""

words = st.text("abc", max_size=5)


def edits(word: str) -> set[str]:
    """Every word that is one error away."""
    places = range(len(word))
    return {
        *(word[:place] + letter + word[place:] for place in range(len(word) + 1) for letter in "abc"),
        *(word[:place] + word[place + 1 :] for place in places),
        *(word[:place] + letter + word[place + 1 :] for place in places for letter in "abc"),
        *(word[:place] + word[place + 1] + word[place] + word[place + 2 :] for place in places[:-1]),
    }


@given(words, words)
def test_distance_counts_errors(one: str, other: str) -> None:
    reached, errors = {one}, 0
    while other not in reached and errors < 3:
        reached, errors = {edited for word in reached for edited in edits(word)} | reached, errors + 1
    assert min(distance(one, other), 3) == errors


@given(
    st.text("abcd", min_size=4, max_size=11),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.sampled_from("abcd")), max_size=2),
)
def test_words_that_are_near_share_a_spelling(typed: str, errors: list[tuple[int, int, str]]) -> None:
    meant = typed
    for kind, place, letter in errors:
        place = min(place, len(meant) - 1)  # noqa: PLW2901 -- within the word as it is by now
        meant = mistyped(meant, kind, place, letter)
    allowed = tolerance(typed)
    if len(meant) >= 3 and distance(typed, meant) <= allowed:
        assert spellings(typed, allowed) & spellings(meant, 2 if len(meant) >= 6 else 1)


@pytest.mark.parametrize(
    ("word", "errors"),
    [
        ("cat", 0),
        ("kate", 1),
        ("kettles", 1),
        ("kettlers", 2),
        ("a1b2", 0),
        ("2026", 0),
        ("straße", 1),
        ("чайник", 1),
        ("日本語版", 0),
        ("ไทยแลนด์", 0),
    ],
)
def test_words_bend_by_their_length(word: str, errors: int) -> None:
    assert tolerance(word) == errors


async def fill(service: Service, *drafts: ItemValues) -> None:
    async with service.database.transaction() as work:
        await items.create_all(work, drafts, owner_id=None)


@pytest.fixture
async def shop(service: Service) -> Service:
    await fill(
        service,
        ItemValues("Copper Kettle", Decimal(20), "Sings.", ["kitchen"], 1),
        ItemValues("Kettledrum KB-1042", Decimal(300), None, ["music"], 0),
        ItemValues("Nettle tea", Decimal(4), "Of young leaves, in the copper pot", ["kitchen", "tea"], 3),
        ItemValues("Straßenlaterne", Decimal(90), None, ["garden"], 1),
        ItemValues("Cat tree", Decimal(50), None, [], 1),
        ItemValues("שולחן λύκος", Decimal(60), None, [], 1),
    )
    return service


async def found(shop: Service, search_: str | None, **variables: Any) -> tuple[str, str | None, list[str]]:
    """As both ways have it."""
    ways = Ways(shop)
    planned, executed = await ways.answers(ASK, {"search": search_, **variables})
    assert planned == executed
    page = orjson.loads(planned)["data"]["items"]
    assert page["totalCount"] >= len(page["edges"])
    return page["matching"], page["didYouMean"], [edge["node"]["name"] for edge in page["edges"]]


@pytest.mark.parametrize(
    ("search_", "meant", "names"),
    [
        ("ketle", "kettle", ["Copper Kettle", "Kettledrum KB-1042"]),
        ("kettel", "kettle", ["Copper Kettle", "Kettledrum KB-1042"]),
        ("kkettle", "kettle", ["Copper Kettle", "Kettledrum KB-1042"]),
        ("Coper ketle", "copper kettle", ["Copper Kettle"]),
        ("cpoper Kettle", "copper Kettle", ["Copper Kettle"]),
        ("netle cop", "nettle cop", ["Nettle tea"]),
        ("kettlerdum", "kettledrum", ["Kettledrum KB-1042"]),
        ("kettledurm KB-1042", "kettledrum KB-1042", ["Kettledrum KB-1042"]),
        ("Strassenlaterna", "strassenlaterne", ["Straßenlaterne"]),
        ("Straßenlatrene", "strassenlaterne", ["Straßenlaterne"]),
        ("catt", "cat", ["Cat tree"]),
        ("drumkettle kettle", None, []),
        ("kettel KB-1043", None, []),
        ("KBB-1042", None, []),
        ("kettl3", None, []),
        ("caat", "cat", ["Cat tree"]),
        ("czt", None, []),
        ("cxxt", None, []),
        ("kttel", None, []),
        ("שולתן λυκσο", "שולחן λυκος", ["שולחן λύκος"]),
    ],
)
async def test_is_found_by_near_words(shop: Service, search_: str, meant: str | None, names: list[str]) -> None:
    assert await found(shop, search_) == ("NEAR" if meant else "EXACT", meant, names)
    if meant:
        assert await found(shop, meant) == ("EXACT", None, names)


async def test_known_words_are_bent_where_they_find_nothing_together(shop: Service) -> None:
    assert await found(shop, "kettle copper tea") == ("NEAR", "nettle copper tea", ["Nettle tea"])


async def test_words_that_find_something_are_not_bent_whatever_the_filter_leaves(shop: Service) -> None:
    for filter_, names in (({"tagsAny": ["music"]}, ["Kettledrum KB-1042"]), ({"tagsAny": ["tea"]}, [])):
        assert await found(shop, "kettle", filter=filter_) == ("EXACT", None, names)
        assert await found(shop, "ketle", filter=filter_) == ("NEAR", "kettle", names)


async def test_every_part_of_the_page_is_of_the_near_words(shop: Service) -> None:
    page = (await shop.ask(ASK, {"search": "ketle", "first": 1}))["items"]
    assert page["totalCount"] == 2
    assert page["facets"] == {"tags": [{"tag": "kitchen", "count": 1}, {"tag": "music", "count": 1}], "stock": {"inStock": 1}}
    assert page["edges"][0]["highlights"] == [{"field": "name", "start": 7, "length": 6}]
    rest = (await shop.ask(ASK, {"search": "ketle", "first": 1, "after": page["pageInfo"]["endCursor"]}))["items"]
    assert [edge["node"]["name"] for edge in rest["edges"]] == ["Kettledrum KB-1042"]
    assert rest["matching"] == "NEAR"
    assert not rest["pageInfo"]["hasNextPage"]
    assert (await found(shop, "ketle", first=0))[:2] == ("NEAR", "kettle")
    assert (await found(shop, "kettle", first=0))[:2] == ("EXACT", None)


async def test_what_was_deleted_or_renamed_is_not_meant(service: Service) -> None:
    await fill(service, ItemValues("Samovar", Decimal(1)))
    assert await found(service, "samovra") == ("NEAR", "samovar", ["Samovar"])
    async with service.database.transaction() as work:
        row = (await work.session.scalars(select(items.Item))).one()
        await items.change(work, row.id, {"name": "Teapot"})
    assert await found(service, "samovra") == ("EXACT", None, [])
    assert await found(service, "taepot") == ("NEAR", "teapot", ["Teapot"])
    async with service.database.transaction() as work:
        await items.delete(work, row.id)
    assert await found(service, "taepot") == ("EXACT", None, [])


async def test_triggers_keep_the_spellings_that_python_has(service: Service) -> None:
    texts = ["Kettle, kettles; TEA", "Teapot 12b Straßenbahn", "чайник 日本語版 ไทย", "kettle tea"]
    for text in texts[:2]:
        await service.make_item(text)
    await fill(service, *[ItemValues(text, Decimal(1)) for text in texts[1:]])
    spelled: Any = items.ENTITY.spellings
    async with service.database.reading() as session:
        kept = (await session.execute(select(spelled.c.spelling, spelled.c.word))).all()
    expected = ["kettle", "kettles", "tea", "teapot", "strassenbahn", "чаиник"]
    spelled_as = [(left, word) for word in expected for left in spellings(word, 2 if len(word) >= 6 else 1)]
    assert sorted(kept) == sorted([*spelled_as, ("12b", "12b")])


async def test_a_beginning_finds_every_word_that_goes_on_from_it(service: Service) -> None:
    """PostgreSQL looks up how it goes on, if there are few ways; more than eight, short words and those of a name are cases of their own."""
    names = [
        "p",
        "pa",
        "pan",
        "pan2",
        "panel",
        "panelling7",
        "p2",
        "2pan",
        "pän",
        "日本語",
        *(f"kit{letter}" for letter in "abcdefgh9"),
        "kit",
    ]
    await fill(service, *[ItemValues(name, Decimal(1)) for name in names])
    for typed in ("p", "pa", "pan", "pan2", "panel", "panelling", "p2", "2", "2p", "日本", "kit", "kit9", "kitb"):
        expected = sorted(name for name in names if any(word.startswith(typed) for word in tokenizer.words(name)))
        matching, _, shown = await found(service, typed, first=50, orderBy={"field": "RELEVANCE"})
        assert (matching, sorted(shown)) == ("EXACT", expected), typed


async def test_typing_errors_find_what_was_meant_in_the_first_ten(service: Service) -> None:
    drafts = demo_catalogue()
    await fill(service, *drafts)
    # A sample: most of it on the database that is quicker at so many, as both find the same.
    errors = typing_errors(drafts)[:: 8 if service.database.dialect == "sqlite" else 50]
    lost = await missed(service.settings.database_url, errors)
    assert 1 - len(lost) / len(errors) >= ENOUGH, lost
