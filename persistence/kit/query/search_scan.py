"""Pages of a searched list: one statement that scans in order or looks words up in the index, whichever is quicker, without statistics.

There are two ways to a page. Common words are soon met by whoever reads the list in its order; rare ones are looked up in the index of words, and
what is found is sorted. Each is slow where the other is quick. One statement chooses: it looks at the first rows in order, and if these promise
a page within WALK rows, it reads on. Where the promise is not kept, since the words stand together at one place of the order, they are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from sqlalchemy import BigInteger, Boolean, ColumnElement, Select, and_, column, literal, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

Position = tuple[Any, Any]  # Sort key and id: their values.
SortColumns = tuple[Any, Any]  # The same two: their columns.

SCAN_ROWS = 8_000  # Rows: 20 ms in a table of a million. As long takes a word that is not met often enough on the way, to be looked up.
SAMPLE_ROWS = 800


@dataclass(frozen=True)
class OrderedScan:
    """How the list is read without the index of words: all rows that an index has in order, and which of them are in the list."""

    rows: ColumnElement[bool]
    shown: ColumnElement[bool]


class SortedList(Protocol):
    """What a scan has to know of its list: `persistence.kit.query.paging.OrderedQuery`."""

    @property
    def statement(self) -> Select[Any]: ...
    @property
    def key(self) -> Any: ...
    @property
    def id(self) -> Any: ...
    def keyset_conditions(self, after: Position | None, before: Position | None, *, of: SortColumns | None = None) -> Sequence[Any]: ...
    def order(self, *, backward: bool, of: SortColumns | None = None) -> Sequence[Any]: ...


def page(
    listing: SortedList, walk: OrderedScan, after: Position | None, before: Position | None, *, backward: bool, count: Any
) -> Select[Any]:
    """The first `count` rows between two positions."""
    found = (column("key", listing.key.type), column("id", listing.id.type))
    order, found_order = listing.order(backward=backward), listing.order(backward=backward, of=found)
    among = _Among(
        listing.id,
        listing.key,
        and_(walk.rows, *listing.keyset_conditions(after, before)),
        walk.shown,
        listing.statement.whereclause,
        and_(true(), *listing.keyset_conditions(after, before, of=found)),
        *(literal(number, BigInteger) if isinstance(number, int) else number for number in (count, SCAN_ROWS, SAMPLE_ROWS)),
        *order,
        *found_order,
    )
    return select(listing.id.class_).where(among).order_by(*order).limit(count)


class _Among(FunctionElement[bool]):
    """Arguments: id, sort key, the rows to read, those that are shown, those to look up, which of these, three numbers, and both orders."""

    type = Boolean()
    inherit_cache = True
    name = "among"

    def self_group(self, against: Any = None) -> Self:
        return self


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: Any, **kw: Any) -> str:
    # Without OFFSET it would see the LIMIT around it, and might read the whole table in order after all.
    return _among(element, compiler, "", "OFFSET 0", **kw)


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: Any, **kw: Any) -> str:
    # It would read all of what it keeps, and all of the index before it looks at a condition that is no column's.
    return _among(element, compiler, "NOT MATERIALIZED ", "LIMIT CASE WHEN (SELECT kept FROM done) THEN 0 ELSE -1 END", **kw)


def _among(element: _Among, compiler: Any, reading: str, fence: str, **kw: Any) -> str:
    table = next(iter(element.clauses)).table.name
    id_, key, rows, shown, looked_up, beyond, count, walk, sample, *orders = (compiler.process(clause, **kw) for clause in element.clauses)
    order, found_order = (", ".join(part) for part in (orders[: len(orders) // 2], orders[len(orders) // 2 :]))
    return f"""{id_} IN (
WITH walked AS {reading}(SELECT {id_} AS id, {shown} AS shown FROM {table} WHERE {rows} ORDER BY {order} LIMIT {walk}),
promise AS (SELECT (SELECT count(*) FROM (SELECT 1 FROM (SELECT shown FROM walked LIMIT {sample}) AS sample WHERE shown LIMIT {count}) AS met)
  * {walk} >= {count} * {sample} OR (SELECT count(*) FROM (SELECT 1 FROM walked LIMIT {sample}) AS sample) < {sample} AS kept),
near AS (SELECT id FROM walked WHERE shown LIMIT CASE WHEN (SELECT kept FROM promise) THEN {count} ELSE 0 END),
done AS (SELECT CASE WHEN NOT (SELECT kept FROM promise) THEN FALSE
  WHEN (SELECT count(*) FROM near) = {count} THEN TRUE ELSE (SELECT count(*) FROM walked) < {walk} END AS kept)
SELECT id FROM near WHERE (SELECT kept FROM done)
UNION ALL SELECT id FROM (SELECT id
  FROM (SELECT {id_} AS id, {key} AS key FROM {table} WHERE {looked_up} AND NOT (SELECT kept FROM done) {fence}) AS found
  WHERE {beyond} ORDER BY {found_order} LIMIT {count}) AS far)"""  # noqa: S608 -- values are bound
