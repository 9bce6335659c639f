"""External ids of items: unique among those that are not deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import SortableText

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.add_column("items", sa.Column("external_id", SortableText, nullable=True))
    op.create_index("ix_items_external_id", "items", ["external_id"], unique=True, sqlite_where=LIVE, postgresql_where=LIVE)


def downgrade() -> None:
    op.drop_index("ix_items_external_id", "items")
    op.drop_column("items", "external_id")
