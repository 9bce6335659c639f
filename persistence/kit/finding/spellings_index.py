"""The triggers that keep the spellings of a table's words (`near_words`): `scripts/migrate new` writes them for each table that has spellings and no triggers.

Words are never forgotten: one that no row has any more leads to a guess that finds nothing. A word that is known is not spelled again.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from alembic import op
from sqlalchemy import text

from persistence.kit.finding.near_words import HEAD, SUFFIX
from persistence.kit.search.generated_migrations import TablePart, generate
from persistence.kit.search.word_index import COLUMN

# Which letters of a word's first seven are missing, as two places; 98 and 99 are beyond all of them.
_PLACES = (*range(1, HEAD + 1), 98, 99)
_GAPS = [(one, other) for one, other in combinations(_PLACES, 2) if other != 98]
_LEFT = "substr(head, 1, one - 1) || substr(head, one + 1, other - one - 1) || substr(head, other + 1)"
# Of words with six letters or more two may be missing: they may be meant by a word of eight, which may have two errors.
# Words with digits are there as they are only.
_FITS = "(one > 90 OR one <= length(head)) AND (other > 90 OR (other <= length(head) AND length(word) >= 6)) AND (one = 98 OR {no_digit})"
# Of scripts that put spaces between words, as `near_words.SPACED` has them. The mark of words of a row's first text (183) is no letter.
_LETTERS = "length(word) >= 3 AND ({code} < 3584 OR {code} BETWEEN 4256 AND 6015) AND {code} <> 183"
_MOST = 8  # Words that are looked up for the beginning of one.


def create_spellings(table: str) -> None:
    """With the words that are in the table by now."""
    if op.get_bind().dialect.name == "postgresql":
        _create_postgresql(table)
    else:
        _create_sqlite(table)


def drop_spellings(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for event in ("insert", "update"):
            op.execute(f"DROP TRIGGER {table}_spellings_{event} ON {table}")
            op.execute(f"DROP FUNCTION {table}_spellings_{event}")
        op.execute(f"DROP FUNCTION {table}_learn_words")
        op.execute(f"DROP FUNCTION {table}_tsquery")
        return
    for event in ("insert", "update"):
        op.execute(f"DROP TRIGGER {table}_spellings_{event}")


def _create_sqlite(table: str) -> None:
    op.execute(_spell_sqlite(table, f"{table}.{COLUMN}", f"{table}, "))
    added = _spell_sqlite(table, f"new.{COLUMN}", "")
    op.execute(f"CREATE TRIGGER {table}_spellings_insert AFTER INSERT ON {table} BEGIN {added}; END")
    op.execute(f"CREATE TRIGGER {table}_spellings_update AFTER UPDATE OF {COLUMN} ON {table} BEGIN {added}; END")


def _spell_sqlite(table: str, words: str, source: str) -> str:
    """Insert the spellings of those words that are not known, out of a text of words."""
    letters, fits = _LETTERS.format(code="unicode(word)"), _FITS.format(no_digit="word NOT GLOB '*[0-9]*'")
    gaps = " UNION ALL ".join(f"SELECT {one} AS one, {other} AS other" for one, other in _GAPS)
    parted = f"""json_each('["' || replace({words}, ' ', '","') || '"]')"""
    each = f"SELECT DISTINCT value AS word, substr(value, 1, {HEAD}) AS head FROM {source}{parted}"  # noqa: S608 -- a table's name
    found = f"SELECT word, head FROM ({each}) AS fresh WHERE {letters} AND NOT {_known(table, 'head')}"  # noqa: S608 -- a table's name
    return f"INSERT INTO {table}{SUFFIX} (spelling, word) SELECT DISTINCT {_LEFT}, word FROM ({found}) JOIN ({gaps}) ON {fits}"  # noqa: S608 -- a table's name


def _known(table: str, head: str) -> str:
    same = f"known.spelling = {head} AND known.word = fresh.word"
    return f"EXISTS (SELECT 1 FROM {table}{SUFFIX} AS known WHERE {same})"  # noqa: S608 -- a table's name


def _create_postgresql(table: str) -> None:
    letters, fits = _LETTERS.format(code="ascii(word)"), _FITS.format(no_digit="word !~ '[0-9]'")
    known = _known(table, f"left(fresh.word, {HEAD})")
    gaps = ", ".join(f"({one}, {other})" for one, other in _GAPS)
    op.execute(f"""
