"""Migrations …"""

from __future__ import annotations

import asyncio
import sys
import unicodedata
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Column, Connection, Date, DateTime, Integer, MetaData, NullPool, Table, Text, inspect, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from persistence.kit.column_types import SortableText
from persistence.kit.finding.near_words import spellings
from persistence.kit.finding.spellings_index import create_spellings, drop_spellings
from persistence.kit.search import tokenizer
from persistence.kit.search.word_index import create_word_index, drop_word_index
from persistence.schema import MIGRATION_LOCK, MIGRATIONS, configuration, downgrade, upgrade
from tests.support.servers import databases
from tests.support.servers.processes import ROOT

T = TypeVar("T")

REVISIONS = [script.revision for script in reversed([*ScriptDirectory(str(MIGRATIONS)).walk_revisions()])]
PROCESSES = 2  # A second of a processor each.


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'storegraph.db'}"
    return await databases.create_database(databases.postgres(), tmp_path.name)


async def looked(url: str, look: Callable[[Connection], T]) -> T:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(look)
    finally:
        await engine.dispose()


def shape(connection: Connection) -> dict[str, Any]:
    """Everything that a migration may make, in an order of its own."""
    inspector = inspect(connection)
    made: dict[str, Any] = {table: _table(inspector, table) for table in inspector.get_table_names() if table != "alembic_version"}
    others = connection.execute(text(OTHERS[connection.dialect.name]))
    return made | {"": {tuple(row) for row in others if "alembic_version" not in row[0]}}


OTHERS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') OR sql LIKE 'CREATE VIRTUAL%'",
    "postgresql": "SELECT relname, pg_get_indexdef(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'r'",
}


def _table(inspector: Any, table: str) -> list[list[str]]:
    columns = [{**column, "type": repr(column["type"])} for column in inspector.get_columns(table)]
    keys = (inspector.get_unique_constraints(table), inspector.get_foreign_keys(table), inspector.get_check_constraints(table))
    return [sorted(map(repr, found)) for found in (columns, *keys, [inspector.get_pk_constraint(table)])]


def fill(connection: Connection) -> tuple[MetaData, dict[str, Any]]:
    """Put a row into each table that has none; tells the tables and their rows. These refer to each other, as all their numbers and all their words are the same."""
    tables = reflected(connection)
    for table in tables.sorted_tables:
        if table.name != "alembic_version" and connection.execute(select(table)).first() is None:
            # What a row is found by is made of its other values.
            values = {column.name: _value(column.type) for column in table.columns if column.computed is None} | (
                {"search_words": "ada"} if "search_words" in table.columns else {}
            )
            connection.execute(table.insert().values(values))
    return tables, rows(connection, tables)


def reflected(connection: Connection) -> MetaData:
    tables = MetaData()
    # SQLite's search indexes are tables to look at; what is in them comes by triggers.
    tables.reflect(connection, only=lambda name, _: "_search" not in name)
    return tables


def _value(type_: Any) -> Any:
    if isinstance(type_, JSON):
        return []
    if isinstance(type_, Boolean):
        return True
    if isinstance(type_, DateTime):
        return datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    if isinstance(type_, Date):
        return date(2026, 11, 24)
    return 1 if isinstance(type_, Integer) else "Ada"


def rows(connection: Connection, tables: MetaData) -> dict[str, Any]:
    """What is in these columns of these tables."""
    kept = [table for table in tables.sorted_tables if table.name != "alembic_version"]
    return {
        table.name: [tuple(map(_unmarked, row)) for row in connection.execute(select(*table.columns).order_by(*table.primary_key))]
        for table in kept
    }


def _unmarked(value: Any) -> Any:
    """A migration repeats the words of a name with a mark."""
    return value.removesuffix(" ·ada") if isinstance(value, str) else value


async def test_lead_from_nothing_to_what_the_code_expects(url: str) -> None:
    await upgrade(url)
    await asyncio.to_thread(command.check, configuration(url))
    written, generated = await looked(url, spelled_again)
    assert generated == written, "create_spellings gives a new table something else than the migrations gave the items"


