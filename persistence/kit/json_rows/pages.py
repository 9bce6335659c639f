"""Pages of whole lists: by cursors, by ranks or by numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from sqlalchemy import BigInteger, Select, bindparam

from persistence.kit.database.executors.statement_executor import StatementExecutor
from persistence.kit.json_rows.json_page import JsonPage, RowForm
from persistence.kit.json_rows.page_statement import Bounds, PageStatement, SplitRow, bound, for_each, requested_column, split_row
from persistence.kit.json_rows.row_json import RowWriter
from persistence.kit.json_rows.statements import Statements
from persistence.kit.query.batching import BatcherByTarget, SharedCalls
from persistence.kit.query.entity import ListQuery, RankedList, counted
from persistence.kit.query.paging import OrderedQuery, PageArguments, bounded_count
from persistence.kit.query.ranked import SOME, RankedQuery, within

PAGES_AT_ONCE = 16  # Of a whole list, by one statement: 16 MB, if all are of the longest items.


class Pages:
    """Pages of whole lists whose rows are read in one form."""

    def __init__(self, statements: Statements, form: RowForm) -> None:
        self._statements, self._form = statements, form

    async def page(self, query: ListQuery, window: PageArguments) -> JsonPage:
        """Raises: InvalidInput, for a cursor of another list."""
        found = await self._page(query, window)
        other = None if len(found) else await self._statements.corrected(query, window)
        return found if other is None else await self._page(other, window)

    def prepare(self, query: ListQuery, window: PageArguments) -> _Alone | _ByRank | _Together:
        """The statement for pages of this form, which is made once."""
        key = (self, type(query), query.form, window.after is None, window.before is None, window.backward)
        known = self._statements.made.get(key)
        if known is None:
            known = self._statements.made[key] = self._made(query, window)
        return known

    async def _page(self, query: ListQuery, window: PageArguments) -> JsonPage:
        known = self.prepare(query, window)
        # Lists of one form may have marks of their own: a blank search searches for nothing.
        listing = known.listing if known.query is query or known.query == query else owned(known.listing, query)
        page = known.page(await known.row(known.bounds.values(listing, window), query.values), listing, window)
        page.query = query
        return page

    def _made(self, query: ListQuery, window: PageArguments) -> _Alone | _ByRank | _Together:
        if isinstance(listing := self._statements.listing(query), RankedQuery):
            return _ByRank(self._statements, self._form, query, listing, window)
        make = _Alone if query.values or self._statements.sqlite else _Together
        return make(self._statements, self._form, query, window)


def owned(listing: OrderedQuery[Any], query: ListQuery) -> OrderedQuery[Any]:
    """The listing of another query of the same form, for the cursors of this one."""
    return replace(listing, fingerprint=query.fingerprint, computed=query.computed if isinstance(query, RankedList) else None)


class NumberedPages:
    """Pages of whole lists by their numbers, with how many rows the list has, however many."""

    def __init__(self, statements: Statements, form: RowForm) -> None:
        self._statements, self._form = statements, form

    async def page(self, query: ListQuery, number: int, size: int) -> JsonPage:
        """Page `number`, from 1: meant for the first few."""
        return await self.prepare(query).numbered(number, size, query)

    def prepare(self, query: ListQuery) -> _Numbered:
        key = (self, type(query), query.form)
        known = self._statements.made.get(key)
        if known is None:
            known = self._statements.made[key] = _Numbered(self._statements, self._form, query)
        return known


class _Whole(PageStatement):
    """Of a whole list."""

    def __init__(self, statements: Statements, form: RowForm, query: ListQuery, window: PageArguments) -> None:
        self.query = query  # Whose mark its listing has.
        super().__init__(statements, form, owned(statements.listing(query), query), window, (type(query), query.form))


class _Alone(_Whole):
    """Pages one by one."""

    def __init__(self, statements: Statements, form: RowForm, query: ListQuery, window: PageArguments) -> None:
        super().__init__(statements, form, query, window)
        self._calls = SharedCalls[Any, SplitRow]()

    def _statement(self, writer: RowWriter) -> Select[Any]:
        return self._columns(writer.aggregate(self.bounds.rows(self.listing, bound)))

    async def row(self, bounds: tuple[Any, ...], values: Mapping[str, Any]) -> SplitRow:
        return await self._run({**values, **dict(zip(self.bounds.types, bounds, strict=True))})

    async def _run(self, values: Mapping[str, Any]) -> SplitRow:
        """The statement's one row, for all who ask for it at the same time."""
        raw = await self._statements.raw()
        if self._statements.sqlite:
            return await self._fetch(raw, values)
        bound = tuple([tuple(cast("list[Any]", value)) if isinstance(value, list) else value for value in values.values()])
        return await self._calls.call((raw, bound), lambda: self._fetch(raw, values))

    async def _fetch(self, raw: StatementExecutor, values: Mapping[str, Any]) -> SplitRow:
        [row] = await raw.fetch(self._prepared, values)
        return split_row(row)


