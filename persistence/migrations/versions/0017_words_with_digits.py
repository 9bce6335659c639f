"""The table of near words has words with digits too, as they are, so that it has every word from three letters on.

With all of them at hand, PostgreSQL looks up the few words that begin as one that was typed. By its beginning it collects all rows of each before it compares
them with those of another word, which took 55 ms where two words are in a sixth of a million items each.
"""

from __future__ import annotations

from itertools import combinations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

HEAD = 7
# Which letters of a word's first seven are missing, as two places; 98 and 99 are beyond all of them.
PLACES = (1, 2, 3, 4, 5, 6, 7, 98, 99)
GAPS = [(one, other) for one, other in combinations(PLACES, 2) if other != 98]
LEFT = "substr(head, 1, one - 1) || substr(head, one + 1, other - one - 1) || substr(head, other + 1)"
FITS = "(one > 90 OR one <= length(head)) AND (other > 90 OR (other <= length(head) AND length(word) >= 6))"
LETTERS = "length(word) >= 3 AND {no_digit}({code} < 3584 OR {code} BETWEEN 4256 AND 6015) AND {code} <> 183"  # The mark is no letter.
MOST = 8  # Words that are looked up for the beginning of one.


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        learn_sqlite(digits=True)
        return
    op.execute("LOCK TABLE items IN SHARE ROW EXCLUSIVE MODE")  # What is written meanwhile waits, and is learned as it is now.
    learn_postgresql(digits=True)
    op.execute(
        "SELECT items_learn_words(ARRAY(SELECT DISTINCT word FROM items, unnest(string_to_array(search_words, ' ')) AS word WHERE word ~ '[0-9]'))"
    )
    op.execute("ANALYZE items_spellings")
    op.execute(TSQUERY)


def learn_sqlite(*, digits: bool) -> None:
    no_digit = "word NOT GLOB '*[0-9]*'"
    letters = LETTERS.format(no_digit="" if digits else f"{no_digit} AND ", code="unicode(word)")
    fits = f"{FITS} AND (one = 98 OR {no_digit})" if digits else FITS
    gaps = " UNION ALL ".join(f"SELECT {one} AS one, {other} AS other" for one, other in GAPS)

    def spell(words: str, source: str) -> str:
        """Insert the spellings of those words that are not known, out of a text of words."""
        parted = f"""json_each('["' || replace({words}, ' ', '","') || '"]')"""
        each = f"SELECT DISTINCT value AS word, substr(value, 1, {HEAD}) AS head FROM {source}{parted}"  # noqa: S608 -- of this file
        known = "EXISTS (SELECT 1 FROM items_spellings AS known WHERE known.spelling = head AND known.word = fresh.word)"
        found = f"SELECT word, head FROM ({each}) AS fresh WHERE {letters} AND NOT {known}"  # noqa: S608 -- of this file
        return f"INSERT INTO items_spellings (spelling, word) SELECT DISTINCT {LEFT}, word FROM ({found}) JOIN ({gaps}) ON {fits}"  # noqa: S608 -- of this file

    for event in ("insert", "update"):
        op.execute(f"DROP TRIGGER items_spellings_{event}")
    if digits:
        op.execute(spell("items.search_words", "items, "))
    added = spell("new.search_words", "")
    op.execute(f"CREATE TRIGGER items_spellings_insert AFTER INSERT ON items BEGIN {added}; END")
    op.execute(f"CREATE TRIGGER items_spellings_update AFTER UPDATE OF search_words ON items BEGIN {added}; END")


def learn_postgresql(*, digits: bool) -> None:
    no_digit = "word !~ '[0-9]'"
    letters = LETTERS.format(no_digit="" if digits else f"{no_digit} AND ", code="ascii(word)")
    fits = f"{FITS} AND (one = 98 OR {no_digit})" if digits else FITS
    gaps = ", ".join(f"({one}, {other})" for one, other in GAPS)
    known = "EXISTS (SELECT 1 FROM items_spellings AS known WHERE known.spelling = left(fresh.word, 7) AND known.word = fresh.word)"
    op.execute(f"""
CREATE OR REPLACE FUNCTION items_learn_words(words text[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO items_spellings (spelling, word)
  SELECT DISTINCT {LEFT}, word
  FROM (SELECT word, left(word, {HEAD}) AS head FROM (SELECT DISTINCT unnest(words) AS word) AS fresh WHERE {letters} AND NOT {known}) AS heads
  JOIN (VALUES {gaps}) AS gap(one, other) ON {fits}
$$""")  # noqa: S608 -- of this file


# Of a query such as `('kettle':*) & ('l':*) & ('pan':+)`: words that begin so, if they are few, in place of the beginning; with `+`, only those that are longer.
# Shorter than two letters, it may begin words that are not in the table. It is called immutable, which it is but for the table, so that
# the planner works it out once and knows how many rows its words are in: each statement is planned as it is executed.
TSQUERY = f"""
CREATE FUNCTION items_tsquery(typed text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  each record;
  ways text[];
BEGIN
  FOR each IN SELECT DISTINCT match[1] AS term, match[2] AS mark, match[3] AS beginning, match[4] AS kind
      FROM regexp_matches(typed, '(''(·?)([^'']+)'':([*+]))', 'g') AS match LOOP
    SELECT array_agg(word) INTO ways FROM (
      SELECT word FROM items_spellings
      WHERE spelling >= left(each.beginning, {HEAD}) AND spelling < left(each.beginning, {HEAD}) || chr(1114111)
        AND spelling = left(word, {HEAD}) AND starts_with(word, each.beginning) AND (each.kind = '*' OR word <> each.beginning)
      LIMIT {MOST + 1}) AS few;
    IF length(each.beginning) < 2 OR cardinality(ways) > {MOST}
        OR NOT (ascii(each.beginning) < 3584 OR ascii(each.beginning) BETWEEN 4256 AND 6015) THEN
      typed := replace(typed, each.term, '''' || each.mark || each.beginning || ''':*');
    ELSE
      IF each.kind = '*' THEN
        ways := array_append(ways, each.beginning);
      END IF;
      SELECT replace(typed, each.term, '(' || coalesce(string_agg(DISTINCT '''' || each.mark || word || '''', ' | '), '''·''') || ')')
        INTO typed FROM unnest(ways) AS word;
    END IF;
  END LOOP;
  RETURN typed::tsquery;
END $$"""  # noqa: S608 -- of this file


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        learn_sqlite(digits=False)
        op.execute("DELETE FROM items_spellings WHERE word GLOB '*[0-9]*'")
        return
    op.execute("DROP FUNCTION items_tsquery")
    learn_postgresql(digits=False)
    op.execute("DELETE FROM items_spellings WHERE word ~ '[0-9]'")