def spelled_again(connection: Connection) -> tuple[dict[str, str], dict[str, str]]:
    """How the spellings of items are kept: by the migrations, and as those of a new table are."""
    written = keepers(connection)
    with Operations.context(MigrationContext.configure(connection)):
        drop_spellings("items")
        create_spellings("items")
    return written, keepers(connection)


def keepers(connection: Connection) -> dict[str, str]:
    return {name: " ".join(sql.split()) for name, sql in connection.execute(text(KEEPERS[connection.dialect.name]))}


KEEPERS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'items_spellings_%'",
    "postgresql": "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'items_%' AND pronamespace = 'public'::regnamespace"
    " UNION ALL SELECT tgname || ' of items', pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'items_spellings_%'",
}


async def test_keep_every_row_on_the_way_up_and_lead_back_to_exactly_what_was_before(url: str) -> None:
    before, kept = dict[str, Any](), list[tuple[MetaData, dict[str, Any]]]()
    for revision in REVISIONS:
        await upgrade(url, revision)
        for tables, found in kept:
            assert await looked(url, partial(rows, tables=tables)) == found
        before[revision] = await looked(url, shape)
        kept.append(await looked(url, fill))
    for revision in reversed(REVISIONS[:-1]):
        await downgrade(url, revision)
        assert await looked(url, shape) == before[revision]
    await downgrade(url, "base")
    assert await looked(url, shape) == {"": set()}


# Name, words as earlier versions made them, words now, and what finds the row now.
OLD_WORDS = [
    ("Motörhead (Live)", "motorhead live", "motorhead live", "motor"),
    ("हिन्दी", "ह नद", "हिन्दी", "हिन्"),
    ("Kaffee\u00admaschine", "kaffee maschine", "kaffeemaschine", "kaffeem"),
    ("Łódź", "łodz", "lodz", "lodz"),
    ("日本語", "日本語", "日本語 本語 語", "本"),
    ("한국", "한국", "한국", "한"),
    ("Chef's", "chef s", "chefs s", "chefs"),
    ("ここここここ", "ここここ ここ こ", "ここここ ここここ ここここ こここ ここ こ", "こここ"),
    ("x" * 80, "x" * 64, "x" * 64, "x" * 64),
    ("ہندوستان", "ہندوستان", "هندوستان", "هند"),
    ("שולחן", "שולחן", "שולחנ", "שולחנ"),
    ("น\u0e4d\u0e49\u0e32", "น\u0e4d\u0e49\u0e32 \u0e32", "น\u0e49\u0e4d\u0e32 \u0e32", "น้ำ"),
]
OLD_ROWS = 2_500  # More than a migration has in memory.


def fill_with_old_words(connection: Connection, revision: str) -> None:
    """In the latest of these revisions the words of ASCII texts are as they are now."""
    tables = reflected(connection)
    moment = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    right = [revision == "0018" and name.isascii() for name, *_ in OLD_WORDS]
    words = [(name, now if known else old) for known, (name, old, now, _) in zip(right, OLD_WORDS, strict=True)]
    numbered = [(number, *words[number % len(words)]) for number in range(1, OLD_ROWS + 1)]
    marked = {
        number: f" {tokenizer.MARK}".join(["", *words.split()]) if right[number % len(right)] else "" for number, _, words in numbered
    }
    common: dict[str, Any] = {"price_cents": 1, "tags": [], "inventory": 0, "version": 3, "created_at": moment, "updated_at": moment}
    deleted = {number: moment if number % 10 == 0 else None for number, *_ in numbered}
    items = [common | {"id": n, "name": name, "search_words": old + marked[n], "deleted_at": deleted[n]} for n, name, old in numbered]
    connection.execute(tables.tables["items"].insert(), items)
    who: dict[str, Any] = {"password_hash": "-", "is_active": True, "scopes": [], "created_at": moment}
    users = [
        who | {"id": n, "username": f"u{n}", "username_key": f"u{n}", "full_name": name, "search_words": f"u{n} {old}"}
        for n, name, old in numbered
    ]
    connection.execute(tables.tables["users"].insert(), users)


