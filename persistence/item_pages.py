"""Pages of items as JSON of just what a plan asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from persistence import catalogue
from persistence.catalogue import EVERYTHING, Filter, Order
from persistence.item_json import ID, ItemJson
from persistence.items import Item
from persistence.kit.cuts import Cut
from persistence.kit.gathering import Gatherings
from persistence.kit.paging import Listing, Window
from persistence.kit.raw import RawReads, Row
from persistence.kit.written import Field, Value, Written, lines

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

    def __init__(self, items: ItemJson, asked: Asked) -> None:
        self._items, self._asked = items, asked
        self._known: dict[Any, _Known] = {}

    async def page(self, filter_: Filter, order: Order, window: Window) -> RowPage:
        """Raises: InvalidInput."""
        window.check()
        if filter_ == EVERYTHING:
            listing = _unfiltered(order)
            row = await self._of_everything(listing, window).row(window)
        else:
            listing = catalogue.listing(filter_, order)
            row = await self._composed(listing, window)
        return _page([lines(column) for column in row], listing, window)

    async def _composed(self, listing: Listing[Item], window: Window) -> Row:
        statement = self._items.gathered(listing.windowed(window), self._asked.fields(listing))
        raw = await self._items.raw()
        [row] = await raw.fetch(self._items.composed(statement), {})
        return row

    def _of_everything(self, listing: Listing[Item], window: Window) -> _Known:
        form = (listing.tag, window.after is None, window.before is None, window.backward)
        if form not in self._known:
            make = _Alone if self._items.sqlite else _Together
            self._known[form] = make(self._items, Cut(listing, window, self._items.dialect), self._asked.fields(listing))
        return self._known[form]


class _Alone:
    """Pages by a known statement, one by one: SQLite waits for no round trip."""

    def __init__(self, items: ItemJson, cut: Cut[Item], fields: Sequence[Field]) -> None:
        self._raw, self._cut = items.raw, cut
        self._prepared = items.prepared(cut.alone(partial(items.gathered, fields=fields)))

    async def row(self, window: Window) -> Row:
        """Raises: InvalidInput."""
        values = dict(zip(self._cut.names, self._cut.values(window), strict=True))
        [row] = await (await self._raw()).fetch(self._prepared, values)
        return row


class _Together:
    """Pages by a known statement, which reads all that are asked for at the same time."""

    def __init__(self, items: ItemJson, cut: Cut[Item], fields: Sequence[Field]) -> None:
        self._raw, self._cut = items.raw, cut
        self._prepared = items.prepared(cut.together(partial(items.gathered, fields=fields)))
        self._gatherings = Gatherings(self._fetch, most=PAGES_AT_ONCE)

    async def row(self, window: Window) -> Row:
        """Raises: InvalidInput."""
        return await self._gatherings.one(await self._raw(), self._cut.values(window))

    async def _fetch(self, raw: RawReads, wanted: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Row]:
        rows = await raw.fetch(self._prepared, dict(zip(self._cut.names, map(list, zip(*wanted, strict=True)), strict=True)))
        return dict(zip(wanted, rows, strict=True))


_Known = _Alone | _Together


def _page(every: Sequence[Sequence[bytes]], listing: Listing[Item], window: Window) -> RowPage:
    more, every = len(every[0]) > window.size, [column[: window.size] for column in every]
    if window.backward:
        return RowPage([column[::-1] for column in every], listing, window.before is not None, more)
    return RowPage(every, listing, more, window.after is not None)


@lru_cache(maxsize=32)
def _unfiltered(order: Order) -> Listing[Item]:
    return catalogue.listing(EVERYTHING, order)
