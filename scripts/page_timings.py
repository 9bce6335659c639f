"""Times pages of a large catalogue in the database that DATABASE_URL names: each order at its start and in its middle, and searches."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select, text

from graph.server.settings import Settings, load
from persistence.items import listing as catalogue
from persistence.items.table import Item
from persistence.kit.database.database import Database
from persistence.kit.database.executors.statement_executor import PreparedStatement, prepare
from persistence.kit.query.entity_list import SortOrder
from persistence.kit.query.paging import OrderedQuery, PageArguments
from persistence.kit.search.tokenizer import MARK

PAGE = 50
RUNS = 7
SAMPLE = 997  # Every so many items' words are counted.
EXPLAIN = {"postgresql": "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, SUMMARY ON) ", "sqlite": "EXPLAIN QUERY PLAN "}

Case = tuple[str, OrderedQuery[Item], PageArguments]


async def main(settings: Settings, *, plans: bool) -> None:
    database = Database.connect(settings.database_url, pool=settings.pool.for_commands)
    try:
        items = await analysed(database)
        print(f"{items:,} items, pages of {PAGE}, {database.dialect}\n\n| page | ms | rows |\n|---|---|---|")
        for name, listing, window in await cases(database):
            prepared = prepare(listing.page_statement(window), database.executor_dialect)
            milliseconds, rows = await timed(database, prepared)
            print(f"| {name} | {milliseconds:.1f} | {rows} |")
            if plans:
                print("\n```\n" + "\n".join(await plan(database, prepared)) + "\n```\n")
    finally:
        await database.close()


async def analysed(database: Database) -> int:
    """Planning goes wrong without statistics, which a database gathers some time after a large import."""
    async with database.reading_latest() as session:
        if database.dialect == "postgresql":
            await session.execute(text("ANALYZE items"))
        return await session.scalar(select(func.count()).select_from(Item)) or 0


async def cases(database: Database) -> list[Case]:
    found: list[Case] = []
    async with database.reading() as session:
        last = await session.scalar(select(func.max(Item.id))) or 0
        middle = await session.get_one(Item, last // 2)
        sample = (await session.scalars(select(Item.search_words).where(Item.id % SAMPLE == 0))).all()
    for attribute in ("id", "name", "price", "created_at", "inventory"):
        for descending in (False, True):
            listing = replace(catalogue.ALL, order=SortOrder(attribute, descending)).listing()
            name = f"{attribute}{' descending' if descending else ''}"
            found.append((f"{name}, first", listing, PageArguments(PAGE)))
            found.append((f"{name}, after the middle", listing, PageArguments(PAGE, after=listing.cursor(middle))))
    for name, words in searches(sample).items():
        for order in (SortOrder(), SortOrder("price", descending=True)):
            listing = replace(catalogue.ALL, search=words, order=order).listing()
            by = "" if order == SortOrder() else ", by price"
            found.append((f"{name}: `{words}`{by}", listing, PageArguments(PAGE)))
            if order == SortOrder():
                found.append((f"{name}: `{words}`, after the middle", listing, PageArguments(PAGE, after=listing.cursor(middle))))
    return found


def searches(sample: Any) -> dict[str, str]:
    """By how often a word occurs."""
    count = Counter(word for line in sample for word in line.split() if not word.startswith(MARK))
    ordered = [word for word, _ in count.most_common()]

    def near(share: float) -> list[str]:
        """The words that come nearest to occurring in this share of the items."""
        return sorted(ordered, key=lambda word: abs(count[word] - share * len(sample)))

    return {
        "common word": ordered[0],
        "word in a sixth": near(0.16)[0],
        **{f"word in {share:.1%}": near(share)[0] for share in (0.04, 0.02, 0.01, 0.005)},
        "two words in 4 %": " ".join(near(0.04)[:2]),
        "two words in 2 %": " ".join(near(0.02)[:2]),
        "rarest word": ordered[-1],
        "two common words": " ".join(ordered[:2]),
        "a common and a rare word": f"{ordered[0]} {ordered[-1]}",
        "beginning of words": ordered[0][:2],
        "no such word": "qqqq",
    }


async def timed(database: Database, prepared: PreparedStatement) -> tuple[float, int]:
    """The median, as asked by one caller after the other over one connection, and how many rows there were."""
    raw, times, rows = await database.executor(), list[float](), 0
    for _ in range(RUNS):
        began = time.perf_counter()
        rows = len(await raw.fetch(prepared, {}))
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1_000, rows


async def plan(database: Database, prepared: PreparedStatement) -> list[str]:
    explained = replace(prepared, sql=EXPLAIN[database.dialect] + prepared.sql)
    return [str(row[-1]) for row in await (await database.executor()).fetch(explained, {})]


if __name__ == "__main__":
    asyncio.run(main(load(debug=True), plans="--plans" in sys.argv[1:]))
