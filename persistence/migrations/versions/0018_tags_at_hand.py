"""On PostgreSQL the index of tags takes each tag at once.

Otherwise new tags wait in a list, which every filter by tags reads through until autovacuum comes: after an import such filters took three times as long.
To add items takes as long as before in the end, as whoever finds the list full empties it.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX ix_items_tags_search SET (fastupdate = off)")
        op.execute("SELECT gin_clean_pending_list('ix_items_tags_search')")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX ix_items_tags_search RESET (fastupdate)")
