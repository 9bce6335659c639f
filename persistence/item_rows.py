"""Items, and their owners beside them, as plain rows of just the columns that a plan asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from persistence import catalogue
from persistence.catalogue import EVERYTHING, Filter, Order
from persistence.items import Item
from persistence.kit.database import Database
from persistence.kit.paging import Listing, Window
from persistence.kit.raw import Prepared, Row, Show, plain, prepare
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
BATCHES_UNDER_WAY = 2  # For one set of columns. While they run, further look-ups gather into the next.

Columns = tuple[str, ...]


@dataclass(frozen=True)
class RowPage:
    """Rows of the columns asked for, with the sort key and the id as the last two."""

    rows: Sequence[Row]
    listing: Listing[Item]
    has_next: bool
    has_previous: bool
    show_key: Show | None

    def cursor(self, row: Row) -> str:
        return self.listing.cursor_at(self.show_key(row[-2]) if self.show_key else row[-2], row[-1])


class ItemRows:
    def __init__(self, database: Database) -> None:
        self._database, self._raw = database, database.raw
        self._lookups: dict[Columns, _Lookup] = {}
        self._pages: dict[Any, Prepared] = {}

    def show(self, column: str) -> Show | None:
        """How a value of this column becomes JSON; None if as it is."""
        return plain(COLUMNS[column], self._raw.dialect).show

    async def by_id(self, columns: Columns, id_: int) -> Row | None:
        """One row. Look-ups of the same columns that come at the same time, whoever asks, share a statement."""
        lookup = self._lookups.get(columns)
        if lookup is None:
            lookup = self._lookups[columns] = _Lookup(self._fetch_by_id(columns))
        return await lookup.row(id_)

    def _fetch_by_id(self, columns: Columns) -> Callable[[list[int]], Any]:
        sqlite = self._raw.dialect.name == "sqlite"
        if sqlite:
            among = Item.id.in_(select(func.json_each(bindparam("ids", type_=Text)).table_valued("value").c.value))
        else:
            among = Item.id == func.any(bindparam("ids", type_=ARRAY(BigInteger)))
        statement = self._columns(select(Item).where(Item.deleted_at.is_(None), among), (*columns, "id"))
        prepared = prepare(statement, self._raw.dialect)

        async def fetch(ids: list[int]) -> dict[int, Row]:
            rows = await self._raw.fetch(prepared, {"ids": orjson.dumps(ids).decode() if sqlite else ids})
            return {row[-1]: row for row in rows}

        return fetch

    async def page(self, columns: Columns, filter_: Filter, order: Order, window: Window) -> RowPage:
        """Raises: InvalidInput."""
        window.check()
        listing = _unfiltered(order) if filter_ == EVERYTHING else catalogue.listing(filter_, order)
        key = order.field.value
        rows = await (self._prepared if filter_ == EVERYTHING else self._composed)((*columns, key, "id"), listing, window)
        more, rows = len(rows) > window.size, rows[: window.size]
        show_key = self.show(key)
        if window.backward:
            return RowPage(rows[::-1], listing, window.before is not None, more, show_key)
        return RowPage(rows, listing, more, window.after is not None, show_key)

    async def _composed(self, columns: Columns, listing: Listing[Item], window: Window) -> Sequence[Row]:
        statement = self._columns(listing.windowed(window), columns)
        async with self._database.reading() as session:
            return (await session.execute(statement)).all()

    async def _prepared(self, columns: Columns, listing: Listing[Item], window: Window) -> Sequence[Row]:
        shape = (columns, listing.tag, window.after is None, window.before is None, window.backward)
        prepared = self._pages.get(shape)
        if prepared is None:
            prepared = self._pages[shape] = prepare(self._cut(columns, listing, window), self._raw.dialect)
        values: dict[str, Any] = {"size": window.size + 1}
        for name, cursor in (("after", window.after), ("before", window.before)):
            if cursor is not None:
                key, values[f"{name}_id"] = listing.position(cursor, name)
                bind = listing.key.type.bind_processor(self._raw.dialect)
                values[f"{name}_key"] = bind(key) if bind else key
        return await self._raw.fetch(prepared, values)

    def _cut(self, columns: Columns, listing: Listing[Item], window: Window) -> Select[Any]:
        def position(name: str) -> tuple[Any, Any]:
            return bindparam(f"{name}_key", type_=listing.key.type), bindparam(f"{name}_id", type_=listing.id.type)

        after = None if window.after is None else position("after")
        before = None if window.before is None else position("before")
        statement = listing.cut(listing.statement, after, before, backward=window.backward).limit(bindparam("size"))
        return self._columns(statement, columns)

    def _columns(self, statement: Select[Any], columns: Columns) -> Select[Any]:
        statement = statement.with_only_columns(*(plain(COLUMNS[name], self._raw.dialect).column for name in columns))
        if any(name.startswith("owner.") for name in columns):
            statement = statement.outerjoin_from(Item, User, Item.owner_id == User.id)
        return statement


class _Lookup:
    """Gathers ids that are asked for at the same time into one statement."""

    def __init__(self, fetch: Callable[[list[int]], Any]) -> None:
        self._fetch = fetch
        self._wanted: dict[int, asyncio.Future[Row | None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def row(self, id_: int) -> Row | None:
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
