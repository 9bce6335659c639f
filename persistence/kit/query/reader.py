"""Reads of declared entities as JSON: by key, by page and by count, for one parent or for many at once.

A statement is made once for each form: what is written of the rows, and which filters and ends of a page are set; values are bound. Whoever asks in the
same form at the same time shares a run of it, whatever documents ask. On SQLite pages are not shared: in this process there is no round trip to save. What takes
a scan there, to count a list or to search it, is kept by the executor until the database changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, cast

import orjson
from sqlalchemy import BigInteger, ColumnElement, Select, String, Text, bindparam, column, func, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.util import LRUCache

from persistence.kit.database.database import Database
from persistence.kit.database.executors.statement_executor import PreparedStatement, Row, StatementExecutor, prepare
from persistence.kit.query.batching import BatcherByTarget, SharedCalls
from persistence.kit.query.child_aggregate import ChildAggregate
from persistence.kit.query.entity import ChildList, CorrectedList, Entity, ListQuery, RankedList, corrected, counted
from persistence.kit.query.json_page import JsonPage, RowForm
from persistence.kit.query.paging import COUNT_ROWS, OrderedQuery, PageArguments, bounded_count
from persistence.kit.query.placeholders import lines
from persistence.kit.query.ranked import SOME, RankedQuery, within
from persistence.kit.query.row_json import LINE, Field, JsonColumn, RowWriter

FORMS = 1_000  # Of each kind, whoever asks: anybody may think of new ones. Plans, which are bounded too, hold those that they use.
ROWS_AT_ONCE = 500  # Looked up by one statement: 5 MB, if all are of the longest.
PAGES_AT_ONCE = 16  # Of a whole list, by one statement: 16 MB, if all are of the longest items.
CHILD_PAGES_AT_ONCE = 500  # Of different parents: few of them have as many rows as a page can show.
LISTINGS = 4_000  # Of parents whose children are listed with cursors: 4 MB.
REQUESTED = "wanted"

Aggregate = Callable[[Select[Any]], Select[Any]]


class EntityReader:
    """Its readers are kept: what is asked for in the same form shares statements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.raw, self.sqlite, self._dialect = database.executor, database.dialect == "sqlite", database.executor_dialect
        self.statements: LRUCache[Any, Any] = LRUCache(FORMS)
        self.listings: LRUCache[Any, OrderedQuery[Any]] = LRUCache(LISTINGS)
        self._frames: LRUCache[Any, PreparedStatement] = LRUCache(FORMS)
        self.lookup: Callable[..., Lookup] = lru_cache(FORMS)(partial(Lookup, self))
        self.pages: Callable[[RowForm], Pages] = lru_cache(FORMS)(partial(Pages, self))
        self.numbered: Callable[[RowForm], NumberedPages] = lru_cache(FORMS)(partial(NumberedPages, self))
        self.aggregates: Callable[[ChildAggregate], Aggregates] = lru_cache(FORMS)(partial(Aggregates, self))
        self.of_parents: Callable[[ChildList], OrderedQuery[Any]] = lru_cache(FORMS)(self._of_parents)
        self.children: Callable[[RowForm, ChildList], ChildPages] = lru_cache(FORMS)(partial(ChildPages, self))

    def prepared(self, statement: Select[Any]) -> PreparedStatement:
        return prepare(statement, self._dialect)

    def aggregated(
        self, key: Hashable, entity: Entity[Any], fields: Sequence[Field], statement_of: Callable[[Aggregate], Select[Any]]
    ) -> PreparedStatement:
        """A statement for texts of rows; `key` tells those apart that differ in more than the texts."""
        writer = RowWriter(entity, sqlite=self.sqlite)
        line, known = writer.line(fields), (key, writer.joins)
        frame = self._frames.get(known)
        if frame is None:
            frame = self._frames[known] = self.prepared(statement_of(writer.aggregate))
        return replace(frame, sql=frame.sql.replace(LINE, line))

    def scan(self, key: Hashable, statement_of: Callable[[], Select[Any]]) -> PreparedStatement:
        known = self.statements.get(("scan", key))
        if known is None:
            known = self.statements["scan", key] = replace(self.prepared(statement_of()), scans=True)
        return known

    def requested(self, types: Mapping[str, Any]) -> Any:
        """A table of what is asked for: on PostgreSQL, of lists by these names; on SQLite, of one list of numbers."""
        if self.sqlite:
            return func.json_each(bindparam("value", type_=Text)).table_valued(column("value", BigInteger), "key", name=REQUESTED)
        lists = [bindparam(name, type_=ARRAY(type_)) for name, type_ in types.items()]
        columns = [column(name, type_) for name, type_ in types.items()]
        return func.unnest(*lists).table_valued(*columns, with_ordinality="key").render_derived(name=REQUESTED)

    def listed(self, values: Sequence[Any]) -> Any:
        return orjson.dumps(values).decode() if self.sqlite else values

    async def corrected(self, query: ListQuery, window: PageArguments) -> ListQuery | None:
        """For a list of which a page was empty."""
        if not isinstance(query, CorrectedList):
            return None
        async with self._database.reading() as session:
            return await corrected(session, query, window)

    def _of_parents(self, children: ChildList) -> OrderedQuery[Any]:
        """The rows of each parent that is asked for."""
        return children.listing_of(literal_column(f"{REQUESTED}.{'value' if self.sqlite else 'parent'}", BigInteger()))

    def listing(self, query: ListQuery) -> OrderedQuery[Any]:
        """Of a list of the query's form, whose values are to be bound, and whose mark may be another one's."""
        key = ("listing", type(query), query.form)
        known = self.statements.get(key)
        if known is None:
            known = self.statements[key] = query.listing()
        return known


