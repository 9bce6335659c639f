"""Pages of a searched list: one statement that scans in order or looks words up in the index, whichever is quicker, without statistics.

There are two ways to a page. Common words are soon found by reading the list in its order; rare ones are looked up in the index of words, and the
matches are sorted. Each is slow where the other is quick. One statement chooses: it samples the first rows in order, and if these predict a page
within SCAN_ROWS rows, it reads on. Where the prediction is wrong, since the words stand together at one place of the order, they are looked up.
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

SCAN_ROWS = 8_000  # 20 ms in a table of a million. Above this, looking the word up in the index is quicker than scanning.
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
    listing: SortedList, scan: OrderedScan, after: Position | None, before: Position | None, *, backward: bool, count: Any
) -> Select[Any]:
    """The first `count` rows between two positions."""
    found = (column("key", listing.key.type), column("id", listing.id.type))
    order, found_order = listing.order(backward=backward), listing.order(backward=backward, of=found)
    among = _Among(
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
    return _among(element, compiler, "NOT MATERIALIZED ", "LIMIT CASE WHEN (SELECT scan_sufficed FROM choice) THEN 0 ELSE -1 END", **kw)


def _among(element: _Among, compiler: Any, reading: str, fence: str, **kw: Any) -> str:
    table = next(iter(element.clauses)).table.name
    id_, key, rows, shown, looked_up, beyond, count, scan_rows, sample, *orders = (
        compiler.process(clause, **kw) for clause in element.clauses
    )
    order, found_order = (", ".join(part) for part in (orders[: len(orders) // 2], orders[len(orders) // 2 :]))
    return f"""{id_} IN (
WITH scan AS {reading}(SELECT {id_} AS id, {shown} AS shown FROM {table} WHERE {rows} ORDER BY {order} LIMIT {scan_rows}),
estimate AS (SELECT (SELECT count(*) FROM (SELECT 1 FROM (SELECT shown FROM scan LIMIT {sample}) AS sample WHERE shown LIMIT {count}) AS sample_hits)
  * {scan_rows} >= {count} * {sample} OR (SELECT count(*) FROM (SELECT 1 FROM scan LIMIT {sample}) AS sample) < {sample} AS sufficient),
scan_hits AS (SELECT id FROM scan WHERE shown LIMIT CASE WHEN (SELECT sufficient FROM estimate) THEN {count} ELSE 0 END),
choice AS (SELECT CASE WHEN NOT (SELECT sufficient FROM estimate) THEN FALSE
  WHEN (SELECT count(*) FROM scan_hits) = {count} THEN TRUE ELSE (SELECT count(*) FROM scan) < {scan_rows} END AS scan_sufficed)
SELECT id FROM scan_hits WHERE (SELECT scan_sufficed FROM choice)
UNION ALL SELECT id FROM (SELECT id
  FROM (SELECT {id_} AS id, {key} AS key FROM {table} WHERE {looked_up} AND NOT (SELECT scan_sufficed FROM choice) {fence}) AS found
  WHERE {beyond} ORDER BY {found_order} LIMIT {count}) AS index_hits)"""  # noqa: S608 -- values are bound
