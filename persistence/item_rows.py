"""Items, and their owners within them, as JSON of just what a plan asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import orjson
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from persistence import catalogue
from persistence.catalogue import EVERYTHING, Filter, Order
from persistence.items import Item
from persistence.kit.database import Database
from persistence.kit.gathering import Gathering
from persistence.kit.paging import Listing, Window
from persistence.kit.raw import Composed, Prepared, RawReads, prepare
from persistence.kit.written import Field, Value, Written, columns, expression, gathered, lines
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


class ItemRows:
    """Its readers are kept: what is asked for in the same form shares statements, whatever documents ask."""

    def __init__(self, database: Database) -> None:
        self._source = _Source(database)
        self._lookups: dict[Written, Lookup] = {}
        self._pages: dict[Asked, Pages] = {}

    def lookup(self, written: Written) -> Lookup:
        if written not in self._lookups:
            self._lookups[written] = Lookup(self._source, written)
        return self._lookups[written]

    def pages(self, asked: Asked) -> Pages:
        if asked not in self._pages:
            self._pages[asked] = Pages(self._source, asked)
        return self._pages[asked]


class _Source:
    """The statements of either database."""

    def __init__(self, database: Database) -> None:
        self.raw, self._dialect, self._composed = database.raw, database.raw_dialect, Composed(database.raw_dialect)
        self.sqlite = database.dialect == "sqlite"

    def composed(self, statement: Select[Any], fields: Sequence[Field]) -> Prepared:
        return self._composed.prepare(self._gathered(statement, fields))

    def prepared(self, statement: Select[Any], fields: Sequence[Field]) -> Prepared:
        return prepare(self._gathered(statement, fields), self._dialect)

    def bind(self, listing: Listing[Item]) -> Callable[[Any], Any]:
        """How a sort key is given to the driver."""
        return listing.key.type.bind_processor(self._dialect) or _as_it_is

    def _gathered(self, statement: Select[Any], fields: Sequence[Field]) -> Select[Any]:
        shown = [expression(each, COLUMNS, sqlite=self.sqlite).label(f"json_{place}") for place, each in enumerate(fields)]
        statement = cast("Select[Any]", statement.with_only_columns(*shown))
        if any(name.startswith("owner.") for each in fields if isinstance(each, Written) for name in columns(each)):
            statement = statement.outerjoin_from(Item, User, Item.owner_id == User.id)
        return gathered(statement, sqlite=self.sqlite)


class Lookup:
    """Items by their id."""

    def __init__(self, source: _Source, written: Written) -> None:
        self._raw, self._as_json = source.raw, source.sqlite
        if source.sqlite:
            among: Any = Item.id.in_(select(func.json_each(bindparam("ids", type_=Text)).table_valued("value").c.value))
        else:
            among = Item.id == func.any(bindparam("ids", type_=ARRAY(BigInteger)))
        self._prepared = source.prepared(select(Item).where(Item.deleted_at.is_(None), among), (written, ID))
        self._gatherings: dict[RawReads, Gathering[int, bytes]] = {}

    async def by_id(self, id_: int) -> bytes | None:
        raw = await self._raw()
        gathering = self._gatherings.get(raw)
        if gathering is None:
            gathering = self._gatherings[raw] = Gathering(partial(self._fetch, raw))
        return await gathering.one(id_)

    async def _fetch(self, raw: RawReads, ids: Sequence[int]) -> Mapping[int, bytes]:
        [(found, own_ids)] = await raw.fetch(self._prepared, {"ids": orjson.dumps(ids).decode() if self._as_json else ids})
        return dict(zip(map(int, lines(own_ids)), lines(found), strict=True))


class Pages:
    """Pages whose rows are asked for in one form."""

    def __init__(self, source: _Source, asked: Asked) -> None:
        self._source, self._asked = source, asked
        self._of_everything: dict[Any, tuple[Prepared, Callable[[Any], Any]]] = {}

    async def page(self, filter_: Filter, order: Order, window: Window) -> RowPage:
        """Raises: InvalidInput."""
        window.check()
        listing = _unfiltered(order) if filter_ == EVERYTHING else catalogue.listing(filter_, order)
        prepared, values = (self._known if filter_ == EVERYTHING else self._composed)(listing, window)
        [row] = await (await self._source.raw()).fetch(prepared, values)
        return _page([lines(column) for column in row], listing, window)

    def _composed(self, listing: Listing[Item], window: Window) -> tuple[Prepared, Mapping[str, Any]]:
        return self._source.composed(listing.windowed(window), self._asked.fields(listing)), {}

    def _known(self, listing: Listing[Item], window: Window) -> tuple[Prepared, Mapping[str, Any]]:
        form = (listing.tag, window.after is None, window.before is None, window.backward)
        if form not in self._of_everything:
            prepared = self._source.prepared(_cut(listing, window), self._asked.fields(listing))
            self._of_everything[form] = prepared, self._source.bind(listing)
        prepared, bind = self._of_everything[form]
        values: dict[str, Any] = {"size": window.size + 1}
        for name, cursor in (("after", window.after), ("before", window.before)):
            if cursor is not None:
                key, values[f"{name}_id"] = listing.position(cursor, name)
                values[f"{name}_key"] = bind(key)
        return prepared, values


def _cut(listing: Listing[Item], window: Window) -> Select[Any]:
    """The window's rows, for any cursors and any size."""

    def position(name: str) -> tuple[Any, Any]:
        return bindparam(f"{name}_key", type_=listing.key.type), bindparam(f"{name}_id", type_=listing.id.type)

    after = None if window.after is None else position("after")
    before = None if window.before is None else position("before")
    return listing.cut(listing.statement, after, before, backward=window.backward).limit(bindparam("size"))


def _page(every: Sequence[Sequence[bytes]], listing: Listing[Item], window: Window) -> RowPage:
    more, every = len(every[0]) > window.size, [column[: window.size] for column in every]
    if window.backward:
        return RowPage([column[::-1] for column in every], listing, window.before is not None, more)
    return RowPage(every, listing, more, window.after is not None)


def _as_it_is(key: Any) -> Any:
    return key


@lru_cache(maxsize=32)
def _unfiltered(order: Order) -> Listing[Item]:
    return catalogue.listing(EVERYTHING, order)
