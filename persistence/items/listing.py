"""Lists of items: filter, search and order; keyset pages, numbered pages, and streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from operator import eq, ge, le, lt
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, false, select
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.items.table import ENTITY, SPELLINGS, Item
from persistence.kit.finding import relevance
from persistence.kit.finding.near_words import SAMPLE, correct
from persistence.kit.parsing.validation import Checks
from persistence.kit.query import entity
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
from persistence.kit.query.paging import ComputedKey, OrderedQuery, Page, PageArguments
from persistence.kit.query.ranked import RankedQuery
from persistence.kit.search import tokenizer
from persistence.kit.search.ordered_scan import OrderedScan
from persistence.kit.search.tokenizer import Words

TAG_LENGTH = 200  # Longer than any tag.
FILTER_TAGS = 20
STREAMED = ("id", "name", "description", "price", "tags", "inventory", "created_at", "external_id")
_LIVE = Item.deleted_at.is_(None)


class OrderField(Enum):
    ID = "id"
    NAME = "name"
    PRICE = "price"
    CREATED_AT = "created_at"
    INVENTORY = "inventory"
    RELEVANCE = "relevance"


@dataclass(frozen=True)
class Order:
    field: OrderField = OrderField.ID
    descending: bool = False


@dataclass(frozen=True)
class Filter:
    """Conditions that all hold; None is no condition. Created from `created_after`, inclusive, to `created_before`, exclusive.

    Raises: InvalidInput, for what is out of its bounds, so that nobody has to check it again.
    """

    search: str | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    tags_any: Sequence[str] | None = None
    tags_all: Sequence[str] | None = None
    in_stock: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    owner_id: int | None = None
    near: Words | None = field(default=None, repr=False)
    """What is searched for in place of `search`, which found nothing; the list's cursors are those of `search`."""

    def __post_init__(self) -> None:
        for name in ("tags_any", "tags_all"):
            if (tags := getattr(self, name)) is not None:
                object.__setattr__(self, name, [tag.strip() for tag in tags])  # As items keep them.
        self._check()

    def _check(self) -> None:
        checks = Checks()
        tokenizer.check(checks, "search", self.search)
        for name, price in (("priceMin", self.price_min), ("priceMax", self.price_max)):
            if price is not None:
                checks.price(name, price)
        for name, tags in (("tagsAny", self.tags_any), ("tagsAll", self.tags_all)):
            if tags is not None and len(tags) > FILTER_TAGS:
                checks.report(name, f"must be at most {FILTER_TAGS} tags")
            for place, tag in enumerate(tags or ()):
                checks.text(name, tag, most=TAG_LENGTH, deeper=(str(place),))
        checks.finish()

    def but(self, **changes: Any) -> Filter:
        """The same filter with other parts. These come from a filter, not from a client: nothing is checked again."""
        derived = object.__new__(Filter)
        derived.__dict__.update({part.name: getattr(self, part.name) for part in fields(self)} | changes)
        return derived

    @cached_property
    def words(self) -> Words | None:
        """What is searched for, if anything is."""
        return self.near or (Words.of(self.search) if self.search and self.search.strip() else None)

    @property
    def ranked_words(self) -> Words | None:
        """By which rows can be ranked; without any word all are as good."""
        return self.words if self.words is not None and self.words.groups else None

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """What the conditions are given, by the names of their parameters."""
        values = {name: value for name in _BOUNDS if (value := getattr(self, name)) is not None}
        if self.words is not None:
            values |= searching(self.words)
        for name, tags in (("tags_any", self.tags_any), ("tags_all", self.tags_all)):
            if tags:
                values |= containing(tags, name)
        return values

    @cached_property
    def shape(self) -> tuple[Any, ...]:
        """The same for filters whose conditions differ in nothing but their values."""
        return (*self.values, self.in_stock, self.tags_any is not None and not self.tags_any)

    def condition(self, words: Words | None = None, name: str = "search") -> ColumnElement[bool]:
        """With `words`, for these in place of what is searched for."""
        found: list[ColumnElement[bool]] = []
        if (searched := words or self.words) is not None:
            found.append(matches(Item.id, Item.search_words, searched, name))
        if self.tags_any:
            found.append(indexed_any(Item.id, Item.tags, self.tags_any, "tags_any"))
        if self.tags_all:
            found.append(indexed_all(Item.id, Item.tags, self.tags_all, "tags_all"))
        return and_(_LIVE, *found, *self._bounds())

    def scan(self, words: Words | None = None, name: str = "search") -> OrderedScan | None:
        others: list[ColumnElement[bool]] = []
        if self.tags_any:
            others.append(contains_any(Item.tags, self.tags_any, "tags_any"))
        if self.tags_all:
            others.append(contains_all(Item.tags, self.tags_all, "tags_all"))
        ranged = any(getattr(self, name) is not None for name in _RANGES)
        bounds = self._bounds()
        if (searched := words or self.words) is None:
            return OrderedScan(_LIVE, and_(*others, *bounds)) if others or ranged else None
        index = word_index(Item.search_words, searched, [*others, *bounds], name)
        return OrderedScan(_LIVE, and_(shows(Item.search_words, searched, name), *others, *bounds), index)

    def _bounds(self) -> Sequence[ColumnElement[bool]]:
        """All but what an index of words or tags is for."""
        conditions: list[ColumnElement[bool]] = []
        for name, (column, holds) in _BOUNDS.items():
            if (value := getattr(self, name)) is not None:
                # An owner may be a column: `listing_of_owner`.
                conditions.append(holds(column, value if isinstance(value, ColumnElement) else bindparam(name, value, column.type)))
        if self.tags_any is not None and not self.tags_any:
            conditions.append(false())
        if self.in_stock is not None:
            conditions.append(Item.in_stock.is_(self.in_stock))
        return conditions


