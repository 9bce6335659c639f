"""Pages of items as JSON of just what a plan asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy.util import LRUCache

from persistence.items import listing as catalogue
from persistence.items.json_columns import ID, ItemJson
from persistence.items.listing import EVERYTHING, Filter, Order
from persistence.items.table import Item
from persistence.kit.database.statement_executor import RawReads, Row
from persistence.kit.query.batching import Gatherings
from persistence.kit.query.json_object import Field, Value, Written, lines
from persistence.kit.query.page_statement import Cut
from persistence.kit.query.paging import Listing, Window

PAGES_AT_ONCE = 16  # By one statement: 16 MB, if all are of the longest items.


@dataclass(frozen=True)
class Asked:
    """What a page's rows must hold: objects, in this order, and the place of each row in the list, where cursors are asked for."""

    objects: tuple[Written, ...]
    cursors: bool = False

    def fields(self, listing: Listing[Item]) -> Sequence[Field]:
        fields: list[Field] = [*self.objects, *((Value(listing.key.key), ID) if self.cursors else ())]
        return fields or [ID]  # Only the number of rows is asked for.


@dataclass(frozen=True)
class RowPage:
    """The JSON of each row: for each object asked for, and for its sort key and id, where cursors are."""

    columns: Sequence[Sequence[bytes]]
    listing: Listing[Item]
    has_next: bool
    has_previous: bool

    def __len__(self) -> int:
        return len(self.columns[0])

    def cursor(self, place: int) -> bytes:
        return self.listing.cursor_at(self.columns[-2][place], self.columns[-1][place])


class Pages:
    """Pages whose rows are asked for in one form."""

    def __init__(self, items: ItemJson, known: Known, asked: Asked) -> None:
        self._items, self._known, self._asked = items, known, asked

    async def page(self, filter_: Filter, order: Order, window: Window) -> RowPage:
        """Raises: InvalidInput."""
        window.check()
        filter_.check()
        form = (self, filter_.form, order, window.after is None, window.before is None, window.backward)
        known = self._known.get(form)
        if known is None:
            known = self._known[form] = self._made(filter_, order, window)
        listing = known.listing if filter_ == EVERYTHING else replace(known.listing, mark=catalogue.mark(filter_, order))
        row = await known.row(known.cut.values(listing, window), filter_.values)
        return _page([lines(column) for column in row], listing, window)

    def _made(self, filter_: Filter, order: Order, window: Window) -> _Alone | _Together:
        listing = catalogue.listing(filter_, order)
        make = _Together if filter_ == EVERYTHING and not self._items.sqlite else _Alone
        return make(self._items, listing, Cut(listing, window), self._asked.fields(listing))


class _Alone:
    """Pages one by one."""

    def __init__(self, items: ItemJson, listing: Listing[Item], cut: Cut[Item], fields: Sequence[Field]) -> None:
        self._raw, self.listing, self.cut = items.raw, listing, cut
        self._prepared = items.prepared(cut.alone(partial(items.gathered, fields=fields)))

    async def row(self, wanted: tuple[Any, ...], filter_: Mapping[str, Any]) -> Row:
        raw = await self._raw()
        [row] = await raw.fetch(self._prepared, {**filter_, **dict(zip(self.cut.names, wanted, strict=True))})
        return row


class _Together:
    """Pages of all items, which are read together where they are asked for at the same time. SQLite, in this process, waits for no round trip."""

    def __init__(self, items: ItemJson, listing: Listing[Item], cut: Cut[Item], fields: Sequence[Field]) -> None:
        self._raw, self.listing, self.cut = items.raw, listing, cut
        self._prepared = items.prepared(cut.together(partial(items.gathered, fields=fields)))
        self._gatherings = Gatherings(self._fetch, most=PAGES_AT_ONCE)

    async def row(self, wanted: tuple[Any, ...], _filter: Mapping[str, Any]) -> Row:
        return await self._gatherings.one(await self._raw(), wanted)

    async def _fetch(self, raw: RawReads, wanted: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Row]:
        rows = await raw.fetch(self._prepared, dict(zip(self.cut.names, map(list, zip(*wanted, strict=True)), strict=True)))
        return dict(zip(wanted, rows, strict=True))


def _page(every: Sequence[Sequence[bytes]], listing: Listing[Item], window: Window) -> RowPage:
    more, every = len(every[0]) > window.size, [column[: window.size] for column in every]
    if window.backward:
        return RowPage([column[::-1] for column in every], listing, window.before is not None, more)
    return RowPage(every, listing, more, window.after is not None)


Known = LRUCache[Any, _Alone | _Together]
"""Statements for pages: what is shown of the rows, which filters are set, by which order, at which end."""