CREATE FUNCTION {table}_learn_words(words text[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO {table}{SUFFIX} (spelling, word)
  SELECT DISTINCT {_LEFT}, word
  FROM (SELECT word, left(word, {HEAD}) AS head FROM (SELECT DISTINCT unnest(words) AS word) AS fresh WHERE {letters} AND NOT {known}) AS heads
  JOIN (VALUES {gaps}) AS gap(one, other) ON {fits}
$$""")  # noqa: S608 -- a table's name
    # Rows that come together are looked at together; one that changes, only if its words do: most changes are of something else.
    _trigger(
        table,
        "insert",
        f"ARRAY(SELECT DISTINCT unnest(string_to_array({COLUMN}, ' ')) FROM added)",  # noqa: S608 -- a column's name
        f"AFTER INSERT ON {table} REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
    )
    _trigger(
        table,
        "update",
        f"string_to_array(NEW.{COLUMN}, ' ')",
        f"AFTER UPDATE OF {COLUMN} ON {table} FOR EACH ROW WHEN (OLD.{COLUMN} IS DISTINCT FROM NEW.{COLUMN})",
    )
    op.execute(f"SELECT {table}_learn_words(ARRAY(SELECT DISTINCT unnest(string_to_array({COLUMN}, ' ')) FROM {table}))")  # noqa: S608 -- a table's name
    op.execute(_tsquery(table))


def _trigger(table: str, event: str, words: str, when: str) -> None:
    body = f"BEGIN PERFORM {table}_learn_words({words}); RETURN NULL; END"
    op.execute(f"CREATE FUNCTION {table}_spellings_{event}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    op.execute(f"CREATE TRIGGER {table}_spellings_{event} {when} EXECUTE FUNCTION {table}_spellings_{event}()")


def _tsquery(table: str) -> str:
    # Of a query such as `('kettle':*) & ('l':*) & ('pan':+)`: words that begin so, if they are few, in place of the beginning; with `+`, only those that are longer.
    # Shorter than two letters, it may begin words that are not in the table. It is called immutable, which it is but for the table, so that
    # the planner works it out once and knows how many rows its words are in: each statement is planned as it is executed.
    return f"""
CREATE FUNCTION {table}_tsquery(typed text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  each record;
  ways text[];
BEGIN
  FOR each IN SELECT DISTINCT match[1] AS term, match[2] AS mark, match[3] AS beginning, match[4] AS kind
      FROM regexp_matches(typed, '(''(·?)([^'']+)'':([*+]))', 'g') AS match LOOP
    SELECT array_agg(word) INTO ways FROM (
      SELECT word FROM {table}{SUFFIX}
      WHERE spelling >= left(each.beginning, {HEAD}) AND spelling < left(each.beginning, {HEAD}) || chr(1114111)
        AND spelling = left(word, {HEAD}) AND starts_with(word, each.beginning) AND (each.kind = '*' OR word <> each.beginning)
      LIMIT {_MOST + 1}) AS few;
    IF length(each.beginning) < 2 OR cardinality(ways) > {_MOST}
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
END $$"""  # noqa: S608 -- a table's name


def _belongs_to(table: Any) -> bool:
    return f"{table.name}{SUFFIX}" in table.metadata.tables


def _is_there(connection: Any, table: str) -> bool:
    catalogue = "pg_trigger WHERE tgname" if connection.dialect.name == "postgresql" else "sqlite_master WHERE type = 'trigger' AND name"
    return connection.scalar(text(f"SELECT 1 FROM {catalogue} = :name"), {"name": f"{table}_spellings_insert"}) is not None  # noqa: S608


generate(TablePart("spellings", __name__, _belongs_to, _is_there))