_BOUNDS: Mapping[str, tuple[Any, Callable[[Any, Any], ColumnElement[bool]]]] = {
    "price_min": (Item.price, ge),
    "price_max": (Item.price, le),
    "created_after": (Item.created_at, ge),
    "created_before": (Item.created_at, lt),
    "owner_id": (Item.owner_id, eq),
}
# What few rows may fit, wherever they stand in the list's order: reading along it could take the whole table.
_RANGES = ("price_min", "price_max", "created_after", "created_before")
NO_FILTER = Filter()


def listing(filter_: Filter, order: Order) -> OrderedQuery[Item]:
    statement, mark = select(Item).where(filter_.condition()), fingerprint(filter_, order)
    if order.field is not OrderField.RELEVANCE:
        return OrderedQuery(statement, getattr(Item, order.field.value), Item.id, order.descending, mark, filter_.scan())
    if (words := filter_.ranked_words) is None:
        return OrderedQuery(statement, Item.id, Item.id, order.descending, mark, filter_.scan())
    ranks = [_of_rank(filter_, order, rank, each) for rank, each in enumerate(relevance.ranked(words))]
    key = relevance.rank_of(Item.search_words, words)
    by_id = listing(filter_, Order())
    return RankedQuery(statement, key, Item.id, order.descending, mark, computed=relevance_key(words), ranks=ranks, by_id=by_id)


def _of_rank(filter_: Filter, order: Order, rank: int, words: Words) -> OrderedQuery[Item]:
    name = relevance.name_of(rank)
    rows, key = select(Item).where(filter_.condition(words, name)), relevance_key(words)
    return OrderedQuery(rows, Item.id, Item.id, order.descending, name, filter_.scan(words, name), key)


def relevance_key(words: Words) -> ComputedKey:
    return relevance.key("search_words", words)


def fingerprint(filter_: Filter, order: Order) -> str:
    """Tells this list's cursors from those of any other."""
    return repr((filter_, order))


