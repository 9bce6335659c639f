"""Changes of single rows: lock one, refuse what must not happen to it, and set what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from persistence.kit.column_types import utc_now
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.errors import InvalidInput, NotFound, NotOwner, Problem, VersionConflict
from persistence.kit.parsing.validation import client_name
from persistence.kit.query.entity import Entity

R = TypeVar("R", bound=Base)


async def locked(
    work: UnitOfWork, entity: Entity[R], row_id: int, *, version: int | None = None, owner: tuple[str, int] | None = None
) -> R:
    """A row that has not left, for a change of it.

    `version` is the one that the caller has read; with `owner`, such as `("author_id", 7)`, the row must be that user's.

    Raises: NotFound, NotOwner, VersionConflict.
    """
    kind = entity.model.__name__.lower()
    row: Any = await work.session.get(entity.model, row_id, with_for_update=True)
    if row is None or (entity.gone is not None and getattr(row, entity.gone) is not None):
        raise NotFound(kind)
    if owner is not None and getattr(row, owner[0]) != owner[1]:
        raise NotOwner(kind)
    if version not in {None, row.version}:
        raise VersionConflict(row.version)
    return row


def refuse_null(entity: Entity[Any], changes: Mapping[str, Any]) -> None:
    """Raises: InvalidInput, for a null where the column must have a value: to keep one, it is left out."""
    emptied = [name for name, value in changes.items() if value is None and not entity.is_nullable(name)]
    if emptied:
        raise InvalidInput(*(Problem((client_name(name),), "must not be null: leave it out to keep the present value") for name in emptied))


def assign(row: Any, values: Mapping[str, Any]) -> list[str]:
    """Set what differs, and with it the next `version` and `updated_at`. The names of what differed."""
    changed = [name for name, value in values.items() if value != getattr(row, name)]
    for name in changed:
        setattr(row, name, values[name])
    if changed:
        row.version, row.updated_at = row.version + 1, utc_now()
    return changed
