"""Pages of a searched list: one statement that scans in order or looks words up in the index, whichever is quicker, without statistics.

There are two ways to a page. Common words are soon found by reading the list in its order; rare ones are looked up in the index of words, and the
matches are sorted. Each is slow where the other is quick. One statement chooses: it samples the first rows in order, and if these predict a page
within SCAN_ROWS rows, it reads on. Where the prediction is wrong, since the words stand together at one place of the order, they are looked up.

SQLite's index of words has its rows by id, one after the other: a page in that order is looked up no further than to its end, and sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from sqlalchemy import BigInteger, Boolean, ColumnElement, Select, and_, column, literal, literal_column, select, table, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

Position = tuple[Any, Any]  # Sort key and id: their values.
SortColumns = tuple[Any, Any]  # The same two: their columns.

SCAN_ROWS = 8_000  # 20 ms in a table of a million. Above this, looking the word up in the index is quicker than scanning.
SAMPLE_ROWS = 800
LOOKED_UP = "looked_up"  # Tells the compilation of a search that an index is to answer it, whatever the planner expects.
SOONER = 4  # Of how many rows one is scanned, where looking up costs little.


@dataclass(frozen=True)
class OrderedScan:
    """How the list is read without the index of words: all rows that an index has in order, and which of them are in the list."""

    rows: ColumnElement[bool]
    shown: ColumnElement[bool]
    words: WordIndex | None = None


class WordIndex(NamedTuple):
    """What SQLite's index of words is asked for, if words are searched, and what else the rows that it finds must fulfil to be shown."""

    fts5: ColumnElement[str]
    others: ColumnElement[bool]
    alone: bool
    """Whether the list is searched for words only."""


class SortedList(Protocol):
    """What a scan has to know of its list: `persistence.kit.query.paging.OrderedQuery`."""

    @property
    def statement(self) -> Select[Any]: ...
    @property
    def key(self) -> Any: ...
    @property
    def id(self) -> Any: ...
    @property
    def descending(self) -> bool: ...
    def keyset_conditions(self, after: Position | None, before: Position | None, *, of: SortColumns | None = None) -> Sequence[Any]: ...
    def order(self, *, backward: bool, of: SortColumns | None = None) -> Sequence[Any]: ...


def page(
    listing: SortedList, scan: OrderedScan, after: Position | None, before: Position | None, *, backward: bool, count: Any
) -> Select[Any]:
    """The first `count` rows between two positions."""
    found = (column("key", listing.key.type), column("id", listing.id.type))
    order, found_order = listing.order(backward=backward), listing.order(backward=backward, of=found)
    arguments: Sequence[Any] = (
        listing.id,
        listing.key,
        and_(scan.rows, *listing.keyset_conditions(after, before)),
        scan.shown,
        listing.statement.whereclause,
        and_(true(), *listing.keyset_conditions(after, before, of=found)),
        *(literal(number, BigInteger) if isinstance(number, int) else number for number in (count, SCAN_ROWS, SAMPLE_ROWS)),
        *order,
        *found_order,
    )
    if scan.words is not None and listing.key is listing.id:
        among: _Among = _AmongById(*arguments, scan.words.fts5, scan.words.others, *_by_index(listing, after, before, backward=backward))
    else:
        among = _Among(*arguments)
    return select(listing.id.class_).where(among).order_by(*order).limit(count)


def by_words(id_: Any, scan: OrderedScan, words: WordIndex, columns: Sequence[Any]) -> Select[Any]:
    """Rows one after the other, as SQLite's index of words has them: `id IN (…)` would collect the ids of all before the first row is read."""
    index = table(f"{id_.class_.__tablename__}_search", column("rowid", id_.type))
    rows: Any = select(*columns).select_from(index).join(id_.class_, id_ == index.c.rowid)
    return rows.where(literal_column(index.name).op("MATCH")(words.fts5), scan.rows, words.others)


def _by_index(listing: SortedList, after: Position | None, before: Position | None, *, backward: bool) -> Sequence[Any]:
    """Between which rows the index is read, and in which order."""
    row = literal_column(f"{listing.id.class_.__tablename__}_search.rowid", listing.id.type)
    between = and_(true(), *listing.keyset_conditions(after, before, of=(row, row)))
    return between, row.desc() if listing.descending != backward else row.asc()


class _Among(FunctionElement[bool]):
    """Arguments: id, sort key, the rows to read, those that are shown, those to look up, which of these, three numbers, and both orders."""

    type = Boolean()
    inherit_cache = True
    name = "among"

    def self_group(self, against: Any = None) -> Self:
        return self


