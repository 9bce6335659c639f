"""Facets of a list: how many of its rows have each tag, lie in each price range, or are in stock, counted by one statement.

Counts are disjunctive: a facet counts the rows that are left without its own part of the filter, so that a shopper who has chosen one tag sees how
many rows another one would show instead. Facets whose rows are the same share one look at them. Each look ends at FACET_ROWS rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

from sqlalchemy import JSON, BigInteger, Integer, Select, Text, bindparam, case, collate, func, literal, null, select, union_all
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.util import LRUCache

from persistence.kit.errors import InvalidInput
from persistence.kit.parsing.validation import Checks
from persistence.kit.query.entity import Facet, ListQuery
from persistence.kit.query.paging import COUNT_ROWS

FACET_ROWS = COUNT_ROWS  # Where counting ends, for each set of rows: 50 ms of PostgreSQL, 100 ms of SQLite.
MAX_VALUES = 100  # Of one facet: more are no help to anybody.
MAX_BOUNDS = 20
VALUE_BYTES = 300  # Of a counted value, with its label: what it takes in a cache, about.
FORMS = 1_000  # Statements that are kept, as by readers.


class FacetedList(ListQuery, Protocol):
    @property
    def facets(self) -> Mapping[str, Facet]: ...

    def without(self, facet: Facet) -> FacetedList:
        """The same list without the facet's own part of the filter."""
        ...


@dataclass(frozen=True)
class CountValues:
    """The most frequent elements of a list column, or values of a column of texts or whole numbers: by count, then by value."""

    facet: str
    first: int

    def check(self) -> None:
        """Raises: InvalidInput."""
        if not 0 <= self.first <= MAX_VALUES:
            raise InvalidInput.at("first", f"must be between 0 and {MAX_VALUES}")


@dataclass(frozen=True)
class CountRanges:
    """The least and the greatest value of a column, and how many rows lie below the first bound, between two bounds, and from the last one on."""

    facet: str
    bounds: tuple[Decimal, ...]

    def check(self) -> None:
        """Raises: InvalidInput."""
        if len(self.bounds) > MAX_BOUNDS:
            raise InvalidInput.at("bounds", f"must be at most {MAX_BOUNDS}, not {len(self.bounds)}")
        checks = Checks()
        for bound in self.bounds:
            checks.price("bounds", bound)
        checks.finish()
        for place, (low, high) in enumerate(pairwise(self.bounds), 1):
            if low >= high:
                checks.report("bounds", "must be above the one before it", str(place))
        checks.finish()


@dataclass(frozen=True)
class CountFlags:
    """How many rows have a column true, and how many false."""

    facet: str

    def check(self) -> None:
        """There is nothing to be out of bounds."""


@dataclass(frozen=True)
class CountRows:
    """How many rows the facet with the most rows has, up to FACET_ROWS."""

    facet: None = None

    def check(self) -> None:
        """There is nothing to be out of bounds."""


What: TypeAlias = "CountValues | CountRanges | CountFlags | CountRows"


@dataclass(frozen=True)
class FacetRequest:
    """What is to be counted of which list; `mark` tells the list from others."""

    mark: str
    what: What
    query: FacetedList = field(compare=False, repr=False)

    @classmethod
    def of(cls, query: FacetedList, what: What) -> FacetRequest:
        """Raises: InvalidInput."""
        what.check()
        return cls(f"{query.fingerprint} {query.values}", what, query)


@dataclass(frozen=True)
class Ranges:
    least: Decimal | None
    greatest: Decimal | None
    counts: tuple[int, ...]
    """One more than there are bounds."""


@dataclass(frozen=True)
class Counted:
    """What was asked for, how many rows were looked at for it, and how many labels it has."""

    value: Any
    rows: int
    labels: int

    def __len__(self) -> int:
        """Bytes that it takes in a cache, about."""
        return VALUE_BYTES * (1 + self.labels)


async def counts(session: AsyncSession, requests: Sequence[FacetRequest]) -> Mapping[FacetRequest, Counted]:
    """One statement for each list. Requests and lists have been checked."""
    by_list: dict[Hashable, list[FacetRequest]] = {}
    for request in requests:
        by_list.setdefault(request.mark, []).append(request)
    found: dict[FacetRequest, Counted] = {}
    for each in by_list.values():
        found |= await _of_one_list(session, each)
    return found


_statements: LRUCache[Hashable, Any] = LRUCache(FORMS)


async def _of_one_list(session: AsyncSession, requests: Sequence[FacetRequest]) -> Mapping[FacetRequest, Counted]:
    query = requests[0].query
    sqlite = session.get_bind().dialect.name == "sqlite"
    key = (sqlite, type(query), query.form, tuple(_form(request.what) for request in requests))
    statement = _statements.get(key)
    if statement is None:
        statement = _statements[key] = _Counting(query, [request.what for request in requests], sqlite=sqlite)
    values = {**query.values, "rows": FACET_ROWS, **_values(requests)}
    rows: Sequence[Any] = (await session.execute(statement.select, values)).all()
    return {request: statement.counted(place, request.what, rows) for place, request in enumerate(requests)}


def _form(what: What) -> Hashable:
    return (type(what), what.facet, len(what.bounds) if isinstance(what, CountRanges) else None)


