"""Pages of one list by statements that are made once, for any cursors and any size: for one window, or for many together.

Together, PostgreSQL reads each page from the index as it does alone; what it saves is the round trip, which takes a process longer than the page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, column, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect

from persistence.kit.paging import Listing, Window

T = TypeVar("T")
WANTED = "wanted"


class Cut(Generic[T]):
    """The windows of a list that have the same ends as this one."""

    def __init__(self, listing: Listing[T], window: Window, dialect: Dialect) -> None:
        self._listing, self._backward = listing, window.backward
        self._ends = tuple(name for name in ("after", "before") if getattr(window, name) is not None)
        self._bind: Callable[[Any], Any] = listing.key.type.bind_processor(dialect) or _as_it_is
        self._types: dict[str, Any] = {"size": BigInteger()}
        for end in self._ends:
            self._types |= {f"{end}_key": listing.key.type, f"{end}_id": listing.id.type}
        self.names = tuple(self._types)

    def values(self, window: Window) -> tuple[Any, ...]:
        """What the driver is to be given for a window, by `names`. Raises: InvalidInput."""
        values: list[Any] = [window.size + 1]  # The last one tells that there are more.
        for end in self._ends:
            key, id_ = self._listing.position(getattr(window, end), end)
            values += (self._bind(key), id_)
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
        return self._listing.cut(self._listing.statement, after, before, backward=self._backward).limit(value["size"])


def _as_it_is(key: Any) -> Any:
    return key