class _AmongById(_Among):
    """Arguments: those of `_Among`, those of a `WordIndex`, which rows of the index, and their order."""

    inherit_cache = True
    name = "among_by_id"


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: Any, **kw: Any) -> str:
    # Without OFFSET it would see the LIMIT around it, and might read the whole table in order after all.
    return _among(element, compiler, "", "OFFSET 0", **kw, **{LOOKED_UP: True})


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: Any, **kw: Any) -> str:
    # It would read all of what it keeps, and all of the index before it looks at a condition that is no column's.
    return _among(element, compiler, "NOT MATERIALIZED ", "LIMIT CASE WHEN (SELECT scan_sufficed FROM choice) THEN 0 ELSE -1 END", **kw)


@compiles(_AmongById, "postgresql")
def _among_by_id_postgresql(element: _AmongById, compiler: Any, **kw: Any) -> str:
    *arguments, _, _, _, _ = element.clauses
    return _among_postgresql(_Among(*arguments), compiler, **kw)


@compiles(_AmongById, "sqlite")
def _among_by_id_sqlite(element: _AmongById, compiler: Any, **kw: Any) -> str:
    *arguments, fts5, others, between, order = element.clauses
    table, rows = arguments[0].table.name, arguments[2]
    id_, fts5, others, between, order, rows, count = (
        compiler.process(clause, **kw) for clause in (arguments[0], fts5, others, between, order, rows, arguments[6])
    )
    found = f"""SELECT {id_} AS id FROM {table}_search CROSS JOIN {table} ON {id_} = {table}_search.rowid
WHERE {table}_search MATCH {fts5} AND {between} AND {rows} AND {others}
ORDER BY {order} LIMIT CASE WHEN (SELECT scan_sufficed FROM choice) THEN 0 ELSE {count} END"""  # noqa: S608 -- values are bound
    return _among_either(*_scanned(_Among(*arguments), compiler, "NOT MATERIALIZED ", f" / {SOONER}", **kw), found)


def _among(element: _Among, compiler: Any, reading: str, fence: str, **kw: Any) -> str:
    id_, key, _, _, looked_up, beyond, count, _, _, *orders = (compiler.process(clause, **kw) for clause in element.clauses)
    table, found_order = next(iter(element.clauses)).table.name, ", ".join(orders[len(orders) // 2 :])
    found = f"""SELECT id
  FROM (SELECT {id_} AS id, {key} AS key FROM {table} WHERE {looked_up} AND NOT (SELECT scan_sufficed FROM choice) {fence}) AS found
  WHERE {beyond} ORDER BY {found_order} LIMIT {count}"""  # noqa: S608 -- values are bound
    return _among_either(*_scanned(element, compiler, reading, "", **kw), found)


def _scanned(element: _Among, compiler: Any, reading: str, part: str, **kw: Any) -> tuple[str, str]:
    """The id, and what is read in order; with `part`, of so many rows only."""
    id_, _, rows, shown, _, _, count, scan_rows, sample, *orders = (compiler.process(clause, **kw) for clause in element.clauses)
    table, order = next(iter(element.clauses)).table.name, ", ".join(orders[: len(orders) // 2])
    scan_rows, sample = f"({scan_rows}{part})", f"({sample}{part})"
    scan = f"""scan AS {reading}(SELECT {id_} AS id, {shown} AS shown FROM {table} WHERE {rows} ORDER BY {order} LIMIT {scan_rows}),
estimate AS (SELECT (SELECT count(*) FROM (SELECT 1 FROM (SELECT shown FROM scan LIMIT {sample}) AS sample WHERE shown LIMIT {count}) AS sample_hits)
  * {scan_rows} >= {count} * {sample} OR (SELECT count(*) FROM (SELECT 1 FROM scan LIMIT {sample}) AS sample) < {sample} AS sufficient),
scan_hits AS (SELECT id FROM scan WHERE shown LIMIT CASE WHEN (SELECT sufficient FROM estimate) THEN {count} ELSE 0 END),
choice AS (SELECT CASE WHEN NOT (SELECT sufficient FROM estimate) THEN FALSE
  WHEN (SELECT count(*) FROM scan_hits) = {count} THEN TRUE ELSE (SELECT count(*) FROM scan) < {scan_rows} END AS scan_sufficed)"""  # noqa: S608 -- as above
    return id_, scan


def _among_either(id_: str, scan: str, found: str) -> str:
    return f"""{id_} IN (
WITH {scan}
SELECT id FROM scan_hits WHERE (SELECT scan_sufficed FROM choice)
UNION ALL SELECT id FROM ({found}) AS index_hits)"""  # noqa: S608 -- as above
