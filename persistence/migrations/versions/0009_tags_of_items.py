"""Items by their tags on SQLite, which has no index of what is in JSON; PostgreSQL has had one from the start."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FORGET = "DELETE FROM items_tags_search WHERE item_id = old.id AND tag IN (SELECT value FROM json_each(old.tags));"
LEARN = "INSERT OR IGNORE INTO items_tags_search(tag, item_id) SELECT value, new.id FROM json_each(new.tags);"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("CREATE TABLE items_tags_search (tag TEXT NOT NULL, item_id INTEGER NOT NULL, PRIMARY KEY (tag, item_id)) WITHOUT ROWID")
    op.execute("INSERT OR IGNORE INTO items_tags_search(tag, item_id) SELECT tag.value, items.id FROM items, json_each(items.tags) AS tag")
    op.execute(f"CREATE TRIGGER items_tags_search_insert AFTER INSERT ON items BEGIN {LEARN} END")
    op.execute(f"CREATE TRIGGER items_tags_search_delete AFTER DELETE ON items BEGIN {FORGET} END")
    op.execute(f"CREATE TRIGGER items_tags_search_update AFTER UPDATE OF tags ON items BEGIN {FORGET} {LEARN} END")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for event in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER items_tags_search_{event}")
        op.execute("DROP TABLE items_tags_search")
