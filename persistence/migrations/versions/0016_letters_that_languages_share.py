"""Letters that languages of one script have each their own of are one in words, as are the final letters of Hebrew, and katakana and hiragana.

The words of rows that have such letters are made again, a batch at a time in one transaction: 15 s of a million rows that have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import RowId
from persistence.kit.search import tokenizer

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TEXTS = {"items": ("name", "description"), "users": ("username", "full_name", "email")}
BATCH = 1_000  # Rows in memory: 10 MB, if all have the longest description.


def upgrade() -> None:
    for table, texts in TEXTS.items():
        make_words(table, texts)


def make_words(name: str, texts: Sequence[str]) -> None:
    """Triggers bring SQLite's index and the table of near words in step. An erased user has no words and gets none."""
    connection = op.get_bind()
    table = sa.table(name, sa.column("id", RowId), *(sa.column(column, sa.Text()) for column in ("search_words", *texts)))
    rows = sa.select(table.c.id, table.c.search_words, *(table.c[text] for text in texts)).order_by(table.c.id).limit(BATCH)
    write = table.update().where(table.c.id == sa.bindparam("row")).values(search_words=sa.bindparam("words"))
    batch: Sequence[Any] = connection.execute(rows).all()
    while batch:
        others = [row for row in batch if row.search_words and not all(text.isascii() for text in row[2:] if text)]
        made = [(row.id, row.search_words, words_of(name, row[2:])) for row in others]
        if changed := [{"row": id_, "words": words} for id_, before, words in made if words != before]:
            connection.execute(write, changed)
        batch = connection.execute(rows.where(table.c.id > batch[-1].id)).all()


def words_of(table: str, texts: Sequence[str | None]) -> str:
    words = tokenizer.indexed(*texts)
    return tokenizer.marked(words, tokenizer.indexed(texts[0])) if table == "items" else words


def downgrade() -> None:
    """The words stay: an earlier version does not find those that have such letters until it writes their rows."""