class Lookup:
    """Rows by a unique attribute: their texts, without those that have left, but with `even_gone`."""

    def __init__(self, reader: EntityReader, form: RowForm, attribute: str, *, even_gone: bool = False) -> None:
        self._reader, self._texts = reader, len(form.texts)
        key = getattr(form.entity.model, attribute)
        kind = BigInteger() if isinstance(key.type, BigInteger) else String()
        self._number = isinstance(kind, BigInteger)

        def statement(aggregate: Aggregate) -> Select[Any]:
            if reader.sqlite:
                among: Any = key.in_(select(func.json_each(bindparam("keys", type_=Text)).table_valued("value").c.value))
            else:
                among = key == func.any(bindparam("keys", type_=ARRAY(kind)))
            return aggregate(select(form.entity.model).where(*(() if even_gone else form.entity.present), among))

        fields = (*form.texts, JsonColumn(attribute))
        self._prepared = reader.aggregated(("lookup", form.entity, attribute, even_gone), form.entity, fields, statement)
        self._batchers: BatcherByTarget[Any, Any, tuple[bytes, ...]] = BatcherByTarget(self._fetch, most=ROWS_AT_ONCE)

    async def one(self, key: Any) -> tuple[bytes, ...] | None:
        return await self._batchers.load(await self._reader.raw(), key)

    async def many(self, keys: Sequence[Any]) -> Sequence[tuple[bytes, ...] | None]:
        return await self._batchers.many(await self._reader.raw(), keys)

    async def _fetch(self, raw: StatementExecutor, keys: Sequence[Any]) -> Mapping[Any, tuple[bytes, ...]]:
        [[text]] = await raw.fetch(self._prepared, {"keys": self._reader.listed(keys)})
        cells, width = lines(text), self._texts + 1
        found = map(int, cells[self._texts :: width]) if self._number else map(orjson.loads, cells[self._texts :: width])
        return dict(zip(found, zip(*(cells[place::width] for place in range(self._texts)), strict=True), strict=True))


class Aggregates:
    """Numbers about the rows that point to each of some parents."""

    def __init__(self, reader: EntityReader, aggregate: ChildAggregate) -> None:
        self._reader, self._aggregate = reader, aggregate
        keys = bindparam("keys", type_=Text if reader.sqlite else ARRAY(BigInteger))
        among: Any = func.json_each(keys).table_valued("value").c.value if reader.sqlite else func.unnest(keys)
        self._prepared = reader.prepared(aggregate.statement(select(among)))
        self._batchers: BatcherByTarget[Any, int, Any] = BatcherByTarget(self._fetch, most=ROWS_AT_ONCE)

    async def many(self, parents: Sequence[int]) -> Sequence[Any]:
        return await self._batchers.many(await self._reader.raw(), parents)

    async def _fetch(self, raw: StatementExecutor, parents: Sequence[int]) -> Mapping[int, Any]:
        rows = await raw.fetch(self._prepared, {"keys": self._reader.listed(parents)})
        found = {parent: self._aggregate.value(count, total) for parent, count, total in rows}
        return {parent: found.get(parent, self._aggregate.value(0, 0)) for parent in parents}


