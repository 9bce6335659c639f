"""Keyset pagination: `WHERE (key, id) > (…) ORDER BY key, id LIMIT n`, which costs the same at the end of a table as at its start.

A cursor holds the sort key and id of one row, and a mark of the list that it was made for: used with another filter or order it is refused,
since it would silently skip rows there.
"""

from __future__ import annotations

import base64
import hashlib
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import BigInteger, Select, func, literal, select, tuple_, union
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.errors import InvalidInput
from persistence.kit.parsing import values as parsing
from persistence.kit.search import ordered_scan
from persistence.kit.search.ordered_scan import OrderedScan, Position, SortColumns

T = TypeVar("T")

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
COUNT_ROWS = 10_000  # Where counting a list ends: some milliseconds of a database.
CURSOR_LENGTH = 2_000  # Characters; the longest honest one holds a name of 200 characters, escaped.
ID_BOUND = 2**63
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
INTEGER_BOUND = 2**31  # Beyond, PostgreSQL compares no column of type INTEGER with it.


@dataclass(frozen=True)
class PageArguments:
    """Which rows of an ordered list: the first ones after a cursor, or the last ones before a cursor. An empty cursor is none.

    Raises: InvalidInput, for both ends at once and for more than MAX_PAGE_SIZE rows, so that nobody has to check it again.
    """

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        if self.after == "" or self.before == "":
            object.__setattr__(self, "after", self.after or None)
            object.__setattr__(self, "before", self.before or None)
        self._check()

    def _check(self) -> None:
        if self.first is not None and self.last is not None:
            raise InvalidInput.at("last", "give first or last, not both")
        if not 0 <= self.size <= MAX_PAGE_SIZE:
            raise InvalidInput.at("last" if self.backward else "first", f"must be between 0 and {MAX_PAGE_SIZE}")

    @property
    def size(self) -> int:
        if self.last is not None:
            return self.last
        return PAGE_SIZE if self.first is None else self.first

    @property
    def backward(self) -> bool:
        return self.last is not None

    @property
    def is_open(self) -> bool:
        """Whether it begins at an end of the list."""
        return self.after is None and self.before is None


@dataclass(frozen=True)
class ComputedKey:
    """A sort key that is no column: what Python makes of some attributes of a row, for its cursor, as SQL does to order the rows."""

    attributes: tuple[str, ...]
    value: Callable[..., Any]


