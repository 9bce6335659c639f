"""Words of every script: those that rows are found by are made again, and SQLite parts them by nothing but spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import RowId
from persistence.kit.search import tokenizer

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXTS = {"items": ("name", "description"), "users": ("username", "full_name", "email")}
BATCH = 1_000  # Rows in memory: 10 MB, if all have the longest description.


def upgrade() -> None:
    for table, texts in TEXTS.items():
        if op.get_bind().dialect.name == "sqlite":
            drop_index(table)
            make_words(table, texts)
            # Its other tokenizers part words where Unicode 6.1 has no letter: at vowel signs, joiners and later scripts.
            create_index(table, ", tokenize='ascii'")
        else:
            make_words(table, texts)


def make_words(name: str, texts: Sequence[str]) -> None:
    """Write the rows whose words are others now; most texts in the Latin alphabet keep theirs."""
    connection = op.get_bind()
    table = sa.table(name, sa.column("id", RowId), *(sa.column(column, sa.Text()) for column in ("search_words", *texts)))
    rows = sa.select(table.c.id, table.c.search_words, *(table.c[text] for text in texts)).order_by(table.c.id).limit(BATCH)
    write = table.update().where(table.c.id == sa.bindparam("row")).values(search_words=sa.bindparam("words"))
    batch: list[Any] = [*connection.execute(rows)]
    while batch:
        changed = [{"row": row[0], "words": words} for row in batch if (words := tokenizer.indexed(*row[2:])) != row[1]]
        if changed:
            connection.execute(write, changed)
        batch = [*connection.execute(rows.where(table.c.id > batch[-1].id))]


def drop_index(table: str) -> None:
    for change in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER {table}_search_{change}")
    op.execute(f"DROP TABLE {table}_search")


def create_index(table: str, more: str = "") -> None:
    op.execute(
        f"CREATE VIRTUAL TABLE {table}_search"
        f" USING fts5(search_words, content='{table}', content_rowid='id', prefix='2 3', columnsize=0, detail='column'{more})"
    )
    op.execute(f"INSERT INTO {table}_search({table}_search) VALUES ('rebuild')")  # noqa: S608 -- of TEXTS
    forget = f"INSERT INTO {table}_search({table}_search, rowid, search_words) VALUES ('delete', old.id, old.search_words);"  # noqa: S608
    learn = f"INSERT INTO {table}_search(rowid, search_words) VALUES (new.id, new.search_words);"  # noqa: S608
    op.execute(f"CREATE TRIGGER {table}_search_insert AFTER INSERT ON {table} BEGIN {learn} END")
    op.execute(f"CREATE TRIGGER {table}_search_delete AFTER DELETE ON {table} BEGIN {forget} END")
    op.execute(f"CREATE TRIGGER {table}_search_update AFTER UPDATE OF search_words ON {table} BEGIN {forget} {learn} END")


def downgrade() -> None:
    """The words stay: an earlier version finds by them what it would have found, but for scripts whose words it parted otherwise."""
    if op.get_bind().dialect.name == "sqlite":
        for table in TEXTS:
            drop_index(table)
            create_index(table)
