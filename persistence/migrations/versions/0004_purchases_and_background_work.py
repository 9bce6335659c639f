"""Purchases, background work, and what the event log says about itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import Document, Money, RowId, UtcDateTime
from persistence.kit.events.log import new_identity

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    log = op.create_table(
        "event_log",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("pruned_through", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("identity", name="pk_event_log"),
    )
    op.bulk_insert(log, [{"identity": new_identity(), "pruned_through": 0}])
    if op.get_bind().dialect.name == "postgresql":
        # CASE fixes the order: the transaction has its number before it draws an id. The watermark of the log depends on it.
        op.execute(
            "ALTER TABLE events ALTER COLUMN id SET DEFAULT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('events_id_seq') END"
        )
    op.create_table(
        "purchases",
        sa.Column("id", RowId, nullable=False),
        sa.Column("item_id", RowId, nullable=False),
        sa.Column("buyer_id", RowId, nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price_cents", Money(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name="fk_purchases_item_id"),
        sa.ForeignKeyConstraint(["buyer_id"], ["users.id"], name="fk_purchases_buyer_id"),
        sa.PrimaryKeyConstraint("id", name="pk_purchases"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_purchases_buyer_id", "purchases", ["buyer_id", "id"])
    op.create_table(
        "jobs",
        sa.Column("id", RowId, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("data", Document, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("parked_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("key", name="uq_jobs_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_due_at", "jobs", ["due_at"])


def downgrade() -> None:
    for table in ("jobs", "purchases"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE events ALTER COLUMN id SET DEFAULT nextval('events_id_seq')")
    op.drop_table("event_log")