def _values(requests: Iterable[FacetRequest]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for place, request in enumerate(requests):
        if isinstance(request.what, CountValues):
            values[f"first_{place}"] = request.what.first
        elif isinstance(request.what, CountRanges):
            values |= {f"bound_{place}_{number}": bound for number, bound in enumerate(request.what.bounds)}
    return values


class _Counting:
    """The statement of one form. Its rows are: the place of a request, a label, and two numbers; and for each set of rows how many there are."""

    def __init__(self, query: FacetedList, whats: Sequence[What], *, sqlite: bool) -> None:
        self._query, self._sqlite = query, sqlite
        self._sets: dict[Hashable, tuple[int, FacetedList, set[str]]] = {}
        self._set_of = [self._needed(what) for what in whats]
        self._matched = [self._rows(place, reduced, columns) for place, reduced, columns in self._sets.values()]
        parts = [part for place, what in enumerate(whats) for part in self._parts(place, what)]
        totals = [_row(-1 - place, null(), func.count(), null(), rows) for place, rows in enumerate(self._matched)]
        self.select = union_all(*totals, *parts)

    def _needed(self, what: What) -> tuple[int, ...]:
        """The sets of rows that are counted."""
        names = list(self._query.facets) if what.facet is None else [what.facet]
        return tuple(dict.fromkeys([self._set(name, counted=what.facet is not None) for name in names]))

    def _set(self, name: str, *, counted: bool) -> int:
        reduced = self._query.without(self._query.facets[name])
        place, _, columns = self._sets.setdefault(reduced.form, (len(self._sets), reduced, set()))
        if counted:
            columns.add(name)
        return place

    def _rows(self, place: int, reduced: FacetedList, names: Iterable[str]) -> Any:
        columns = [self._query.facets[name].column.label(name) for name in sorted(names)] or [literal(1).label("one")]
        rows: Any = reduced.listing().unordered(columns, sqlite=self._sqlite)
        return rows.limit(bindparam("rows", type_=Integer)).cte(f"matched_{place}")

    def _parts(self, place: int, what: What) -> Sequence[Select[Any]]:
        if isinstance(what, CountRows):
            return ()
        rows = self._matched[self._set_of[place][0]]
        column = rows.c[what.facet]
        match what:
            case CountValues():
                return (self._by_value(place, rows, column),)
            case CountRanges():
                return _by_range(place, rows, column, len(what.bounds))
            case CountFlags():
                return (_row(place, null(), func.count().filter(column), func.count().filter(~column), rows),)

    def _by_value(self, place: int, rows: Any, column: Any) -> Select[Any]:
        # Many rows have the same list: each is taken apart once.
        each = select(column.label("value"), func.count().label("rows")).select_from(rows).group_by(column).subquery(f"each_{place}")
        value = self._elements(each.c.value) if isinstance(column.type, JSON) else each.c.value
        label = collate(sql_cast(value, Text), "BINARY" if self._sqlite else "C").label("label")
        number = func.sum(each.c.rows).label("number")
        found = select(label, number).select_from(each).group_by(label).order_by(number.desc(), label)
        most = found.limit(bindparam(f"first_{place}", type_=Integer)).subquery(f"values_{place}")
        return _row(place, most.c.label, most.c.number, null(), most)

    def _elements(self, column: Any) -> Any:
        elements = func.json_each(column) if self._sqlite else func.jsonb_array_elements_text(column)
        return elements.table_valued("value", joins_implicitly=True, name="element").c.value

    def counted(self, place: int, what: What, rows: Sequence[Any]) -> Counted:
        totals = [row[2] for each in self._set_of[place] for row in rows if row[0] == -1 - each]
        own = [(label, number, other) for owner, label, number, other in rows if owner == place]
        return Counted(_value(what, own, max(totals)), sum(totals), len(own))


def _row(place: int, label: Any, number: Any, other: Any, rows: Any) -> Any:
    columns: list[Any] = [literal(place, Integer), sql_cast(label, Text), sql_cast(number, BigInteger), sql_cast(other, BigInteger)]
    return select(*columns).select_from(rows)


ENDS = "ends"


def _by_range(place: int, rows: Any, column: Any, bounds: int) -> Sequence[Select[Any]]:
    below = [(column < bindparam(f"bound_{place}_{number}", type_=column.type), number) for number in range(bounds)]
    bucket: Any = case(*below, else_=bounds) if below else literal(0, Integer)
    buckets = select(bucket.label("bucket")).select_from(rows).subquery(f"buckets_{place}")
    return (
        _row(place, literal(ENDS), func.min(column), func.max(column), rows),
        _row(place, null(), buckets.c.bucket, func.count(), buckets).group_by(buckets.c.bucket),
    )


def _value(what: What, rows: Sequence[tuple[str | None, int, int]], most: int) -> Any:
    match what:
        case CountValues():
            return sorted([(label, number) for label, number, _ in rows], key=lambda each: (-each[1], each[0]))
        case CountRanges(_, bounds):
            [(least, greatest)] = [(number, other) for label, number, other in rows if label == ENDS]
            by_bucket = {number: other for label, number, other in rows if label is None}
            found = tuple([by_bucket.get(bucket, 0) for bucket in range(len(bounds) + 1)])
            return Ranges(_amount(least), _amount(greatest), found)
        case CountFlags():
            [(_, yes, no)] = rows
            return yes, no
        case CountRows():
            return most


def _amount(cents: int | None) -> Decimal | None:
    return None if cents is None else Decimal(cents).scaleb(-2)
