"""Names of users whatever their case, search among them, logins with their tokens, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import Document, RowId, SortableText, UtcDateTime
from persistence.kit.search import tokenizer

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    extend_users()
    create_user_search()
    create_logins()
    op.create_table(
        "audit_entries",
        sa.Column("id", RowId, nullable=False),
        sa.Column("actor_id", RowId, nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=True),
        sa.Column("subject_id", RowId, nullable=True),
        sa.Column("detail", Document, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name="fk_audit_entries_actor_id"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
        sqlite_autoincrement=True,
    )


def extend_users() -> None:
    op.add_column("users", sa.Column("username_key", SortableText, nullable=True))
    op.add_column("users", sa.Column("search_words", sa.Text(), nullable=True))
    names = ("id", "username", "full_name", "email", "username_key", "search_words")
    users = sa.table("users", *(sa.column(name, sa.String()) for name in names))
    for id_, *texts in op.get_bind().execute(sa.select(users.c.id, users.c.username, users.c.full_name, users.c.email)).all():
        values = {"username_key": texts[0].lower(), "search_words": tokenizer.indexed(*texts)}
        op.execute(users.update().where(users.c.id == id_).values(values))
    with op.batch_alter_table("users") as table:
        table.alter_column("username_key", existing_type=SortableText, nullable=False)
        table.alter_column("search_words", existing_type=sa.Text(), nullable=False)
        table.drop_constraint("uq_users_username", type_="unique")
        table.create_unique_constraint("uq_users_username_key", ["username_key"])


def create_user_search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX ix_users_search ON users USING gin (array_to_tsvector(string_to_array(search_words, ' ')))")
        return
    op.execute(
        "CREATE VIRTUAL TABLE users_search"
        " USING fts5(search_words, content='users', content_rowid='id', prefix='2 3', columnsize=0, detail='column')"
    )
    op.execute("INSERT INTO users_search(users_search) VALUES ('rebuild')")
    forget = "INSERT INTO users_search(users_search, rowid, search_words) VALUES ('delete', old.id, old.search_words);"
    learn = "INSERT INTO users_search(rowid, search_words) VALUES (new.id, new.search_words);"
    op.execute(f"CREATE TRIGGER users_search_insert AFTER INSERT ON users BEGIN {learn} END")
    op.execute(f"CREATE TRIGGER users_search_delete AFTER DELETE ON users BEGIN {forget} END")
    op.execute(f"CREATE TRIGGER users_search_update AFTER UPDATE OF search_words ON users BEGIN {forget} {learn} END")


def create_logins() -> None:
    op.create_table(
        "logins",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", RowId, nullable=False),
        sa.Column("scopes", Document, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_logins_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_logins"),
    )
    op.create_index("ix_logins_user_id", "logins", ["user_id"])
    op.create_index("ix_logins_expires_at", "logins", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("login_id", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["login_id"], ["logins.id"], name="fk_refresh_tokens_login_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_refresh_tokens"),
    )
    op.create_index("ix_refresh_tokens_login_id", "refresh_tokens", ["login_id"])
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name="pk_revoked_tokens"),
    )
    op.create_index("ix_revoked_tokens_expires_at", "revoked_tokens", ["expires_at"])


def downgrade() -> None:
    for table in ("audit_entries", "revoked_tokens", "refresh_tokens", "logins"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "sqlite":
        for name in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER users_search_{name}")
        op.execute("DROP TABLE users_search")
    else:
        op.execute("DROP INDEX ix_users_search")
    with op.batch_alter_table("users") as table:
        table.drop_constraint("uq_users_username_key", type_="unique")
        table.create_unique_constraint("uq_users_username", ["username"])
        table.drop_column("username_key")
        table.drop_column("search_words")
