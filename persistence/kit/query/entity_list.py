"""Lists of an entity's rows: conditions, words to search for, and an order, each declared by the names of attributes.

A list is a value, and clients choose nothing but values in it: lists of one form share a statement, whose parameters are bound.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import Enum
from functools import cached_property
from operator import eq, ge, gt, le, lt
from typing import Any, ClassVar, Self

from sqlalchemy import Boolean, ColumnElement, Select, and_, bindparam, false, select, true

from persistence.kit.parsing.validation import Checks, client_name
from persistence.kit.query.conditions import (
    containing,
    contains_all,
    contains_any,
    indexed_all,
    indexed_any,
    matches,
    searching,
    shows,
    word_index,
)
from persistence.kit.query.entity import ChildList, Entity, Facet
from persistence.kit.query.paging import OrderedQuery
from persistence.kit.search import tokenizer
from persistence.kit.search.ordered_scan import OrderedScan
from persistence.kit.search.tokenizer import Words

TEXT_LENGTH = 200  # Longer than any value that a list is filtered by.
LISTED = 20  # Values of a condition on a column that holds a list.


class Comparison(Enum):
    """How an attribute is compared with a value. The last two are of a column that holds a list of texts, and of several values."""

    EQUAL = "equal"
    AT_LEAST = "at least"
    AT_MOST = "at most"
    ABOVE = "above"
    BELOW = "below"
    ANY_OF = "any of"
    ALL_OF = "all of"


_HOLDS: Mapping[Comparison, Callable[[Any, Any], ColumnElement[bool]]] = {
    Comparison.EQUAL: eq,
    Comparison.AT_LEAST: ge,
    Comparison.AT_MOST: le,
    Comparison.ABOVE: gt,
    Comparison.BELOW: lt,
}
_INDEXED = {Comparison.ANY_OF: indexed_any, Comparison.ALL_OF: indexed_all}
_CONTAINS = {Comparison.ANY_OF: contains_any, Comparison.ALL_OF: contains_all}


@dataclass(frozen=True)
class Condition:
    """`name` is the value's, as it is called in the code: `price_min`."""

    name: str
    attribute: str
    comparison: Comparison
    value: Any

    @property
    def is_listed(self) -> bool:
        return self.comparison in _INDEXED

    @property
    def is_fixed(self) -> bool:
        """Whether the value is part of the statement: there are two of them, or none."""
        return isinstance(self.value, bool) or self.value == ()

    @property
    def form(self) -> Hashable:
        return self.name, self.attribute, self.comparison, self.value if self.is_fixed else None

    def check(self, checks: Checks) -> None:
        name = client_name(self.name)
        if self.is_listed and len(self.value) > LISTED:
            checks.report(name, f"must be at most {LISTED} {self.attribute}")
        for place, text in enumerate(self.value if self.is_listed else ()):
            checks.text(name, text, most=TEXT_LENGTH, deeper=(str(place),))
        if isinstance(self.value, str):
            checks.text(name, self.value, most=TEXT_LENGTH)
        if isinstance(self.value, Decimal):
            checks.price(name, self.value)

    @property
    def values(self) -> Mapping[str, Any]:
        if self.is_fixed:
            return {}
        return containing(self.value, self.name) if self.is_listed else {self.name: self.value}

    def holds(self, entity: Entity[Any], *, indexed: bool) -> ColumnElement[bool]:
        """The condition in SQL; with `indexed`, one that an index of the column's elements answers."""
        model: Any = entity.model
        column = getattr(model, self.attribute)
        if self.value == ():
            return false() if self.comparison is Comparison.ANY_OF else true()
        if self.is_listed and indexed:
            return _INDEXED[self.comparison](model.id, column, self.value, self.name)
        if self.is_listed:
            return _CONTAINS[self.comparison](column, self.value, self.name)
        if isinstance(column.type, Boolean):
            return column.is_(self.value)
        return _HOLDS[self.comparison](column, bindparam(self.name, self.value, column.type))


@dataclass(frozen=True)
class SortOrder:
    """By an attribute that is never null; rows with equal values follow by their ids."""

    attribute: str = "id"
    descending: bool = False