@dataclass(frozen=True)
class OrderedQuery(Generic[T]):
    """One ordered, filtered list of rows. `fingerprint` names its filter and order, and is part of every cursor; `scan` is given where words are searched.

    `branches` are statements whose rows together are the list's, each of which an index has in the list's order. An index of none has them all: the first
    rows of each are read and merged.
    """

    statement: Select[T]
    key: Any  # Mapped attributes, typed loosely: as dataclass fields the type checker takes them for descriptors.
    id: Any
    descending: bool
    fingerprint: str
    scan: OrderedScan | None = None
    computed: ComputedKey | None = None
    branches: Sequence[Select[Any]] = ()

    def page_statement(self, window: PageArguments) -> Select[T]:
        """The rows of the window and one more, which tells that there are more; in reverse for a backward window."""
        return self.selected(*self.positions(window), backward=window.backward, count=window.size + 1)

    def positions(self, window: PageArguments) -> tuple[Position | None, Position | None]:
        """Raises: InvalidInput, for a cursor of another list."""
        after = None if window.after is None else self.position(window.after, "after")
        return after, None if window.before is None else self.position(window.before, "before")

    async def rows(self, session: AsyncSession, window: PageArguments) -> Sequence[T]:
        """Those of `page_statement`."""
        return (await session.scalars(self.page_statement(window))).all()

    def first_rows(self, count: int) -> Select[T]:
        return self.selected(None, None, backward=False, count=count)

    def selected(self, after: Position | None, before: Position | None, *, backward: bool, count: Any) -> Select[T]:
        """The first rows between two positions, or the last ones in reverse; `count` is a number, or SQL for one."""
        if self.scan is not None:
            return ordered_scan.page(self, self.scan, after, before, backward=backward, count=count)
        if self.branches:
            return self._merged(after, before, backward=backward, count=count)
        return self.slice(self.statement, after, before, backward=backward).limit(count)

    def _merged(self, after: Position | None, before: Position | None, *, backward: bool, count: Any) -> Select[Any]:
        first: Sequence[Any] = [
            self.slice(branch.with_only_columns(self.id), after, before, backward=backward).limit(count) for branch in self.branches
        ]
        ids: Any = union(*(select(rows.subquery().c[self.id.key]) for rows in first))
        return select(self.id.class_).where(self.id.in_(ids)).order_by(*self.order(backward=backward)).limit(count)

    def unordered(self, columns: Sequence[Any], *, sqlite: bool) -> Select[Any]:
        """All rows, the quickest first, to count some of them."""
        rows: Any = self.statement.with_only_columns(*columns, maintain_column_froms=True).order_by(None)
        scan = self.scan
        if scan is None or scan.words is None:
            return rows
        if sqlite:
            return ordered_scan.by_words(self.id, scan, scan.words, columns) if scan.words.alone else rows
        # Where PostgreSQL reads along the table, a look at the words is quicker than making a tsvector of them.
        return rows.where(scan.shown)

    def slice(self, statement: Select[Any], after: Position | None, before: Position | None, *, backward: bool) -> Select[Any]:
        """The rows between two positions, in order, or in reverse to take the last of them."""
        return statement.where(*self.keyset_conditions(after, before)).order_by(*self.order(backward=backward))

    def keyset_conditions(self, after: Position | None, before: Position | None, *, of: SortColumns | None = None) -> list[Any]:
        """Conditions of the rows between two positions; `of` is the place to look at instead of the entity's own."""
        return [
            self._beyond(position, of or (self.key, self.id), ascending=forward != self.descending)
            for position, forward in ((after, True), (before, False))
            if position is not None
        ]

    def order(self, *, backward: bool, of: SortColumns | None = None) -> Sequence[Any]:
        key, id_ = of or (self.key, self.id)
        columns = [id_] if self.key is self.id else [key, id_]
        return [column.desc() if self.descending != backward else column.asc() for column in columns]

    def _beyond(self, position: Position, of: SortColumns, *, ascending: bool) -> Any:
        key, id_ = of
        if self.key is self.id:
            return id_ > position[1] if ascending else id_ < position[1]
        there = tuple_(*position, types=(self.key.type, self.id.type))
        return tuple_(key, id_) > there if ascending else tuple_(key, id_) < there

    def cursor(self, row: T) -> str:
        key: Any = self._key_of([getattr(row, name) for name in self.key_attributes])
        plain = key.isoformat() if isinstance(key, datetime) else str(key) if isinstance(key, Decimal) else key
        [cursor] = self._cursors([(orjson.dumps(plain), b"%d" % getattr(row, self.id.key))])
        return orjson.loads(cursor)

    @property
    def key_attributes(self) -> tuple[str, ...]:
        """Of which attributes a row's sort key is made."""
        return self.computed.attributes if self.computed else (self.key.key,)

    def _key_of(self, values: Sequence[Any]) -> Any:
        return self.computed.value(*values) if self.computed else values[0]

    def _key_json(self, values: Sequence[bytes]) -> bytes:
        return orjson.dumps(self._key_of([orjson.loads(value) for value in values]))

    def cursors_at(self, columns: Sequence[Sequence[bytes]]) -> list[bytes]:
        """The cursors of rows, as JSON: the columns have their `key_attributes` and their ids, all as JSON."""
        *keys, ids = columns
        return self._cursors(zip(map(self._key_json, zip(*keys, strict=True)) if self.computed else keys[0], ids, strict=True))

    def _cursors(self, places: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """Of some rows with these sort keys and ids, both as JSON; instants and amounts are strings there."""
        form = b'["%b",%%b,%%b]' % self._tag_json
        encoded = b'","'.join([b2a_base64(form % place, newline=False) for place in places])
        return (b'"%b"' % encoded).translate(_URL_SAFE, b"=").split(b",")

    def position(self, cursor: str, argument: str) -> Position:
        """The sort key and id in a cursor. Raises: InvalidInput, if it is not one of this list's own."""
        try:
            tag, plain, id_ = orjson.loads(_transparent(cursor))
            key = self._read(plain)
            if isinstance(key, int) and abs(key) >= self._bound:
                raise ValueError  # noqa: TRY301 -- one answer to all that is wrong
        except (ArithmeticError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput.at(argument, "this is not a cursor: pass one that a page returned, unchanged") from error
        if tag != self.tag or type(id_) is not int or not 0 < id_ < ID_BOUND:
            raise InvalidInput.at(argument, "this cursor belongs to another list, filter or order: start again without it")
        return key, id_

    @cached_property
    def _bound(self) -> int:
        return ID_BOUND if isinstance(self.key.type, BigInteger) else INTEGER_BOUND

    @cached_property
    def _read(self) -> Callable[[object], Any]:
        return _KEYS[self.key.type.python_type]

    @cached_property
    def _tag_json(self) -> bytes:
        return self.tag.encode()

    @cached_property
    def tag(self) -> str:
        return hashlib.blake2b(self.fingerprint.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Page(Generic[T]):
    rows: Sequence[T]
    listing: OrderedQuery[T]
    has_next: bool
    has_previous: bool
    query: Any = None
    """The list as it was asked for, or corrected (`persistence.kit.query.entity`)."""


async def fetch(session: AsyncSession, listing: OrderedQuery[T], window: PageArguments) -> Page[T]:
    return page_of(await listing.rows(session, window), listing, window)


async def count(session: AsyncSession, listing: OrderedQuery[Any]) -> int:
    """How many rows a list has, up to COUNT_ROWS."""
    return await session.scalar(bounded_count(listing, sqlite=session.get_bind().dialect.name == "sqlite")) or 0


def bounded_count(listing: OrderedQuery[Any], *, sqlite: bool) -> Select[Any]:
    """The number of rows of a list, up to COUNT_ROWS."""
    return select(func.count()).select_from(listing.unordered([literal(1)], sqlite=sqlite).limit(COUNT_ROWS).subquery())


def page_of(rows: Sequence[T], listing: OrderedQuery[T], window: PageArguments) -> Page[T]:
    more, rows = len(rows) > window.size, rows[: window.size]
    if window.backward:
        return Page(rows[::-1], listing, has_next=window.before is not None, has_previous=more)
    return Page(rows, listing, has_next=more, has_previous=window.after is not None)


def _transparent(cursor: str) -> bytes:
    if len(cursor) > CURSOR_LENGTH:
        raise ValueError
    return base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not -ID_BOUND < value < ID_BOUND:
        raise ValueError
    return value


def _amount(value: object) -> Decimal:
    amount = parsing.decimal_number(_text(value))
    if not abs(amount) < ID_BOUND // 100 or amount != amount.quantize(Decimal("0.01")):
        raise ValueError
    return amount


_KEYS: Mapping[type, Callable[[object], Any]] = {str: _text, int: _whole, datetime: parsing.instant, Decimal: _amount}
