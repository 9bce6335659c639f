"""Typing errors in names of items: how many of them still find the item that was meant in the first ten.

`scripts/prove typos CATALOGUE.csv` tries 2,000 over a catalogue of yours on both databases; test_near_words.py tries a sample over the demo shop's.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import string
import sys
import tempfile
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import orjson

from persistence.demo import shop as demo
from persistence.items import listing
from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.database.database import Database
from persistence.kit.database.engines import PoolSize
from persistence.kit.finding.searched_list import BY_RELEVANCE
from persistence.kit.json_rows.json_page import RowForm
from persistence.kit.json_rows.reader import EntityReader
from persistence.kit.json_rows.row_json import JsonColumn
from persistence.kit.query.paging import PageArguments
from persistence.kit.search import tokenizer
from tests.conftest import settings_for

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBER = 2_000
FIRST = 10
ENOUGH = 0.95  # Of all errors; the rest make another word that the catalogue has, too, or one that is too short to be bent.


def mistyped(word: str, kind: int, place: int, letter: str) -> str:
    """With a letter too much, too few, another one, or two exchanged."""
    exchanged = word[:place] + word[place + 1 : place + 2] + word[place : place + 1] + word[place + 2 :]
    return [word[:place] + letter + word[place:], word[:place] + word[place + 1 :], word[:place] + letter + word[place + 1 :], exchanged][
        kind
    ]


def demo_catalogue() -> list[ItemValues]:
    made = [demo.item(number, Random(number)) for number in range(2_000)]
    return [ItemValues(item.name, item.price, item.description, item.tags, item.inventory) for item in made]


def catalogue(file: Path) -> list[ItemValues]:
    """Of a CSV file with the columns name, price and description."""
    with file.open(encoding="utf-8", newline="") as rows:
        return [ItemValues(row["name"], Decimal(row["price"]), row.get("description") or None) for row in csv.DictReader(rows)]


def typing_errors(drafts: Sequence[ItemValues], number: int = NUMBER) -> list[tuple[str, str]]:
    """Names of items with one error in one of their words, as it is typed of four letters at least; and without it."""
    chance, made = Random(17), list[tuple[str, str]]()
    while len(made) < number:
        name = chance.choice(drafts).name
        typed = name.split()
        place = chance.randrange(len(typed))
        word = mistyped(typed[place], chance.randrange(4), chance.randrange(len(typed[place])), chance.choice(string.ascii_lowercase))
        query = " ".join([*typed[:place], word, *typed[place + 1 :]])
        if typed[place].isalpha() and len(word) >= 4 and word != typed[place] and len(tokenizer.prefixes(query)) <= tokenizer.QUERY_WORDS:
            made.append((query, name))
    return made


async def missed(url: str, errors: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that do not find what was meant. What is found matters here, not how soon: a machine that is busy may take longer than a service waits."""
    database = Database.connect(url, pool=PoolSize().for_commands)
    pages, found = EntityReader(database).pages(RowForm(items.ENTITY, (JsonColumn("name"),))), list[tuple[str, str]]()
    try:
        for query, name in errors:
            page = await pages.page(replace(listing.ALL, search=query, order=BY_RELEVANCE), PageArguments(first=FIRST))
            if name not in map(orjson.loads, page.columns[0]):
                found.append((query, name))
    finally:
        await database.close()
    return found


async def prove(backend: str, drafts: Sequence[ItemValues], number: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        url = (await settings_for(backend, Path(folder))).database_url
        database = Database.connect(url)
        try:
            async with database.transaction() as work:
                await items.create_all(work, drafts, owner_id=None)
        finally:
            await database.close()
        began = time.perf_counter()
        lost = await missed(url, typing_errors(drafts, number))
    share, milliseconds = 1 - len(lost) / number, (time.perf_counter() - began) / number * 1_000
    sys.stdout.write(f"{backend}: {share:.2%} of {number:,} found, {milliseconds:.1f} ms each\n")
    sys.stdout.writelines(f"  {query!r} did not find {name!r}\n" for query, name in lost)
    return share >= ENOUGH


async def main(file: Path | None, number: int, backends: list[str]) -> bool:
    drafts = catalogue(file) if file else demo_catalogue()
    return all([await prove(backend, drafts, number) for backend in backends])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/prove typos", description=__doc__)
    parser.add_argument("catalogue", type=Path, nargs="?", help="CSV with name, price and description; the demo shop's without it")
    parser.add_argument("--errors", type=int, default=NUMBER)
    parser.add_argument("--on", choices=["sqlite", "postgresql"], action="append")
    chosen = parser.parse_args()
    raise SystemExit(0 if asyncio.run(main(chosen.catalogue, chosen.errors, chosen.on or ["sqlite", "postgresql"])) else 1)
