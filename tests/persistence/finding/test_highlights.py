# ruff: noqa: RUF001 -- look-alikes are the point
"""Highlights are where words stand in a text as people see it, counted as browsers count."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.finding.highlights import MOST, Highlight, highlights
from persistence.kit.search import tokenizer
from persistence.kit.search.tokenizer import Words
from tests.support.planner.comparison import Ways
from tests.support.service import Service


def sliced(text: str, found: list[Highlight]) -> list[str]:
    """As a browser slices strings."""
    units = text.encode("utf-16-le")
    return [units[2 * each.start : 2 * (each.start + each.length)].decode("utf-16-le") for each in found]


@pytest.mark.parametrize(
    ("query", "text", "shown"),
    [
        ("motor", "Motörhead, moto\u0308rs and MOTOR", ["Motör", "moto\u0308r", "MOTOR"]),
        ("stras", "Große Straße, Strasse", ["Straß", "Stras"]),
        ("strasse", "Straße", ["Straße"]),
        ("ist", "İstanbul istra ıST", ["İst", "ist", "ıST"]),
        ("o", "Ørsted öl bo", ["Ø", "ö"]),
        ("fi", "a ﬁne ring", ["ﬁ"]),
        ("cafe", "Cafe\u0301s CAFÉ", ["Cafe\u0301", "CAFÉ"]),
        ("lodz", "😀 Łódź 𝐁", ["Łódź"]),
        ("bold", "😀 𝐁𝐨𝐥𝐝er, bold", ["𝐁𝐨𝐥𝐝", "bold"]),
        ("ab", "a\u00adb", ["a\u00adb"]),
        ("eau", "l’eau d'eau leau", ["eau", "eau"]),
        ("leau", "l’eau", ["l’eau"]),
        ("90s", "90's 90s", ["90s"]),
        ("日本", "新日本語 日本", ["日本", "日本"]),
        ("日本語日本", "日本語日本国", ["日本語日本"]),
        ("か", "がか", ["か"]),
        ("\u3099", "が \u3099", [" \u3099"]),
        ("कि", "किताब", ["कि"]),
        ("क", "किताब", ["कि"]),
        ("שולחנ", "שולחן שולחנות", ["שולחן", "שולחנ"]),
        ("らー", "ラーメン", ["ラー"]),
        ("مدرسة", "مدرسہ", ["مدرسہ"]),
        ("red redder", "redder reddish Red", ["redder", "red", "Red"]),
        ("head", "Motörhead", []),
        ("!", "a ! b", []),
    ],
)
def test_show_what_was_found(query: str, text: str, shown: list[str]) -> None:
    assert sliced(text, highlights(Words.of(query), {"name": text})) == shown


# A mark stands on a letter, as in any text that means something.
letters = st.lists(
    st.sampled_from([*"aäßİøé😀𝐁ﬁ'’ -日本語がかक1\u00ad\u200b", "e\u0301", "か\u3099", "कि", "ガ", "ൻ", "װ", "ہ", "ך"]), max_size=40
).map("".join)


@given(letters, letters)
def test_are_in_order_and_found_where_the_search_finds(text: str, query: str) -> None:
    words = Words.of(query)
    found = highlights(words, {"name": text})
    ends = [(each.start, each.start + each.length) for each in found]
    assert all(start < end for start, end in ends)
    assert all(before[1] <= after[0] for before, after in pairwise(ends))
    indexed = tokenizer.indexed(text).split(" ")
    met = [word for group in words.groups for word in group if any(each.startswith(word) for each in indexed)]
    assert bool(found) == bool(met)
    for part in sliced(text, found):
        assert part in text


def test_are_bounded_and_name_their_field() -> None:
    found = highlights(Words.of("a b"), {"name": "a", "description": "b " * 200, "note": None})
    assert found[:2] == [Highlight("name", 0, 1), Highlight("description", 0, 1)]
    assert len(found) == MOST


PAGE = """
query Page($search: String) {
  items(search: $search) {
    edges { highlights { field start length } h: highlights { f: field __typename } node { name } }
  }
}
"""


async def test_are_planned_as_the_reference_executor_has_them(service: Service) -> None:
    async with service.database.transaction() as work:
        drafts = [
            ItemValues("Große Straße", Decimal(1), "😀 An der Strasse"),
            ItemValues("Strand", Decimal(1)),
            ItemValues("Meer", Decimal(1)),
        ]
        await items.create_all(work, drafts, owner_id=None)
    ways = Ways(service)
    for search_ in ("stra", None, "!"):
        planned, executed = await ways.answers(PAGE, {"search": search_})
        assert planned == executed
    assert await ways.is_planned(PAGE, {"search": "stra"})
    edges = orjson.loads((await ways.answers(PAGE, {"search": "stra"}))[0])["data"]["items"]["edges"]
    assert edges == [
        {
            "highlights": [{"field": "name", "start": 6, "length": 4}, {"field": "description", "start": 10, "length": 4}],
            "h": [{"f": "name", "__typename": "Highlight"}, {"f": "description", "__typename": "Highlight"}],
            "node": {"name": "Große Straße"},
        },
        {
            "highlights": [{"field": "name", "start": 0, "length": 4}],
            "h": [{"f": "name", "__typename": "Highlight"}],
            "node": {"name": "Strand"},
        },
    ]