class _Part(PageStatement):
    """The part of a page that is of one rank, or the first rows of all; it may count the whole list."""

    def __init__(
        self, statements: Statements, form: RowForm, whole: RankedQuery[Any], part: OrderedQuery[Any], window: PageArguments, key: Hashable
    ) -> None:
        self._whole = whole
        super().__init__(statements, form, part, window, key)

    def _count(self) -> Select[Any]:
        return bounded_count(self._whole, sqlite=self._statements.sqlite)

    def _statement(self, writer: RowWriter) -> Select[Any]:
        return self._columns(writer.aggregate(self.bounds.rows(self.listing, bound)))

    async def row(self, bounds: tuple[Any, ...], values: Mapping[str, Any]) -> SplitRow:
        raw = await self._statements.raw()
        [row] = await raw.fetch(self._prepared, {**values, **dict(zip(self.bounds.types, bounds, strict=True))})
        return split_row(row)


class _ByRank:
    """Pages that are read rank by rank, until they are full."""

    def __init__(self, statements: Statements, form: RowForm, query: ListQuery, listing: RankedQuery[Any], window: PageArguments) -> None:
        self.query, self.listing, self.bounds = query, owned(listing, query), Bounds(listing, window)
        first, *rest = listing.in_order(backward=window.backward)
        forms = {first: form, **dict.fromkeys(rest, replace(form, total=False))}
        key = (type(query), query.form)
        self._ranks = {rank: _Part(statements, each, listing, listing.ranks[rank], window, (key, rank)) for rank, each in forms.items()}
        self.page = self._ranks[first].page
        every, least = listing.by_id, RowForm(form.entity, ())
        self._every = None if every is None else _Part(statements, least, listing, every, PageArguments(), (key, "every"))

    async def row(self, bounds: tuple[Any, ...], values: Mapping[str, Any]) -> SplitRow:
        size, *ends = bounds
        cells, rows = list[bytes](), list[SplitRow]()
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

    def __init__(self, statements: Statements, form: RowForm, query: ListQuery) -> None:
        super().__init__(statements, form, query, PageArguments())

    def _statement(self, writer: RowWriter) -> Select[Any]:
        first = self.bounds.rows(self.listing, bound)
        return self._columns(
            writer.aggregate(first.limit(bindparam("length", type_=BigInteger)).offset(bindparam("skipped", type_=BigInteger)))
        )

    def _count(self) -> Select[Any]:
        return counted(self.listing)

    async def numbered(self, number: int, size: int, query: ListQuery) -> JsonPage:
        row = await self._run({**query.values, "size": number * size, "length": size, "skipped": (number - 1) * size})
        page = self.page((row[0],), self.listing, PageArguments(first=size))
        page.total = row[1] if self._total else 0
        return page


class _Together(_Whole):
    """Pages of one list, which are read together where they are asked for at the same time."""

    def __init__(self, statements: Statements, form: RowForm, query: ListQuery, window: PageArguments) -> None:
        super().__init__(statements, form, query, window)
        self._batchers: BatcherByTarget[Any, Any, Any] = BatcherByTarget(self._fetch, most=PAGES_AT_ONCE)

    def _statement(self, writer: RowWriter) -> Select[Any]:
        return for_each(
            self._statements.requested(self.bounds.types), self._columns(writer.aggregate(self.bounds.rows(self.listing, requested_column)))
        )

    async def row(self, bounds: tuple[Any, ...], _values: Mapping[str, Any]) -> SplitRow:
        return await self._batchers.load(await self._statements.raw(), bounds)

    async def _fetch(self, raw: StatementExecutor, requests: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Any]:
        rows = await raw.fetch(self._prepared, dict(zip(self.bounds.types, map(list, zip(*requests, strict=True)), strict=True)))
        return dict(zip(requests, map(split_row, rows), strict=True))
