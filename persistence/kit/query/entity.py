"""How an entity's rows are read: its table, its lists and the rows that point to a parent. Declared once, in the entity's own file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    PrimaryKeyConstraint,
    Select,
    Table,
    UniqueConstraint,
    column,
    exists,
    func,
    inspect,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.database.database import Base, Batch
from persistence.kit.errors import InvalidInput
from persistence.kit.query import connection_by_parent, paging
from persistence.kit.query.paging import ComputedKey, OrderedQuery, Page, PageArguments, fetch
from persistence.kit.serialization import Serializer, row_of

R = TypeVar("R", bound=Base)
STREAM_ROWS = 500  # Rows fetched at a time: about 100 kB, and 3 ms of the event loop.

_KINDS: Mapping[type[Any], str] = {
    str: "String",
    int: "Int",
    bool: "Boolean",
    Decimal: "Decimal",
    datetime: "DateTime",
}


@dataclass(frozen=True)
class Entity(Generic[R]):
    """One table, and which of its columns mean something to every list."""

    model: type[R]
    gone: str | None = None
    """Set once a row has left all lists and look-ups, if rows stay when that happens."""
    words: str | None = None
    """The words by which rows are found, made by `persistence.kit.search.tokenizer`, if they can be searched."""
    spellings: Table | None = None
    """The spellings of these words, made by `persistence.kit.finding.near_words`, if typing errors are understood."""
    unshown: tuple[str, ...] = ()
    """What no answer shows, so that it is not kept with one under an idempotency key."""

    def has(self, attribute: str) -> bool:
        return attribute in inspect(self.model).columns

    def kind(self, attribute: str) -> str:
        """What an attribute holds, in GraphQL's words: `String`, `Int`, `Decimal`, `DateTime`, `Boolean`, or `JSON`."""
        return _KINDS.get(inspect(self.model).columns[attribute].type.python_type, "JSON")

    def target(self, attribute: str) -> type[Any] | None:
        """The class of the rows that a foreign key points to; None of another column."""
        keys = inspect(self.model).columns[attribute].foreign_keys
        tables = {key.column.table for key in keys}
        return next((mapper.class_ for mapper in self.model.registry.mappers if mapper.local_table in tables), None)

    def is_nullable(self, attribute: str) -> bool:
        return bool(inspect(self.model).columns[attribute].nullable)

    def is_indexed(self, attribute: str) -> bool:
        """Whether an index begins with the attribute, so that a list in its order, or of one value, is read no further than a page."""
        table: Any = self.model.__table__
        unique = [each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)]
        column = inspect(self.model).columns[attribute]
        return any(next(iter(each.columns), None) is column for each in (*table.indexes, *unique))

    @cached_property
    def by_id(self) -> Batch[int, R]:
        """Loads the rows that have not left."""
        return self._batch("by_id", *self.present)

    @cached_property
    def by_id_even_gone(self) -> Batch[int, R]:
        """For what points to a row and outlives it."""
        return self.by_id if self.gone is None else self._batch("by_id_even_gone")

    def _batch(self, name: str, *conditions: ColumnElement[bool]) -> Batch[int, R]:
        id_: Any = inspect(self.model).columns["id"]

        async def load(session: AsyncSession, ids: Sequence[int]) -> Mapping[int, R]:
            rows: Sequence[Any] = (await session.scalars(select(self.model).where(id_.in_(ids), *conditions))).all()
            return {row.id: row for row in rows}

        load.__module__, load.__qualname__ = self.model.__module__, name  # As metrics and traces call it.
        return load

    @cached_property
    def replay_format(self) -> Serializer[R]:
        """How a row is kept as an answer."""
        return row_of(self.model, without=(*self.unshown, *([] if self.words is None else [self.words])))

    @property
    def present(self) -> Sequence[ColumnElement[bool]]:
        """The condition of the rows that have not left."""
        return () if self.gone is None else (getattr(self.model, self.gone).is_(None),)


@dataclass(frozen=True)
class Facet:
    """A column whose values are counted over a whole list, and the conditions of its filter that select by it, by their names."""

    column: Any
    selected_by: tuple[str, ...]


class ListQuery(Protocol):
    """One list of an entity's rows: its filter and order."""

    @property
    def entity(self) -> Entity[Any]: ...

    @property
    def form(self) -> Hashable:
        """The same for lists whose statements differ in nothing but `values`."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of the statement's parameters."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells the list's cursors from those of any other."""
        ...

    def listing(self) -> OrderedQuery[Any]: ...


@runtime_checkable
class CorrectedList(Protocol):
    """A list that may be searched for other words, where it is empty as it was asked for."""

    async def corrected(self, session: AsyncSession, *, empty: bool) -> ListQuery | None:
        """The list for the words that may have been meant; None where these words find something, or others nothing.

        `empty` tells that the whole list is known to have no rows.
        """
        ...


