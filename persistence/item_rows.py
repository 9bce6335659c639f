"""Items, and their owners within them, as JSON of just what a plan asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import orjson
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from persistence import catalogue
from persistence.catalogue import EVERYTHING, Filter, Order
from persistence.items import Item
from persistence.kit.database import Database
from persistence.kit.paging import Listing, Window
from persistence.kit.raw import Composed, Plain, Prepared, RawReads, Row, Show, plain, prepare
from persistence.kit.written import Written, columns, expression
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
BATCHES_UNDER_WAY = 2  # For one form of an item. While they run, further look-ups gather into the next.


@dataclass(frozen=True)
class Asked:
    """What a page's rows must hold: objects, in this order, and the place of each row in the list, where cursors are asked for."""

    objects: tuple[Written, ...]
    cursors: bool = False


@dataclass(frozen=True)
class RowPage:
    """Rows of the objects asked for, then, for cursors, the sort key and the id."""

    rows: Sequence[Row]
    listing: Listing[Item]
    has_next: bool
    has_previous: bool
    show_key: Show | None

    def cursor(self, row: Row) -> str:
        return self.listing.cursor_at(self.show_key(row[-2]) if self.show_key else row[-2], row[-1])


@dataclass(frozen=True)
class _Key:
    """A sort key: how it is read, and how a value of it is bound; None if as it is."""

    shown: Plain
    bind: Show | None


class ItemRows:
    def __init__(self, database: Database) -> None:
        self._database, self._dialect, self._statements = database, database.raw_dialect, Composed(database.raw_dialect)
        self._sqlite = database.dialect == "sqlite"
        self._lookups: dict[tuple[Written, RawReads], _Lookup] = {}
        self._pages: dict[Any, Prepared] = {}
        self._keys: dict[str, _Key] = {}

    async def by_id(self, written: Written, id_: int) -> str | None:
        """One item's JSON. Look-ups of the same form that come at the same time, whoever asks, share a statement."""
        raw = await self._database.raw()
        lookup = self._lookups.get((written, raw))
        if lookup is None:
            lookup = self._lookups[written, raw] = _Lookup(self._fetch_by_id(written, raw))
        return await lookup.row(id_)

    def _fetch_by_id(self, written: Written, raw: RawReads) -> Callable[[list[int]], Any]:
        if self._sqlite:
            among = Item.id.in_(select(func.json_each(bindparam("ids", type_=Text)).table_valued("value").c.value))
        else:
            among = Item.id == func.any(bindparam("ids", type_=ARRAY(BigInteger)))
        statement = self._columns(select(Item).where(Item.deleted_at.is_(None), among), Asked((written,)), Item.id)
        prepared = prepare(statement, self._dialect)

        async def fetch(ids: list[int]) -> dict[int, str]:
            rows = await raw.fetch(prepared, {"ids": orjson.dumps(ids).decode() if self._sqlite else ids})
            return {id_: json for json, id_ in rows}

        return fetch

    async def page(self, asked: Asked, filter_: Filter, order: Order, window: Window) -> RowPage:
        """Raises: InvalidInput."""
        window.check()
        listing = _unfiltered(order) if filter_ == EVERYTHING else catalogue.listing(filter_, order)
        rows = await (self._prepared if filter_ == EVERYTHING else self._composed)(asked, listing, window)
        more, rows = len(rows) > window.size, rows[: window.size]
        show_key = self._key(listing).shown.show
        if window.backward:
            return RowPage(rows[::-1], listing, window.before is not None, more, show_key)
        return RowPage(rows, listing, more, window.after is not None, show_key)

    async def _composed(self, asked: Asked, listing: Listing[Item], window: Window) -> Sequence[Row]:
        statement = self._page_columns(listing.windowed(window), asked, listing)
        return await (await self._database.raw()).fetch(self._statements.prepare(statement), {})

    async def _prepared(self, asked: Asked, listing: Listing[Item], window: Window) -> Sequence[Row]:
        shape = (asked, listing.tag, window.after is None, window.before is None, window.backward)
        prepared = self._pages.get(shape)
        if prepared is None:
            prepared = self._pages[shape] = prepare(self._cut(asked, listing, window), self._dialect)
        values: dict[str, Any] = {"size": window.size + 1}
        for name, cursor in (("after", window.after), ("before", window.before)):
            if cursor is not None:
                key, values[f"{name}_id"] = listing.position(cursor, name)
                bind = self._key(listing).bind
                values[f"{name}_key"] = bind(key) if bind else key
        return await (await self._database.raw()).fetch(prepared, values)

    def _key(self, listing: Listing[Item]) -> _Key:
        """Kept, since asking the mapper for a column's type takes as long as a small query."""
        key = self._keys.get(listing.key.key)
        if key is None:
            dialect = self._dialect
            key = self._keys[listing.key.key] = _Key(plain(listing.key, dialect), listing.key.type.bind_processor(dialect))
        return key

    def _cut(self, asked: Asked, listing: Listing[Item], window: Window) -> Select[Any]:
        def position(name: str) -> tuple[Any, Any]:
            return bindparam(f"{name}_key", type_=listing.key.type), bindparam(f"{name}_id", type_=listing.id.type)

        after = None if window.after is None else position("after")
        before = None if window.before is None else position("before")
        statement = listing.cut(listing.statement, after, before, backward=window.backward).limit(bindparam("size"))
        return self._page_columns(statement, asked, listing)

    def _page_columns(self, statement: Select[Any], asked: Asked, listing: Listing[Item]) -> Select[Any]:
        return self._columns(statement, asked, *((self._key(listing).shown.column, listing.id) if asked.cursors else ()))

    def _columns(self, statement: Select[Any], asked: Asked, *more: Any) -> Select[Any]:
        objects: list[Any] = [
            expression(each, COLUMNS, sqlite=self._sqlite).label(f"json_{place}") for place, each in enumerate(asked.objects)
        ]
        # Without objects and cursors only the number of rows is asked for.
        statement = cast("Select[Any]", statement.with_only_columns(*(objects + list(more) or [Item.id])))
        if any(name.startswith("owner.") for each in asked.objects for name in columns(each)):
            statement = statement.outerjoin_from(Item, User, Item.owner_id == User.id)
        return statement


class _Lookup:
    """Gathers ids that are asked for at the same time into one statement."""

    def __init__(self, fetch: Callable[[list[int]], Any]) -> None:
        self._fetch = fetch
        self._wanted: dict[int, asyncio.Future[str | None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def row(self, id_: int) -> str | None:
        future = self._wanted.get(id_)
        if future is None:
            future = self._wanted[id_] = asyncio.get_running_loop().create_future()
            if len(self._wanted) == 1 and len(self._under_way) < BATCHES_UNDER_WAY:
                self._begin()
        return await asyncio.shield(future)

    def _begin(self) -> None:
        task = asyncio.create_task(self._run())
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._wanted and len(self._under_way) < BATCHES_UNDER_WAY:
            self._begin()

    async def _run(self) -> None:
        wanted, self._wanted = self._wanted, {}
        try:
            rows = await self._fetch(list(wanted))
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked, each of whom is told
            for future in wanted.values():
                future.set_exception(error)
            return
        for id_, future in wanted.items():
            future.set_result(rows.get(id_))


@lru_cache(maxsize=32)
def _unfiltered(order: Order) -> Listing[Item]:
    return catalogue.listing(EVERYTHING, order)
