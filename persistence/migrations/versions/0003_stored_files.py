"""Stored files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import RowId, SortableText, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stored_files",
        sa.Column("id", RowId, nullable=False),
        sa.Column("filename", SortableText, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("blob_key", sa.String(), nullable=False),
        sa.Column("owner_id", RowId, nullable=True),
        sa.Column("uploaded_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_stored_files_owner_id"),
        sa.PrimaryKeyConstraint("id", name="pk_stored_files"),
        sa.UniqueConstraint("filename", name="uq_stored_files_filename"),
        sa.UniqueConstraint("blob_key", name="uq_stored_files_blob_key"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("stored_files")
