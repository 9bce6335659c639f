"""Who still uses what is deprecated, and sales in order of time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deprecated_uses",
        sa.Column("coordinate", sa.String(), nullable=False),
        sa.Column("client_name", sa.String(), nullable=False),
        sa.Column("client_version", sa.String(), nullable=False),
        sa.Column("used_on", sa.Date(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("coordinate", "client_name", "client_version", "used_on", name="pk_deprecated_uses"),
    )
    op.create_index("ix_purchases_created_at", "purchases", ["created_at"])


def downgrade() -> None:
    op.drop_index("ix_purchases_created_at", "purchases")
    op.drop_table("deprecated_uses")
