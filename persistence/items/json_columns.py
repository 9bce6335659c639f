"""Items, and their owners within them, as JSON that the database writes: the statements for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Select

from persistence.items.table import Item
from persistence.kit.database.database import Database
from persistence.kit.database.statement_executor import Prepared, prepare
from persistence.kit.query.json_object import Field, Value, Written, columns, expression, gathered
from persistence.users import User

COLUMNS: Mapping[str, Any] = {
    "id": Item.id,
    "name": Item.name,
    "description": Item.description,
    "price": Item.price,
    "tags": Item.tags,
    "inventory": Item.inventory,
    "in_stock": Item.in_stock,
    "version": Item.version,
    "created_at": Item.created_at,
    "updated_at": Item.updated_at,
    "owner.id": User.id,
    "owner.username": User.username,
    "owner.full_name": User.full_name,
    "owner.created_at": User.created_at,
}
ID = Value("id")


class ItemJson:
    """For either database; they are to be asked of what `raw` gives at the time."""

    def __init__(self, database: Database) -> None:
        self.raw = database.raw
        self._dialect = database.raw_dialect
        self.sqlite = database.dialect == "sqlite"

    def prepared(self, statement: Select[Any]) -> Prepared:
        return prepare(statement, self._dialect)

    def gathered(self, statement: Select[Any], fields: Sequence[Field]) -> Select[Any]:
        """A statement for items becomes one row, whose columns hold a line of JSON for each item."""
        shown = [expression(each, COLUMNS, sqlite=self.sqlite).label(f"json_{place}") for place, each in enumerate(fields)]
        # Texts of columns do not say from which table they come, and a list that nothing is in has no condition that would.
        statement = cast("Select[Any]", statement.with_only_columns(*shown).select_from(Item))
        if any(name.startswith("owner.") for each in fields if isinstance(each, Written) for name in columns(each)):
            statement = statement.outerjoin_from(Item, User, Item.owner_id == User.id)
        return gathered(statement, sqlite=self.sqlite)
