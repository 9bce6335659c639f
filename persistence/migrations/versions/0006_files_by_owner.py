"""Files by owner, for what one user may store together."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_stored_files_owner_id", "stored_files", ["owner_id"])


def downgrade() -> None:
    op.drop_index("ix_stored_files_owner_id", "stored_files")
