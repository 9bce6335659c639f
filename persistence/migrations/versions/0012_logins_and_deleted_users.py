"""Which program used a login last, and when; users whose accounts are erased; events of files without the files' names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable, as the version before writes logins without them.
    op.add_column("logins", sa.Column("client", sa.Text(), nullable=True))
    op.add_column("logins", sa.Column("last_used_at", UtcDateTime(), nullable=True))
    newest = "SELECT max(refresh_tokens.created_at) FROM refresh_tokens WHERE refresh_tokens.login_id = logins.id"
    op.execute(f"UPDATE logins SET last_used_at = coalesce(({newest}), created_at)")  # noqa: S608
    op.add_column("users", sa.Column("deleted_at", UtcDateTime(), nullable=True))
    op.execute("UPDATE events SET data = '{}' WHERE kind IN ('file.added', 'file.deleted')")


def downgrade() -> None:
    op.drop_column("users", "deleted_at")
    op.drop_column("logins", "last_used_at")
    op.drop_column("logins", "client")
