"""Pages of lists of one form by a statement that is made once, for any cursors and any size: for one window, or for many together.

Together, PostgreSQL reads each page from the index as it does alone; what it saves is the round trip, which takes a process longer than the page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, column, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from persistence.kit.query.paging import Listing, Window

T = TypeVar("T")
WANTED = "wanted"


class Cut(Generic[T]):
    """Of lists that differ from this one in the values of their filter, the windows that have the same ends as this one."""

    def __init__(self, listing: Listing[T], window: Window) -> None:
        self._listing, self._backward = listing, window.backward
        self._ends = tuple(name for name in ("after", "before") if getattr(window, name) is not None)
        self._types: dict[str, Any] = {"size": BigInteger()}
        for end in self._ends:
            self._types |= {f"{end}_key": listing.key.type, f"{end}_id": listing.id.type}
        self.names = tuple(self._types)

    def values(self, listing: Listing[T], window: Window) -> tuple[Any, ...]:
        """What the statement is to be given for a window of a list, by `names`. Raises: InvalidInput."""
        values: list[Any] = [window.size + 1]  # The last one tells that there are more.
        for end in self._ends:
            values += listing.position(getattr(window, end), end)
        return tuple(values)

    def alone(self, shown: Callable[[Select[Any]], Select[Any]]) -> Select[Any]:
        """What is shown of one window's rows."""
        return shown(self._rows(lambda name, type_: bindparam(name, type_=type_)))

    def together(self, shown: Callable[[Select[Any]], Select[Any]]) -> Select[Any]:
        """The same of many windows, for a list of values by each name: a row for each window, in their order. `shown` makes one row of all."""
        page = shown(self._rows(lambda name, type_: literal_column(f"{WANTED}.{name}", type_))).lateral("page")
        lists = [bindparam(name, type_=ARRAY(type_)) for name, type_ in self._types.items()]
        columns = [column(name, type_) for name, type_ in self._types.items()]
        wanted = func.unnest(*lists).table_valued(*columns, with_ordinality="place").render_derived(name=WANTED)
        return select(*page.c).select_from(wanted.join(page, true())).order_by(wanted.c.place)

    def _rows(self, given: Callable[[str, Any], ColumnElement[Any]]) -> Select[Any]:
        value = {name: given(name, type_) for name, type_ in self._types.items()}
        after, before = ((value[f"{end}_key"], value[f"{end}_id"]) if end in self._ends else None for end in ("after", "before"))
        return self._listing.selected(after, before, backward=self._backward, count=value["size"])
