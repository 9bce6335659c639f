"""Pages of the rows that point to a parent, for many parents at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import BigInteger, Select, select

from persistence.kit.database.executors.statement_executor import StatementExecutor
from persistence.kit.json_rows.json_page import JsonPage, RowForm
from persistence.kit.json_rows.page_statement import PageStatement, SplitRow, bound, for_each, requested_column, split_row
from persistence.kit.json_rows.row_json import RowWriter
from persistence.kit.json_rows.statements import Statements
from persistence.kit.query.batching import BatcherByTarget
from persistence.kit.query.entity import ChildList, counted
from persistence.kit.query.paging import OrderedQuery, PageArguments

CHILD_PAGES_AT_ONCE = 500  # Of different parents: few of them have as many rows as a page can show.


class ChildPages:
    """Pages of the rows that point to a parent, for many parents at once."""

    def __init__(self, statements: Statements, form: RowForm, children: ChildList) -> None:
        self._statements, self._form, self._children = statements, form, children
        self._listing = statements.of_parents(children)
        self._by_ends: dict[tuple[bool, bool, bool], _Children] = {}

    async def pages(self, parents: Sequence[int], window: PageArguments) -> Sequence[JsonPage]:
        """One for each parent. Raises: InvalidInput, if a cursor is not fit for one of them."""
        known = self.prepare(window)
        listings = self.listings(parents, window)
        own = known.bounds.values
        bounds = [own(listing, window) for listing in listings] if known.bounds.ends else [own(known.listing, window)] * len(parents)
        rows = await known.rows(parents, bounds)
        return known.pages(rows, listings, window)

    def listings(self, parents: Sequence[int], window: PageArguments) -> Sequence[OrderedQuery[Any]]:
        """Each with its own mark, which stands in cursors, where there are any."""
        marked = self._form.cursors or not window.is_open
        return list(map(self.listing_of, parents)) if marked else [self._listing] * len(parents)

    def listing_of(self, parent: int) -> OrderedQuery[Any]:
        known = self._statements.listings.get((self, parent))
        if known is None:
            known = self._statements.listings[self, parent] = replace(self._listing, fingerprint=self._children.fingerprint_of(parent))
        return known

    def prepare(self, window: PageArguments) -> _Children:
        key = (window.after is None, window.before is None, window.backward)
        known = self._by_ends.get(key)
        if known is None:
            known = self._by_ends[key] = _Children(self._statements, self._form, self._children, window)
        return known


class _Children(PageStatement):
    def __init__(self, statements: Statements, form: RowForm, children: ChildList, window: PageArguments) -> None:
        super().__init__(statements, form, statements.of_parents(children), window, children)
        self._batchers: BatcherByTarget[Any, Any, Any] = BatcherByTarget(self._fetch, most=CHILD_PAGES_AT_ONCE)

    def _count(self) -> Select[Any]:
        return counted(self.listing)  # A bound would need a subquery of its own, which cannot see the parent.

    def _totals(self) -> Select[Any]:
        return for_each(self._statements.requested({}), select(self._count().scalar_subquery()))

    @property
    def _types(self) -> Mapping[str, Any]:
        return {"parent": BigInteger(), **self.bounds.types}

    def _statement(self, writer: RowWriter) -> Select[Any]:
        # SQLite wants no column for a limit. All parents of a call have the same window, so its values can be bound.
        rows = self.bounds.rows(self.listing, bound if self._statements.sqlite else requested_column)
        return for_each(self._statements.requested(self._types), self._columns(writer.aggregate(rows)))

    async def rows(self, parents: Sequence[int], bounds: Sequence[tuple[Any, ...]]) -> Sequence[SplitRow]:
        raw = await self._statements.raw()
        if not self._statements.sqlite:
            return await self._batchers.many(raw, [(parent, *each) for parent, each in zip(parents, bounds, strict=True)])
        values = {"value": self._statements.listed(parents), **dict(zip(self.bounds.types, bounds[0], strict=True))}
        return list(map(split_row, await raw.fetch(self._prepared, values)))

    async def _fetch(self, raw: StatementExecutor, requests: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Any]:
        rows = await raw.fetch(self._prepared, dict(zip(self._types, map(list, zip(*requests, strict=True)), strict=True)))
        return dict(zip(requests, map(split_row, rows), strict=True))