FACETS: Mapping[str, Facet] = {
    "tags": Facet(Item.tags, ("tags_any", "tags_all")),
    "price": Facet(Item.price, ("price_min", "price_max")),
    "stock": Facet(Item.in_stock, ("in_stock",)),
}


@dataclass(frozen=True)
class ItemList:
    """The catalogue, or what a filter leaves of it, in an order."""

    filter: Filter = NO_FILTER
    order: Order = Order()
    did_you_mean: str | None = None
    """What would have found these items, if what was searched for found none."""

    @property
    def entity(self) -> Entity[Item]:
        return ENTITY

    @property
    def facets(self) -> Mapping[str, Facet]:
        return FACETS

    def without(self, facet: Facet) -> ItemList:
        return replace(self, filter=self.filter.but(**dict.fromkeys(facet.selected_by)), order=Order())

    @property
    def form(self) -> Hashable:
        return self.filter.shape, self.order

    @property
    def values(self) -> Mapping[str, Any]:
        words = self._ranked_words
        return self.filter.values if words is None else {**self.filter.values, **relevance.values(words)}

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.filter, self.order)

    @property
    def computed(self) -> ComputedKey | None:
        words = self._ranked_words
        return None if words is None else relevance_key(words)

    @property
    def _ranked_words(self) -> Words | None:
        return self.filter.ranked_words if self.order.field is OrderField.RELEVANCE else None

    async def corrected(self, session: AsyncSession, *, empty: bool) -> ItemList | None:
        """By the words alone: whether they find something does not depend on the rest of the filter."""
        search_ = self.filter.search
        if search_ is None or self.filter.words is None or self.filter.near is not None:
            return None

        def rows_of(words: Words) -> Select[Any]:
            return listing(NO_FILTER.but(search=search_, near=words), Order()).first_rows(SAMPLE).with_only_columns(Item.search_words)

        found_nothing = empty and self.filter == NO_FILTER.but(search=search_)
        correction = await correct(session, SPELLINGS, search_, rows_of, found_nothing=found_nothing)
        if correction is None:
            return None
        return replace(self, filter=self.filter.but(near=correction.words), did_you_mean=correction.query)

    def listing(self) -> OrderedQuery[Item]:
        return listing(self.filter, self.order)


async def page(session: AsyncSession, filter_: Filter, order: Order, window: PageArguments) -> Page[Item]:
    """Raises: InvalidInput, for a cursor of another list."""
    return await entity.page(session, ItemList(filter_, order), window)


def selected(filter_: Filter, limit: int | None) -> Select[Any]:
    """All items of the list, or the first ones, in order of id."""
    found = listing(filter_, Order())
    return found.statement.order_by(Item.id) if limit is None else found.first_rows(limit)


async def count(session: AsyncSession, filter_: Filter) -> int:
    """All of them, however many: a connection counts less far."""
    return await session.scalar(entity.counted(listing(filter_, Order()))) or 0


def listing_of_owner(owner_id: Any) -> OrderedQuery[Item]:
    return listing(NO_FILTER.but(owner_id=owner_id), Order())


BY_OWNER = ChildList(
    ENTITY,
    "owner_id",
    listing_of_owner,
    lambda owner_id: fingerprint(NO_FILTER.but(owner_id=owner_id), Order()),
    lambda owner_id: ItemList(NO_FILTER.but(owner_id=owner_id)),
)


async def numbered_page(session: AsyncSession, filter_: Filter, *, number: int, size: int) -> Sequence[Item]:
    """Page `number`, from 1, in order of id. It counts through the pages before: meant for the first few."""
    statement = listing(filter_, Order()).first_rows(number * size).limit(size).offset((number - 1) * size)
    return (await session.scalars(statement)).all()


def stream(session: AsyncSession, filter_: Filter, *, limit: int | None) -> AsyncGenerator[Sequence[Any]]:
    """The STREAMED attributes of items in order of id, some rows at a time, at constant memory."""
    return entity.stream(session, ItemList(filter_), STREAMED, limit=limit)
