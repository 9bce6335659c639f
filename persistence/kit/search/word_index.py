"""The index of a table's words, and migrations that make it: `scripts/migrate new` writes one for each table with a column `search_words` and without it.

SQLite's is a virtual table of FTS5 that triggers keep, PostgreSQL's is on an expression, and Alembic compares neither.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import text

from persistence.kit.search.generated_migrations import TablePart, generate

COLUMN = "search_words"


def create_word_index(table: str) -> None:
    """With what is in the table by now."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE INDEX ix_{table}_search ON {table} USING gin (array_to_tsvector(string_to_array({COLUMN}, ' ')))")
        return
    # Its other tokenizers part words where Unicode 6.1 has no letter; those of the column are parted by nothing but spaces.
    options = f"content='{table}', content_rowid='id', prefix='2 3', columnsize=0, detail='column', tokenize='ascii'"
    op.execute(f"CREATE VIRTUAL TABLE {table}_search USING fts5({COLUMN}, {options})")
    op.execute(f"INSERT INTO {table}_search({table}_search) VALUES ('rebuild')")  # noqa: S608 -- a table's name
    forget = f"INSERT INTO {table}_search({table}_search, rowid, {COLUMN}) VALUES ('delete', old.id, old.{COLUMN});"  # noqa: S608
    learn = f"INSERT INTO {table}_search(rowid, {COLUMN}) VALUES (new.id, new.{COLUMN});"  # noqa: S608
    op.execute(f"CREATE TRIGGER {table}_search_insert AFTER INSERT ON {table} BEGIN {learn} END")
    op.execute(f"CREATE TRIGGER {table}_search_delete AFTER DELETE ON {table} BEGIN {forget} END")
    op.execute(f"CREATE TRIGGER {table}_search_update AFTER UPDATE OF {COLUMN} ON {table} BEGIN {forget} {learn} END")


def drop_word_index(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP INDEX ix_{table}_search")
        return
    for change in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER {table}_search_{change}")
    op.execute(f"DROP TABLE {table}_search")


def _is_there(connection: Any, table: str) -> bool:
    if connection.dialect.name == "postgresql":
        return connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"ix_{table}_search"}) is not None
    return connection.scalar(text("SELECT 1 FROM sqlite_master WHERE name = :name"), {"name": f"{table}_search"}) is not None


generate(TablePart("word_index", __name__, lambda table: COLUMN in table.columns, _is_there))
