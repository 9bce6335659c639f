"""Sellers of purchases that a process of an earlier version makes while it is replaced: it knows no such column, so the database fills it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

MISSED = """
UPDATE purchases SET seller_id = (SELECT owner_id FROM items WHERE items.id = purchases.item_id)
WHERE seller_id IS NULL AND item_id IN (SELECT id FROM items WHERE owner_id IS NOT NULL)
"""
SQLITE = """
CREATE TRIGGER purchases_seller AFTER INSERT ON purchases
WHEN new.seller_id IS NULL AND EXISTS (SELECT 1 FROM items WHERE id = new.item_id AND owner_id IS NOT NULL) BEGIN
    UPDATE purchases SET seller_id = (SELECT owner_id FROM items WHERE id = new.item_id) WHERE id = new.id;
END
"""
FUNCTION = """
CREATE FUNCTION purchases_seller() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    new.seller_id := (SELECT owner_id FROM items WHERE id = new.item_id);
    RETURN new;
END $$
"""
TRIGGER = "CREATE TRIGGER purchases_seller BEFORE INSERT ON purchases FOR EACH ROW WHEN (new.seller_id IS NULL) EXECUTE FUNCTION purchases_seller()"


def upgrade() -> None:
    for statement in (SQLITE,) if _is_sqlite() else (FUNCTION, TRIGGER):
        op.execute(statement)
    op.execute(sa.text(MISSED))


def downgrade() -> None:
    op.execute("DROP TRIGGER purchases_seller" if _is_sqlite() else "DROP FUNCTION purchases_seller CASCADE")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