MATCHING = {
    "sqlite": "SELECT id FROM {0} WHERE id IN (SELECT rowid FROM {0}_search WHERE {0}_search MATCH '\"{1}\"*') ORDER BY id",
    "postgresql": "SELECT id FROM {0} WHERE array_to_tsvector(string_to_array(search_words, ' ')) @@ $${1}:*$$::tsquery ORDER BY id",
}


def matching(connection: Connection, table: str, query: str) -> list[int]:
    [prefix] = tokenizer.prefixes(query)
    return [*connection.exec_driver_sql(MATCHING[connection.dialect.name].format(table, prefix)).scalars()]


@pytest.mark.parametrize("revision", ["0005", "0009", "0018"])
async def test_index_the_rows_of_earlier_versions_again(url: str, revision: str) -> None:
    await upgrade(url, revision)
    await looked(url, partial(fill_with_old_words, revision=revision))
    kept = await looked(url, lambda connection: rows(connection, reflected(connection)))
    await upgrade(url)
    now = await looked(url, lambda connection: rows(connection, reflected(connection)))
    tables = (await looked(url, reflected)).tables
    place = {name: tables[name].columns.keys().index("search_words") for name in ("items", "users")}
    for table, first in (("items", ""), ("users", "u{} ")):
        wanted = [first.format(number) + OLD_WORDS[number % len(OLD_WORDS)][2] for number in range(1, OLD_ROWS + 1)]
        known = [tokenizer.marked(words, words) if table == "items" else words for words in map(decomposed, wanted)]
        assert [row[place[table]] for row in now[table]] == known
        assert [row[: place[table]] for row in now[table]] == [row[: place[table]] for row in kept[table]]
        for which, (*_, query) in enumerate(OLD_WORDS):
            having = [number for number in range(1, OLD_ROWS + 1) if number % len(OLD_WORDS) == which]
            assert await looked(url, partial(matching, table=table, query=query)) == having
    await downgrade(url, revision)
    every = len(OLD_WORDS)
    assert await looked(url, partial(matching, table="items", query="motor")) == [*range(every, OLD_ROWS + 1, every)]


def decomposed(words: str) -> str:
    """Hangul as it is indexed: a syllable is found by its first letters."""
    return unicodedata.normalize("NFKD", words)


async def test_make_index_and_spellings_of_the_words_of_a_new_table(url: str) -> None:
    def learn(connection: Connection) -> tuple[list[Any], list[Any]]:
        metadata = MetaData()
        cups = Table("cups", metadata, Column("id", Integer, primary_key=True), Column("search_words", Text))
        spelled = Table("cups_spellings", metadata, Column("spelling", SortableText), Column("word", SortableText))
        metadata.create_all(connection)
        before = everything(connection)
        connection.execute(cups.insert(), [{"id": 1, "search_words": "kettle tea 12b"}, {"id": 2, "search_words": "pan"}])
        with Operations.context(MigrationContext.configure(connection)):
            create_word_index("cups")
            create_spellings("cups")
            connection.execute(cups.insert(), {"id": 3, "search_words": "teapot kettle \u00b7teapot"})
            connection.execute(cups.update().where(cups.c.id == 2).values(search_words="чаиник"))
            kept = [tuple(row) for row in connection.execute(select(spelled.c.spelling, spelled.c.word))]
            drop_spellings("cups")
            drop_word_index("cups")
        return kept, [before, everything(connection)]

    kept, (before, after) = await looked(url, learn)
    expected = ["kettle", "tea", "pan", "teapot", "чаиник"]
    spelled_as = [(left, word) for word in expected for left in spellings(word, 2 if len(word) >= 6 else 1)]
    assert sorted(kept) == sorted([*spelled_as, ("12b", "12b")])
    assert before == after


def everything(connection: Connection) -> set[str]:
    """Names of what is there beside tables."""
    names = "SELECT name FROM sqlite_master" if connection.dialect.name == "sqlite" else NAMES
    return set(connection.scalars(text(names)))


NAMES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