class _Bounds:
    """Which ends of a page are given: their values, and the rows between them."""

    def __init__(self, listing: OrderedQuery[Any], window: PageArguments) -> None:
        self._backward = window.backward
        self.ends = tuple(name for name in ("after", "before") if getattr(window, name) is not None)
        self.types: dict[str, Any] = {"size": BigInteger()}
        for end in self.ends:
            self.types |= {f"{end}_key": listing.key.type, f"{end}_id": listing.id.type}

    def values(self, listing: OrderedQuery[Any], window: PageArguments) -> tuple[Any, ...]:
        """By the names in `types`, the same for all listings where no end is given. Raises: InvalidInput."""
        values: list[Any] = [window.size + 1]  # The last one tells that there are more.
        for end in self.ends:
            values += listing.position(getattr(window, end), end)
        return tuple(values)

    def rows(self, listing: OrderedQuery[Any], supplied: Callable[[str, Any], ColumnElement[Any]]) -> Select[Any]:
        value = {name: supplied(name, type_) for name, type_ in self.types.items()}
        after, before = ((value[f"{end}_key"], value[f"{end}_id"]) if end in self.ends else None for end in ("after", "before"))
        return listing.selected(after, before, backward=self._backward, count=value["size"])


def _bound(name: str, type_: Any) -> Any:
    return bindparam(name, type_=type_)


def _column(name: str, type_: Any) -> Any:
    return literal_column(f"{REQUESTED}.{name}", type_)


def _fields(form: RowForm, listing: OrderedQuery[Any]) -> Sequence[Field]:
    place = [JsonColumn(name) for name in (*listing.key_attributes, listing.id.key)] if form.cursors else ()
    return [*form.texts, *place] or [JsonColumn(listing.id.key)]  # Without any, only the number of rows is asked for.


class Pages:
    """Pages of whole lists whose rows are read in one form."""

    def __init__(self, reader: EntityReader, form: RowForm) -> None:
        self._reader, self._form = reader, form

    async def page(self, query: ListQuery, window: PageArguments) -> JsonPage:
        """Raises: InvalidInput, for a cursor of another list."""
        found = await self._page(query, window)
        other = None if len(found) else await self._reader.corrected(query, window)
        return found if other is None else await self._page(other, window)

    def prepare(self, query: ListQuery, window: PageArguments) -> _Alone | _ByRank | _Together:
        """The statement for pages of this form, which is made once."""
        key = (self, type(query), query.form, window.after is None, window.before is None, window.backward)
        known = self._reader.statements.get(key)
        if known is None:
            known = self._reader.statements[key] = self._made(query, window)
        return known

    async def _page(self, query: ListQuery, window: PageArguments) -> JsonPage:
        known = self.prepare(query, window)
        # Lists of one form may have marks of their own: a blank search searches for nothing.
        listing = known.listing if known.query is query or known.query == query else owned(known.listing, query)
        page = known.page(await known.row(known.bounds.values(listing, window), query.values), listing, window)
        page.query = query
        return page

    def _made(self, query: ListQuery, window: PageArguments) -> _Alone | _ByRank | _Together:
        if isinstance(listing := self._reader.listing(query), RankedQuery):
            return _ByRank(self._reader, self._form, query, listing, window)
        make = _Alone if query.values or self._reader.sqlite else _Together
        return make(self._reader, self._form, query, window)


def owned(listing: OrderedQuery[Any], query: ListQuery) -> OrderedQuery[Any]:
    """The listing of another query of the same form, for the cursors of this one."""
    return replace(listing, fingerprint=query.fingerprint, computed=query.computed if isinstance(query, RankedList) else None)


