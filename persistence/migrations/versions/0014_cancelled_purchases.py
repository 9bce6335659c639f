"""Purchases that can be cancelled, and lists of what somebody bought or sold: whose item it was stands with the purchase."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

OPEN = sa.text("status <> 'COMPLETED'")
# Of the earlier version first, then of this one.
EARLIER = {"buyer_id": ("buyer_id", "id"), "created_at": ("created_at",)}
INDEXES = {
    "buyer_id": ("buyer_id", "created_at", "id"),
    "seller_id": ("seller_id", "created_at", "id"),
    "item_id": ("item_id", "created_at", "id"),
    "created_at": ("created_at", "id"),
}


def upgrade() -> None:
    for name in EARLIER:
        op.drop_index(f"ix_purchases_{name}", "purchases")
    kind = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    # Alembic would make the whole table anew on SQLite to add a foreign key.
    op.execute(f"ALTER TABLE purchases ADD COLUMN seller_id {kind} CONSTRAINT fk_purchases_seller_id REFERENCES users (id)")
    op.execute("UPDATE purchases SET seller_id = (SELECT owner_id FROM items WHERE items.id = purchases.item_id)")
    for name, columns in INDEXES.items():
        op.create_index(f"ix_purchases_{name}", "purchases", columns)
    op.create_index("ix_purchases_status", "purchases", ["status", "created_at", "id"], sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade() -> None:
    """To the earlier version, which knows no other, what was cancelled is completed."""
    op.execute("UPDATE purchases SET status = 'COMPLETED' WHERE status = 'CANCELLED'")
    for name in ("status", *INDEXES):
        op.drop_index(f"ix_purchases_{name}", "purchases")
    op.drop_column("purchases", "seller_id")
    for name, columns in EARLIER.items():
        op.create_index(f"ix_purchases_{name}", "purchases", columns)
