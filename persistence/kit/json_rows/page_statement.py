"""The statement for a page: where it begins and ends, what it reads of each row, and what its answer becomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, literal_column, select

from persistence.kit.database.executors.statement_executor import Row
from persistence.kit.json_rows.json_page import JsonPage, RowForm
from persistence.kit.json_rows.placeholders import lines
from persistence.kit.json_rows.row_json import Field, JsonColumn, RowWriter
from persistence.kit.json_rows.statements import REQUESTED, Statements
from persistence.kit.query.paging import COUNT_ROWS, OrderedQuery, PageArguments, bounded_count


class Bounds:
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


def bound(name: str, type_: Any) -> Any:
    return bindparam(name, type_=type_)


def requested_column(name: str, type_: Any) -> Any:
    return literal_column(f"{REQUESTED}.{name}", type_)


SplitRow = Any
"""A statement's row with the lines of its text in the place of that: they are split once for all who share the statement."""


class PageStatement(ABC):
    def __init__(self, statements: Statements, form: RowForm, listing: OrderedQuery[Any], window: PageArguments, key: Hashable) -> None:
        self._statements, self.listing, self.bounds = statements, listing, Bounds(listing, window)
        place = place_of(listing) if form.cursors else ()
        # Without any field, only the number of rows is asked for.
        fields: Sequence[Field] = [*form.texts, *place] or [JsonColumn(listing.id.key)]
        self.width, self._total = len(fields), form.total
        self._total_beside = form.total and not statements.sqlite
        known = (type(self), key, self._total_beside, window.after is None, window.before is None, window.backward)
        self._prepared = statements.aggregated(known, form.entity, fields, self._statement)
        if form.total and statements.sqlite:
            self._prepared = replace(self._prepared, beside=statements.scan((type(self), key), self._totals))
        if listing.scan is not None:
            self._prepared = replace(self._prepared, scans=True)

    @abstractmethod
    def _statement(self, writer: RowWriter) -> Select[Any]: ...

    def _columns(self, page: Select[Any]) -> Select[Any]:
        """The page's single text, and how many rows its whole list has, where that is asked for."""
        total = (self._count().scalar_subquery(),) if self._total_beside else ()
        return select(page.scalar_subquery(), *total)

    def _totals(self) -> Select[Any]:
        """How many rows the whole list has, where that is counted by a statement of its own."""
        return self._count()

    def _count(self) -> Select[Any]:
        return bounded_count(self.listing, sqlite=self._statements.sqlite)

    def page(self, row: SplitRow, listing: OrderedQuery[Any], window: PageArguments) -> JsonPage:
        [page] = self.pages([row], [listing], window)
        return page

    def pages(self, rows: Sequence[SplitRow], listings: Sequence[OrderedQuery[Any]], window: PageArguments) -> list[JsonPage]:
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


def place_of(listing: OrderedQuery[Any]) -> Sequence[JsonColumn]:
    """What a row's cursor is made of."""
    return [JsonColumn(name) for name in (*listing.key_attributes, listing.id.key)]


def split_row(row: Row) -> SplitRow:
    return lines(row[0]), *row[1:]


def for_each(requests: Any, one: Select[Any]) -> Select[Any]:
    """The columns of a statement for each row of what is wanted, in its order."""
    return one.select_from(requests).order_by(requests.c.key)
