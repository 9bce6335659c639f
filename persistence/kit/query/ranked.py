"""Lists by rank, then by id, whose every rank is a list of its own: a page is read rank by rank until it is full, mostly from the first.

One statement for all ranks could not leave those out that a page does not reach: SQLite writes out what a part of it refers to at each place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.query.paging import ID_BOUND, OrderedQuery, PageArguments
from persistence.kit.search.ordered_scan import Position

T = TypeVar("T")
SOME = 20  # Rows, to see whether there are any: for a single one PostgreSQL reads along the table, in the hope of meeting it soon.


@dataclass(frozen=True)
class RankedQuery(OrderedQuery[T]):
    """`ranks` has the rows of each rank, by id and in the list's direction; `by_id` all of them. `computed` is their cursors' too."""

    ranks: Sequence[OrderedQuery[Any]] = ()
    by_id: OrderedQuery[Any] | None = None

    def in_order(self, *, backward: bool) -> Sequence[int]:
        """The ranks as a page meets them."""
        ranks = range(len(self.ranks))
        return ranks[::-1] if self.descending != backward else ranks

    def unordered(self, columns: Sequence[Any], *, sqlite: bool) -> Select[Any]:
        return (self.by_id or super()).unordered(columns, sqlite=sqlite)

    async def rows(self, session: AsyncSession, window: PageArguments) -> Sequence[T]:
        ends = self.positions(window)
        found: list[T] = []
        for place, rank in enumerate(self.in_order(backward=window.backward)):
            if place == 1 and not found and await self._is_empty(session):
                break
            missing = window.size + 1 - len(found)
            if missing:
                after, before = (None if place is None else within(rank, place) for place in ends)
                rows = self.ranks[rank].selected(after, before, backward=window.backward, count=missing)
                found += (await session.scalars(rows)).all()
        return found

    async def _is_empty(self, session: AsyncSession) -> bool:
        """Most lists of which the first rank is empty are so: one more look spares three."""
        return self.by_id is not None and (await session.scalars(self.by_id.first_rows(SOME))).first() is None


def within(rank: int, place: Position) -> Position:
    """The place of a row of the whole list among those of one rank: between two of them, before all or after all."""
    other, id_ = place
    bound = id_ if other == rank else 0 if other < rank else ID_BOUND - 1
    return bound, bound