class NumberedPages:
    """Pages of whole lists by their numbers, with how many rows the list has, however many."""

    def __init__(self, reader: EntityReader, form: RowForm) -> None:
        self._reader, self._form = reader, form

    async def page(self, query: ListQuery, number: int, size: int) -> JsonPage:
        """Page `number`, from 1: meant for the first few."""
        return await self.prepare(query).numbered(number, size, query)

    def prepare(self, query: ListQuery) -> _Numbered:
        key = (self, type(query), query.form)
        known = self._reader.statements.get(key)
        if known is None:
            known = self._reader.statements[key] = _Numbered(self._reader, self._form, query)
        return known


_SplitRow = Any
"""A statement's row with the lines of its text in the place of that: they are split once for all who share the statement."""


class _Statement(ABC):
    def __init__(self, reader: EntityReader, form: RowForm, listing: OrderedQuery[Any], window: PageArguments, key: Hashable) -> None:
        self._reader, self.listing, self.bounds = reader, listing, _Bounds(listing, window)
        fields = _fields(form, listing)
        self.width, self._total = len(fields), form.total
        self._total_beside = form.total and not reader.sqlite
        known = (type(self), key, self._total_beside, window.after is None, window.before is None, window.backward)
        self._prepared = reader.aggregated(known, form.entity, fields, self._statement)
        if form.total and reader.sqlite:
            self._prepared = replace(self._prepared, beside=reader.scan((type(self), key), self._totals))
        if listing.scan is not None:
            self._prepared = replace(self._prepared, scans=True)

    @abstractmethod
    def _statement(self, aggregate: Aggregate) -> Select[Any]: ...

    def _columns(self, page: Select[Any]) -> Select[Any]:
        """The page's single text, and how many rows its whole list has, where that is asked for."""
        total = (self._count().scalar_subquery(),) if self._total_beside else ()
        return select(page.scalar_subquery(), *total)

    def _totals(self) -> Select[Any]:
        """How many rows the whole list has, where that is counted by a statement of its own."""
        return self._count()

    def _count(self) -> Select[Any]:
        return bounded_count(self.listing, sqlite=self._reader.sqlite)

    def page(self, row: _SplitRow, listing: OrderedQuery[Any], window: PageArguments) -> JsonPage:
        [page] = self.pages([row], [listing], window)
        return page

    def pages(self, rows: Sequence[_SplitRow], listings: Sequence[OrderedQuery[Any]], window: PageArguments) -> list[JsonPage]:
        width, most, backward = self.width, window.size * self.width, window.backward
        after, before, pages = window.after is not None, window.before is not None, list[JsonPage]()
        for (cells, *totals), listing in zip(rows, listings, strict=True):
            shown, more = cells[:most], len(cells) > most
            columns = [shown[place::width] for place in range(width)]
            total = min(COUNT_ROWS, totals[0]) if self._total and totals else 0
            if backward:
                pages.append(JsonPage([each[::-1] for each in columns], listing, before, more, total))
            else:
                pages.append(JsonPage(columns, listing, more, after, total))
        return pages


class _Whole(_Statement):
    """Of a whole list."""

    def __init__(self, reader: EntityReader, form: RowForm, query: ListQuery, window: PageArguments) -> None:
        self.query = query  # Whose mark its listing has.
        super().__init__(reader, form, owned(reader.listing(query), query), window, (type(query), query.form))


class _Alone(_Whole):
    """Pages one by one."""

    def __init__(self, reader: EntityReader, form: RowForm, query: ListQuery, window: PageArguments) -> None:
        super().__init__(reader, form, query, window)
        self._calls = SharedCalls[Any, _SplitRow]()

    def _statement(self, aggregate: Aggregate) -> Select[Any]:
        return self._columns(aggregate(self.bounds.rows(self.listing, _bound)))

    async def row(self, bounds: tuple[Any, ...], values: Mapping[str, Any]) -> _SplitRow:
        return await self._run({**values, **dict(zip(self.bounds.types, bounds, strict=True))})

    async def _run(self, values: Mapping[str, Any]) -> _SplitRow:
        """The statement's one row, for all who ask for it at the same time."""
        raw = await self._reader.raw()
        if self._reader.sqlite:
            return await self._fetch(raw, values)
        bound = tuple([tuple(cast("list[Any]", value)) if isinstance(value, list) else value for value in values.values()])
        return await self._calls.call((raw, bound), lambda: self._fetch(raw, values))

    async def _fetch(self, raw: StatementExecutor, values: Mapping[str, Any]) -> _SplitRow:
        [row] = await raw.fetch(self._prepared, values)
        return _split(row)


