"""Words with apostrophes are whole, and text without spaces keeps all of its windows side by side: the words of such rows are made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import RowId
from persistence.kit.search import tokenizer

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXTS = {"items": ("name", "description"), "users": ("username", "full_name", "email")}
BATCH = 1_000  # Rows in memory: 10 MB, if all have the longest description.


def upgrade() -> None:
    for table, texts in TEXTS.items():
        make_words(table, texts)


def make_words(name: str, texts: Sequence[str]) -> None:
    """Write the rows whose words are others now; the triggers of SQLite's index follow."""
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


def downgrade() -> None:
    """The words stay: an earlier version finds by them what it would have found, but for the letters before an apostrophe and those after it."""