@dataclass(frozen=True)
class EntityList:
    """The rows of an entity that fulfil all conditions and hold the words, in an order.

    Raises: InvalidInput, with a problem for each value that is out of its bounds, so that nobody has to check it again.
    """

    entity: Entity[Any]
    order: SortOrder = SortOrder()
    conditions: tuple[Condition, ...] = ()
    search: str | None = None
    facets: Mapping[str, Facet] = field(default_factory=dict[str, Facet], compare=False, repr=False)
    """What can be counted of the whole list."""
    computed_orders: ClassVar[tuple[str, ...]] = ()
    """What else than a column it can be ordered by."""

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        checks = Checks()
        tokenizer.check(checks, "search", self.search)
        for condition in self.conditions:
            condition.check(checks)
        checks.finish()

    def without(self, facet: Facet) -> EntityList:
        """The same list without the facet's own conditions; for counts an order is of no matter."""
        others = tuple(condition for condition in self.conditions if condition.name not in facet.selected_by)
        return self.but(conditions=others, order=SortOrder())

    def but(self, **changes: Any) -> Self:
        """The same list with other parts. These come from the program or from a list, not from a client: nothing is checked again."""
        derived = object.__new__(type(self))
        derived.__dict__.update({part.name: getattr(self, part.name) for part in fields(self)} | changes)
        return derived

    @cached_property
    def words(self) -> Words | None:
        """What is searched for, if anything is."""
        return Words.of(self.search) if self.search and self.search.strip() else None

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of the statement's parameters."""
        return self._values

    @cached_property
    def _values(self) -> Mapping[str, Any]:
        values = {name: value for condition in self.conditions for name, value in condition.values.items()}
        return values if self.words is None else {**values, **searching(self.words)}

    @property
    def form(self) -> Hashable:
        return self._form

    @cached_property
    def _form(self) -> Hashable:
        return self.entity.model, self.order, *(condition.form for condition in self.conditions), *self.values

    @property
    def fingerprint(self) -> str:
        return repr((self.entity.model.__tablename__, self.order, self.conditions, self.search))

    def listing(self) -> OrderedQuery[Any]:
        model: Any = self.entity.model
        key = getattr(model, self.order.attribute)
        return OrderedQuery(self._rows(self.words), key, model.id, self.order.descending, self.fingerprint, self._scan(self.words))

    def _rows(self, words: Words | None, name: str = "search") -> Select[Any]:
        """With what an index of words answers; `name` is that of their parameters."""
        model: Any = self.entity.model
        found = () if words is None else (matches(model.id, self._words_column, words, name),)
        return select(model).where(*self.entity.present, *found, *self._conditions(indexed=True))

    def _scan(self, words: Words | None, name: str = "search") -> OrderedScan | None:
        """What few rows may fit, wherever they stand in the list's order: reading along it could take the whole table."""
        if words is None and all(condition.is_fixed for condition in self.conditions):
            return None
        present, others = and_(true(), *self.entity.present), self._conditions(indexed=False)
        if words is None:
            return OrderedScan(present, and_(*others))
        index = word_index(self._words_column, words, others, name)
        return OrderedScan(present, and_(shows(self._words_column, words, name), *others), index)

    def _conditions(self, *, indexed: bool) -> Sequence[ColumnElement[bool]]:
        return [condition.holds(self.entity, indexed=indexed) for condition in self.conditions]

    @property
    def _words_column(self) -> Any:
        return getattr(self.entity.model, self.entity.words or "")


def index_of(entity: Entity[Any], attribute: str) -> str:
    """What to write for the index that is missing."""
    table = entity.model.__tablename__
    return f'add Index("ix_{table}_{attribute}", "{attribute}", "id") to its __table_args__, and a migration'


def children(rows: EntityList, foreign_key: str) -> ChildList:
    """The rows of a list that point to one parent by this attribute. Raises: TypeError, if no index has them side by side."""
    if not rows.entity.is_indexed(foreign_key):
        raise TypeError(f"{rows.entity.model.__name__}.{foreign_key} has no index: {index_of(rows.entity, foreign_key)}")
    assert rows.search is None and not rows.conditions, "the statement of a filtered list scans the whole table"  # noqa: PT018 -- one reason
    column = getattr(rows.entity.model, foreign_key)

    def fingerprint(parent: Any) -> str:
        return f"{rows.fingerprint} {foreign_key} {parent}"

    def listing(parent: Any) -> OrderedQuery[Any]:
        whole = rows.listing()
        return replace(whole, statement=whole.statement.where(column == parent), fingerprint=fingerprint(parent))

    def query(parent: int) -> EntityList:
        return rows.but(conditions=(Condition(foreign_key, foreign_key, Comparison.EQUAL, parent),))

    return ChildList(rows.entity, foreign_key, listing, fingerprint, query)