class _Part(_Statement):
    """The part of a page that is of one rank, or the first rows of all; it may count the whole list."""

    def __init__(
        self, reader: EntityReader, form: RowForm, whole: RankedQuery[Any], part: OrderedQuery[Any], window: PageArguments, key: Hashable
    ) -> None:
        self._whole = whole
        super().__init__(reader, form, part, window, key)

    def _count(self) -> Select[Any]:
        return bounded_count(self._whole, sqlite=self._reader.sqlite)

    def _statement(self, aggregate: Aggregate) -> Select[Any]:
        return self._columns(aggregate(self.bounds.rows(self.listing, _bound)))

    async def row(self, bounds: tuple[Any, ...], values: Mapping[str, Any]) -> _SplitRow:
        raw = await self._reader.raw()
        [row] = await raw.fetch(self._prepared, {**values, **dict(zip(self.bounds.types, bounds, strict=True))})
        return _split(row)


class _ByRank:
    """Pages that are read rank by rank, until they are full."""

    def __init__(self, reader: EntityReader, form: RowForm, query: ListQuery, listing: RankedQuery[Any], window: PageArguments) -> None:
        self.query, self.listing, self.bounds = query, owned(listing, query), _Bounds(listing, window)
        first, *rest = listing.in_order(backward=window.backward)
        forms = {first: form, **dict.fromkeys(rest, replace(form, total=False))}
        key = (type(query), query.form)
        self._ranks = {rank: _Part(reader, each, listing, listing.ranks[rank], window, (key, rank)) for rank, each in forms.items()}
        self.page = self._ranks[first].page
        every, least = listing.by_id, RowForm(form.entity, ())
        self._every = None if every is None else _Part(reader, least, listing, every, PageArguments(), (key, "every"))

    async def row(self, bounds: tuple[Any, ...], values: Mapping[str, Any]) -> _SplitRow:
        size, *ends = bounds
        cells, rows = list[bytes](), list[_SplitRow]()
        for rank, part in self._ranks.items():
            if len(rows) == 1 and not cells and await self._is_empty(values):
                break
            missing = size - len(cells) // part.width
            if missing:
                places = zip(ends[::2], ends[1::2], strict=True)
                rows.append(await part.row((missing, *(bound for place in places for bound in within(rank, place))), values))
                cells += rows[-1][0]
        return cells, *rows[0][1:]

    async def _is_empty(self, values: Mapping[str, Any]) -> bool:
        """As `RankedQuery` does it."""
        return self._every is not None and not (await self._every.row((SOME,), values))[0]


class _Numbered(_Alone):
    """Pages by their numbers, which count through the pages before."""

    def __init__(self, reader: EntityReader, form: RowForm, query: ListQuery) -> None:
        super().__init__(reader, form, query, PageArguments())

    def _statement(self, aggregate: Aggregate) -> Select[Any]:
        first = self.bounds.rows(self.listing, _bound)
        return self._columns(aggregate(first.limit(bindparam("length", type_=BigInteger)).offset(bindparam("skipped", type_=BigInteger))))

    def _count(self) -> Select[Any]:
        return counted(self.listing)

    async def numbered(self, number: int, size: int, query: ListQuery) -> JsonPage:
        row = await self._run({**query.values, "size": number * size, "length": size, "skipped": (number - 1) * size})
        page = self.page((row[0],), self.listing, PageArguments(first=size))
        page.total = row[1] if self._total else 0
        return page