@runtime_checkable
class RankedList(Protocol):
    """A list whose order may be by a key that is no column."""

    @property
    def computed(self) -> ComputedKey | None: ...


async def page(session: AsyncSession, query: ListQuery, window: PageArguments) -> Page[Any]:
    """Raises: InvalidInput, for a cursor of another list."""
    found = await fetch(session, query.listing(), window)
    if not found.rows and (other := await corrected(session, query, window)) is not None:
        query, found = other, await fetch(session, other.listing(), window)
    return replace(found, query=query)


async def corrected(session: AsyncSession, query: ListQuery, window: PageArguments) -> ListQuery | None:
    """For a list of which a page was empty."""
    return await query.corrected(session, empty=window.is_open and window.size > 0) if isinstance(query, CorrectedList) else None


async def stream(session: AsyncSession, query: ListQuery, attributes: Sequence[str], *, limit: int | None) -> AsyncGenerator[Sequence[Any]]:
    """Attributes of all rows of a list, or of the first ones, some rows at a time, at constant memory."""
    columns = [getattr(query.entity.model, name) for name in attributes]
    rows = await session.stream(selected(query, limit).with_only_columns(*columns), execution_options={"yield_per": STREAM_ROWS})
    parts: AsyncIterator[Sequence[Any]] = rows.partitions()  # It holds nothing but `rows`.
    try:
        async for part in parts:
            yield part
    finally:
        await rows.close()


def selected(query: ListQuery, limit: int | None) -> Select[Any]:
    """All rows of a list, or the first ones, in its order."""
    listing = query.listing()
    return listing.statement.order_by(*listing.order(backward=False)) if limit is None else listing.first_rows(limit)


async def numbered_page(session: AsyncSession, query: ListQuery, *, number: int, size: int) -> tuple[Sequence[Any], int]:
    """Page `number`, from 1, and how many rows the list has. It reads through the pages before: meant for the first few."""
    listing = query.listing()
    rows = await session.scalars(listing.first_rows(number * size).limit(size).offset((number - 1) * size))
    return rows.all(), await session.scalar(counted(listing)) or 0


async def count(session: AsyncSession, query: ListQuery) -> int:
    """Up to COUNT_ROWS."""
    return await paging.count(session, query.listing())


def counted(listing: OrderedQuery[Any]) -> Select[Any]:
    """How many rows the whole list has, counted to its end: for a list of few rows, such as those of one parent."""
    return listing.statement.with_only_columns(func.count(), maintain_column_froms=True)


@dataclass(frozen=True, eq=False)
class ChildList:
    """The rows that point to one parent, such as the items of an owner, in an order of their own.

    `listing_of` is given the parent's id, as a number or as SQL; `fingerprint_of` tells that of a parent's listing without making it.
    """

    entity: Entity[Any]
    foreign_key: str
    listing_of: Callable[[Any], OrderedQuery[Any]]
    fingerprint_of: Callable[[int], str]
    query_of: Callable[[int], ListQuery] | None = None
    """One parent's rows as a list of its own, for what is asked of whole lists alone."""

    async def pages(
        self, session: AsyncSession, keys: Sequence[tuple[int, PageArguments]]
    ) -> Mapping[tuple[int, PageArguments], Page[Any] | InvalidInput]:
        """The page that each parent's window shows, or why it shows none."""
        return await connection_by_parent.pages(session, self.listing_of, keys)

    async def exist(self, session: AsyncSession, parents: Sequence[int]) -> Mapping[int, bool]:
        """True for each parent that has any."""
        each = _parents(parents, sqlite=session.get_bind().dialect.name == "sqlite")
        found = exists().where(getattr(self.entity.model, self.foreign_key) == each.c.value, *self.entity.present)
        return dict.fromkeys(await session.scalars(select(each.c.value).where(found)), True)

    async def counts(self, session: AsyncSession, parents: Sequence[int]) -> Mapping[int, int]:
        sqlite = session.get_bind().dialect.name == "sqlite"
        found: Sequence[Any] = (await session.execute(counts_of(self, _parents(parents, sqlite=sqlite)))).all()
        return dict(found)


def counts_of(children: ChildList, parents: Any) -> Select[Any]:
    """The number of rows of each parent, for parents in a column `value`."""
    of_one = counted(children.listing_of(parents.c.value)).correlate(parents).scalar_subquery()
    found: Any = select(parents.c.value, of_one).select_from(parents)
    return found


def _parents(ids: Sequence[int], *, sqlite: bool) -> Any:
    if sqlite:
        return func.json_each(str(list(ids))).table_valued(column("value", BigInteger))
    return func.unnest(literal(list(ids), ARRAY(BigInteger))).table_valued(column("value", BigInteger)).render_derived()
