"""Items, users, the event log and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import Document, Money, RowId, SortableText, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LIVE = sa.text("deleted_at IS NULL")
ITEM_INDEXES = {
    "name": ["name", "id"],
    "price": ["price_cents", "id"],
    "created_at": ["created_at", "id"],
    "inventory": ["inventory", "id"],
    "in_stock": ["in_stock", "id"],
    "owner_id": ["owner_id", "id"],
}


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", RowId, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_id", RowId, nullable=False),
        sa.Column("data", Document, nullable=False),
        sa.Column("occurred_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("answer", Document, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "users",
        sa.Column("id", RowId, nullable=False),
        sa.Column("username", SortableText, nullable=False),
        sa.Column("full_name", sa.String(), nullable=True),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("scopes", Document, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
    )
    create_items()
    create_item_search()


def create_items() -> None:
    op.create_table(
        "items",
        sa.Column("id", RowId, nullable=False),
        sa.Column("name", SortableText, nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("price_cents", Money(), nullable=False),
        sa.Column("tags", Document, nullable=False),
        sa.Column("inventory", sa.Integer(), nullable=False),
        sa.Column("in_stock", sa.Boolean(), sa.Computed("inventory > 0", persisted=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.Column("owner_id", RowId, nullable=True),
        sa.Column("search_words", sa.Text(), nullable=False),
        sa.CheckConstraint("inventory >= 0", name=op.f("ck_items_inventory_not_negative")),
        sa.CheckConstraint("price_cents >= 0", name=op.f("ck_items_price_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_items_owner_id"),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sqlite_autoincrement=True,
    )
    for name, columns in ITEM_INDEXES.items():
        op.create_index(f"ix_items_{name}", "items", columns, sqlite_where=LIVE, postgresql_where=LIVE)


def create_item_search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX ix_items_search ON items USING gin (array_to_tsvector(string_to_array(search_words, ' ')))")
        op.execute("CREATE INDEX ix_items_tags_search ON items USING gin (tags)")
        return
    op.execute(
        "CREATE VIRTUAL TABLE items_search"
        " USING fts5(search_words, content='items', content_rowid='id', prefix='2 3', columnsize=0, detail='column')"
    )
    forget = "INSERT INTO items_search(items_search, rowid, search_words) VALUES ('delete', old.id, old.search_words);"
    learn = "INSERT INTO items_search(rowid, search_words) VALUES (new.id, new.search_words);"
    op.execute(f"CREATE TRIGGER items_search_insert AFTER INSERT ON items BEGIN {learn} END")
    op.execute(f"CREATE TRIGGER items_search_delete AFTER DELETE ON items BEGIN {forget} END")
    op.execute(f"CREATE TRIGGER items_search_update AFTER UPDATE OF search_words ON items BEGIN {forget} {learn} END")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE items_search")
    for table in ("items", "users", "idempotency_keys", "events"):
        op.drop_table(table)