class _Together(_Whole):
    """Pages of one list, which are read together where they are asked for at the same time."""

    def __init__(self, reader: EntityReader, form: RowForm, query: ListQuery, window: PageArguments) -> None:
        super().__init__(reader, form, query, window)
        self._batchers: BatcherByTarget[Any, Any, Any] = BatcherByTarget(self._fetch, most=PAGES_AT_ONCE)

    def _statement(self, aggregate: Aggregate) -> Select[Any]:
        return _for_each(self._reader.requested(self.bounds.types), self._columns(aggregate(self.bounds.rows(self.listing, _column))))

    async def row(self, bounds: tuple[Any, ...], _values: Mapping[str, Any]) -> _SplitRow:
        return await self._batchers.load(await self._reader.raw(), bounds)

    async def _fetch(self, raw: StatementExecutor, requests: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Any]:
        rows = await raw.fetch(self._prepared, dict(zip(self.bounds.types, map(list, zip(*requests, strict=True)), strict=True)))
        return dict(zip(requests, map(_split, rows), strict=True))


def _split(row: Row) -> _SplitRow:
    return lines(row[0]), *row[1:]


def _for_each(requests: Any, one: Select[Any]) -> Select[Any]:
    """The columns of a statement for each row of what is wanted, in its order."""
    return one.select_from(requests).order_by(requests.c.key)


class ChildPages:
    """Pages of the rows that point to a parent, for many parents at once."""

    def __init__(self, reader: EntityReader, form: RowForm, children: ChildList) -> None:
        self._reader, self._form, self._children = reader, form, children
        self._statements: dict[tuple[bool, bool, bool], _Children] = {}

    async def pages(self, parents: Sequence[int], window: PageArguments) -> Sequence[JsonPage]:
        """One for each parent. Raises: InvalidInput, if a cursor is not fit for one of them."""
        known = self.prepare(window)
        listings = list(map(known.listing_of, parents)) if known.marked else [known.listing] * len(parents)
        own = known.bounds.values
        bounds = [own(listing, window) for listing in listings] if known.bounds.ends else [own(known.listing, window)] * len(parents)
        rows = await known.rows(parents, bounds)
        return known.pages(rows, listings, window)

    def prepare(self, window: PageArguments) -> _Children:
        key = (window.after is None, window.before is None, window.backward)
        known = self._statements.get(key)
        if known is None:
            known = self._statements[key] = _Children(self._reader, self._form, self._children, window)
        return known


class _Children(_Statement):
    def __init__(self, reader: EntityReader, form: RowForm, children: ChildList, window: PageArguments) -> None:
        self._children = children
        self.marked = form.cursors or window.after is not None or window.before is not None
        super().__init__(reader, form, reader.of_parents(children), window, children)
        self._batchers: BatcherByTarget[Any, Any, Any] = BatcherByTarget(self._fetch, most=CHILD_PAGES_AT_ONCE)

    def listing_of(self, parent: int) -> OrderedQuery[Any]:
        """With its own mark, which stands in cursors; the statement is that of all parents."""
        known = self._reader.listings.get((self, parent))
        if known is None:
            known = self._reader.listings[self, parent] = replace(self.listing, fingerprint=self._children.fingerprint_of(parent))
        return known

    def _count(self) -> Select[Any]:
        return counted(self.listing)  # A bound would need a subquery of its own, which cannot see the parent.

    def _totals(self) -> Select[Any]:
        return _for_each(self._reader.requested({}), select(self._count().scalar_subquery()))

    @property
    def _types(self) -> Mapping[str, Any]:
        return {"parent": BigInteger(), **self.bounds.types}

    def _statement(self, aggregate: Aggregate) -> Select[Any]:
        # SQLite wants no column for a limit. All parents of a call have the same window, so its values can be bound.
        rows = self.bounds.rows(self.listing, _bound if self._reader.sqlite else _column)
        return _for_each(self._reader.requested(self._types), self._columns(aggregate(rows)))

    async def rows(self, parents: Sequence[int], bounds: Sequence[tuple[Any, ...]]) -> Sequence[_SplitRow]:
        raw = await self._reader.raw()
        if not self._reader.sqlite:
            return await self._batchers.many(raw, [(parent, *each) for parent, each in zip(parents, bounds, strict=True)])
        values = {"value": self._reader.listed(parents), **dict(zip(self.bounds.types, bounds[0], strict=True))}
        return list(map(_split, await raw.fetch(self._prepared, values)))

    async def _fetch(self, raw: StatementExecutor, requests: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Any]:
        rows = await raw.fetch(self._prepared, dict(zip(self._types, map(list, zip(*requests, strict=True)), strict=True)))
        return dict(zip(requests, map(_split, rows), strict=True))
