"""Tags without blanks around them: no filter would find the others any more."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from persistence.kit.column_types import Document

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROWS = 10_000
ITEMS = sa.table("items", sa.column("id", sa.BigInteger), sa.column("tags", Document))


def upgrade() -> None:
    connection, last = op.get_bind(), 0
    while rows := connection.execute(sa.select(ITEMS).where(ITEMS.c.id > last).order_by(ITEMS.c.id).limit(ROWS)).all():
        for id_, tags in rows:
            if (trimmed := _trimmed(tags)) != tags:
                connection.execute(sa.update(ITEMS).where(ITEMS.c.id == id_).values(tags=trimmed))
        last = rows[-1].id


def downgrade() -> None:
    """The blanks are gone; former versions take tags without them, too."""


def _trimmed(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(tag.strip() for tag in tags))