async def test_are_made_once_when_several_processes_start_at_once(url: str) -> None:
    program = f"import asyncio; from persistence.schema import upgrade; print(flush=True); asyncio.run(upgrade({url!r}))"
    async with held(url):
        started = [
            await create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stdout=PIPE, stderr=PIPE) for _ in range(PROCESSES)
        ]
        for process in started:
            assert process.stdout
            await process.stdout.readline()  # Then it waits for its turn, or is about to.
    async with asyncio.timeout(200):
        ended = [await process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, ended
    # The log's identity is made by a migration: one more would be there for each that made it again.
    assert await looked(url, lambda connection: connection.execute(text("SELECT count(*) FROM event_log")).scalar()) == 1


@asynccontextmanager
async def held(url: str) -> AsyncGenerator[None]:
    """The turn of a process that migrates."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    take = "BEGIN IMMEDIATE" if url.startswith("sqlite") else f"SELECT pg_advisory_lock({MIGRATION_LOCK})"
    async with engine.connect() as connection:
        await connection.exec_driver_sql(take)
        yield
    await engine.dispose()


async def test_trim_tags_that_were_kept_with_blanks_around_them(url: str) -> None:
    given = {" x": ["x"], "x": ["x"], "y \u3000": ["y"], "a b": ["a b"]}
    lists = [[tag] for tag in given] + [["x", " x", "y"], ["y ", "x"], []]

    def put(connection: Connection) -> None:
        table = reflected(connection).tables["items"]
        known = {column.name: _value(column.type) for column in table.columns if column.computed is None} | {"owner_id": None, "version": 7}
        connection.execute(table.insert(), [known | {"id": place, "tags": tags} for place, tags in enumerate(lists, 1)])

    def found(connection: Connection) -> list[tuple[Any, ...]]:
        table = reflected(connection).tables["items"]
        return [tuple(row) for row in connection.execute(select(table.c.tags, table.c.version).order_by(table.c.id))]

    await upgrade(url, "0005")
    await looked(url, put)
    await upgrade(url)
    assert await looked(url, found) == [(tags, 7) for tags in [*given.values(), ["x", "y"], ["y", "x"], []]]


async def test_leave_no_new_tags_for_readers_to_look_through(tmp_path: Path) -> None:
    """As an index of PostgreSQL does by itself, until autovacuum comes."""
    url = await databases.create_database(databases.postgres(), tmp_path.name)

    def pending_pages(connection: Connection) -> int | None:
        table = reflected(connection).tables["items"]
        known = {column.name: _value(column.type) for column in table.columns if column.computed is None} | {"owner_id": None}
        connection.execute(table.insert(), [known | {"id": id_, "tags": [f"tag {id_}"]} for id_ in range(1, 200)])
        return connection.scalar(text("SELECT gin_clean_pending_list('ix_items_tags_search')"))

    await upgrade(url)
    assert await looked(url, pending_pages) == 0


async def test_give_a_seller_to_the_purchases_of_a_process_that_knows_of_none(url: str) -> None:
    """One of an earlier version, which goes on while it is replaced."""

    def put(connection: Connection, purchase: int, item: int) -> None:
        table = reflected(connection).tables["purchases"]
        earlier = {column.name: _value(column.type) for column in table.columns if column.name != "seller_id"}
        connection.execute(table.insert(), [earlier | {"id": purchase, "item_id": item}])

    def found(connection: Connection) -> list[tuple[int, int | None]]:
        table = reflected(connection).tables["purchases"]
        return [tuple(row) for row in connection.execute(select(table.c.item_id, table.c.seller_id).order_by(table.c.id))]

    def without_owner(connection: Connection) -> None:
        table = reflected(connection).tables["items"]
        values = {column.name: _value(column.type) for column in table.columns if column.computed is None}
        connection.execute(table.insert(), [values | {"id": 2, "owner_id": None, "external_id": None}])

    await upgrade(url, "0014")
    await looked(url, fill)
    await looked(url, without_owner)
    await looked(url, partial(put, purchase=2, item=1))
    await upgrade(url)
    for purchase, item in ((3, 1), (4, 2)):
        await looked(url, partial(put, purchase=purchase, item=item))
    assert await looked(url, found) == [(1, 1), (1, 1), (1, 1), (2, None)]
