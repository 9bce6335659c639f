"""Near words: the spellings of the words that items have; and the words of their names once more with a mark, for the order by relevance.

All in one transaction, some minutes of a million rows: what is interrupted begins anew. The index of words is made anew, as changing each row in it takes longer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import RowId, SortableText
from persistence.kit.search import tokenizer

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BATCH = 2_000  # Rows in memory: 20 MB, if all have the longest description.
HEAD = 7
# Which letters of a word's first seven are missing, as two places; 98 and 99 are beyond all of them.
PLACES = (1, 2, 3, 4, 5, 6, 7, 98, 99)
GAPS = [(one, other) for one, other in combinations(PLACES, 2) if other != 98]
LEFT = "substr(head, 1, one - 1) || substr(head, one + 1, other - one - 1) || substr(head, other + 1)"
# Of words with six letters or more two may be missing: they may be meant by a word of eight, which may have two errors.
FITS = "(one > 90 OR one <= length(head)) AND (other > 90 OR (other <= length(head) AND length(word) >= 6))"
LETTERS = "length(word) >= 3 AND {no_digit} AND ({code} < 3584 OR {code} BETWEEN 4256 AND 6015) AND {code} <> 183"  # The mark is no letter.


def upgrade() -> None:
    op.create_table("items_spellings", sa.Column("spelling", SortableText, nullable=False), sa.Column("word", SortableText, nullable=False))
    op.create_index("ix_items_spellings", "items_spellings", ["spelling", "word"])
    if op.get_bind().dialect.name == "sqlite":
        mark_names_sqlite()
        learn_sqlite()
    else:
        mark_names_postgresql()
        learn_postgresql()


def mark_names_sqlite() -> None:
    forget = "INSERT INTO items_search(items_search, rowid, search_words) VALUES ('delete', old.id, old.search_words);"
    learn = "INSERT INTO items_search(rowid, search_words) VALUES (new.id, new.search_words);"
    op.execute("DROP TRIGGER items_search_update")
    mark_names(
        "UPDATE items SET search_words = json_extract(each.value, '$[1]') FROM json_each(:words) AS each WHERE items.id = json_extract(each.value, '$[0]')"
    )
    op.execute("INSERT INTO items_search(items_search) VALUES ('rebuild')")
    op.execute(f"CREATE TRIGGER items_search_update AFTER UPDATE OF search_words ON items BEGIN {forget} {learn} END")


def mark_names_postgresql() -> None:
    op.execute("DROP INDEX ix_items_search")
    new = "SELECT (value ->> 0)::bigint AS id, value ->> 1 AS words FROM json_array_elements(CAST(CAST(:words AS text) AS json)) AS each(value)"
    mark_names(f"UPDATE items SET search_words = new.words FROM ({new}) AS new WHERE items.id = new.id")  # noqa: S608 -- of this file
    op.execute("CREATE INDEX ix_items_search ON items USING gin (array_to_tsvector(string_to_array(search_words, ' ')))")


def mark_names(write: str) -> None:
    """Those of a row that has been marked, before a downgrade, are marked again."""
    connection = op.get_bind()
    table = sa.table("items", sa.column("id", RowId), sa.column("name", sa.Text()), sa.column("search_words", sa.Text()))
    rows = sa.select(table.c.id, table.c.name, table.c.search_words).order_by(table.c.id).limit(BATCH)
    batch: Sequence[Any] = connection.execute(rows).all()
    while batch:
        marked = [
            (row.id, tokenizer.marked(row.search_words.partition(" " + tokenizer.MARK)[0], tokenizer.indexed(row.name))) for row in batch
        ]
        connection.execute(sa.text(write), {"words": json.dumps(marked)})
        batch = connection.execute(rows.where(table.c.id > batch[-1].id)).all()


def learn_sqlite() -> None:
    letters = LETTERS.format(no_digit="word NOT GLOB '*[0-9]*'", code="unicode(word)")
    gaps = " UNION ALL ".join(f"SELECT {one} AS one, {other} AS other" for one, other in GAPS)

    def spell(words: str, source: str) -> str:
        """Insert the spellings of those words that are not known, out of a text of words."""
        parted = f"""json_each('["' || replace({words}, ' ', '","') || '"]')"""
        each = f"SELECT DISTINCT value AS word, substr(value, 1, {HEAD}) AS head FROM {source}{parted}"  # noqa: S608 -- of this file
        known = "EXISTS (SELECT 1 FROM items_spellings AS known WHERE known.spelling = head AND known.word = fresh.word)"
        found = f"SELECT word, head FROM ({each}) AS fresh WHERE {letters} AND NOT {known}"  # noqa: S608 -- of this file
        return f"INSERT INTO items_spellings (spelling, word) SELECT DISTINCT {LEFT}, word FROM ({found}) JOIN ({gaps}) ON {FITS}"  # noqa: S608 -- of this file

    op.execute(spell("items.search_words", "items, "))
    added = spell("new.search_words", "")
    op.execute(f"CREATE TRIGGER items_spellings_insert AFTER INSERT ON items BEGIN {added}; END")
    op.execute(f"CREATE TRIGGER items_spellings_update AFTER UPDATE OF search_words ON items BEGIN {added}; END")


def learn_postgresql() -> None:
    letters = LETTERS.format(no_digit="word !~ '[0-9]'", code="ascii(word)")
    gaps = ", ".join(f"({one}, {other})" for one, other in GAPS)
    known = "EXISTS (SELECT 1 FROM items_spellings AS known WHERE known.spelling = left(fresh.word, 7) AND known.word = fresh.word)"
    op.execute(f"""
CREATE FUNCTION items_learn_words(words text[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO items_spellings (spelling, word)
  SELECT DISTINCT {LEFT}, word
  FROM (SELECT word, left(word, {HEAD}) AS head FROM (SELECT DISTINCT unnest(words) AS word) AS fresh WHERE {letters} AND NOT {known}) AS heads
  JOIN (VALUES {gaps}) AS gap(one, other) ON {FITS}
$$""")  # noqa: S608 -- of this file
    op.execute("""
CREATE FUNCTION items_spellings_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM items_learn_words(ARRAY(SELECT DISTINCT unnest(string_to_array(search_words, ' ')) FROM added));
  RETURN NULL;
END $$""")
    op.execute("""
CREATE FUNCTION items_spellings_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM items_learn_words(string_to_array(NEW.search_words, ' '));
  RETURN NULL;
END $$""")
    op.execute("SELECT items_learn_words(ARRAY(SELECT DISTINCT unnest(string_to_array(search_words, ' ')) FROM items))")
    # Rows that come together are looked at together; one that changes, only if its words do: most changes are of stock.
    op.execute(
        "CREATE TRIGGER items_spellings_insert AFTER INSERT ON items REFERENCING NEW TABLE AS added"
        " FOR EACH STATEMENT EXECUTE FUNCTION items_spellings_insert()"
    )
    op.execute(
        "CREATE TRIGGER items_spellings_update AFTER UPDATE OF search_words ON items"
        " FOR EACH ROW WHEN (OLD.search_words IS DISTINCT FROM NEW.search_words) EXECUTE FUNCTION items_spellings_update()"
    )


def downgrade() -> None:
    """Marked words stay: nobody can type the mark."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("insert", "update"):
            op.execute(f"DROP TRIGGER items_spellings_{event}")
    else:
        for event in ("insert", "update"):
            op.execute(f"DROP TRIGGER items_spellings_{event} ON items")
            op.execute(f"DROP FUNCTION items_spellings_{event}")
        op.execute("DROP FUNCTION items_learn_words")
    op.drop_table("items_spellings")
