"""A page of a list as the database wrote it: the JSON of each row, and what cursors are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from persistence.kit.json_rows.row_json import Field
from persistence.kit.query.entity import Entity, ListQuery
from persistence.kit.query.paging import OrderedQuery


@dataclass(frozen=True)
class RowForm:
    """What is read of each row: texts, in this order, and its place in the list, where cursors are asked for; and how many rows the list has."""

    entity: Entity[Any]
    texts: tuple[Field, ...]
    cursors: bool = False
    total: bool = False


@dataclass(slots=True)
class JsonPage:
    """The texts of each row, column by column; and of its sort key and id, where cursors are asked for."""

    columns: Sequence[Sequence[bytes]]
    listing: OrderedQuery[Any]
    has_next: bool
    has_previous: bool
    total: int = 0
    """Of the whole list, where that is asked for."""
    query: ListQuery | None = None
    """The list, where it is a whole one."""
    spliced: Sequence[Any] = ()
    """What was made in Python for the page, or for each of its rows, by its number."""
    _cursors: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    def cursor(self, place: int) -> bytes:
        """Of one row, as JSON: often only those of a page's ends are asked for."""
        if self._cursors is not None:
            return self._cursors[place]
        [cursor] = self.listing.cursors_at([(column[place],) for column in self._place])
        return cursor

    @property
    def cursors(self) -> Sequence[bytes]:
        """Of all rows, as JSON."""
        if self._cursors is None:  # A page without rows may be of no list: `ConnectionPlan.empty`.
            self._cursors = self.listing.cursors_at(self._place) if len(self) else ()
        return self._cursors

    @property
    def _place(self) -> Sequence[Sequence[bytes]]:
        return self.columns[-1 - len(self.listing.key_attributes) :]
