"""Statements for rows of entities, each made once for its form: what is written of the rows, and which filters and ends of a page are set."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import BigInteger, Select, Text, bindparam, column, func, literal_column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.util import LRUCache

from persistence.kit.database.database import Database
from persistence.kit.database.executors.statement_executor import PreparedStatement, prepare
from persistence.kit.json_rows.row_json import LINE, Field, RowWriter
from persistence.kit.query.entity import ChildList, CorrectedList, Entity, ListQuery, corrected
from persistence.kit.query.paging import OrderedQuery, PageArguments

FORMS = 1_000  # Of each kind, whoever asks: anybody may think of new ones. Plans, which are bounded too, hold those that they use.
LISTINGS = 4_000  # Of parents whose children are listed with cursors: 4 MB.
REQUESTED = "wanted"


class Statements:
    """Those for one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.raw, self.sqlite, self._dialect = database.executor, database.dialect == "sqlite", database.executor_dialect
        self.made: LRUCache[Any, Any] = LRUCache(FORMS)
        self.listings: LRUCache[Any, OrderedQuery[Any]] = LRUCache(LISTINGS)
        self._frames: LRUCache[Any, PreparedStatement] = LRUCache(FORMS)
        self.of_parents: Callable[[ChildList], OrderedQuery[Any]] = lru_cache(FORMS)(self._of_parents)

    def prepared(self, statement: Select[Any]) -> PreparedStatement:
        return prepare(statement, self._dialect)

    def aggregated(
        self, key: Hashable, entity: Entity[Any], fields: Sequence[Field], statement_of: Callable[[RowWriter], Select[Any]]
    ) -> PreparedStatement:
        """A statement for texts of rows; `key` tells those apart that differ in more than the texts."""
        writer = RowWriter(entity, sqlite=self.sqlite)
        line, known = writer.line(fields), (key, writer.joins)
        frame = self._frames.get(known)
        if frame is None:
            frame = self._frames[known] = self.prepared(statement_of(writer))
        return replace(frame, sql=frame.sql.replace(LINE, line))

    def scan(self, key: Hashable, statement_of: Callable[[], Select[Any]]) -> PreparedStatement:
        known = self.made.get(("scan", key))
        if known is None:
            known = self.made["scan", key] = replace(self.prepared(statement_of()), scans=True)
        return known

    def requested(self, types: Mapping[str, Any]) -> Any:
        """A table of what is asked for: on PostgreSQL, of lists by these names; on SQLite, of one list of numbers."""
        if self.sqlite:
            return func.json_each(bindparam("value", type_=Text)).table_valued(column("value", BigInteger), "key", name=REQUESTED)
        lists = [bindparam(name, type_=ARRAY(type_)) for name, type_ in types.items()]
        columns = [column(name, type_) for name, type_ in types.items()]
        return func.unnest(*lists).table_valued(*columns, with_ordinality="key").render_derived(name=REQUESTED)

    def listed(self, values: Sequence[Any]) -> Any:
        return orjson.dumps(values).decode() if self.sqlite else values

    async def corrected(self, query: ListQuery, window: PageArguments) -> ListQuery | None:
        """For a list of which a page was empty."""
        if not isinstance(query, CorrectedList):
            return None
        async with self._database.reading() as session:
            return await corrected(session, query, window)

    def _of_parents(self, children: ChildList) -> OrderedQuery[Any]:
        """The rows of each parent that is asked for."""
        return children.listing_of(literal_column(f"{REQUESTED}.{'value' if self.sqlite else 'parent'}", BigInteger()))

    def listing(self, query: ListQuery) -> OrderedQuery[Any]:
        """Of a list of the query's form, whose values are to be bound, and whose mark may be another one's."""
        key = ("listing", type(query), query.form)
        known = self.made.get(key)
        if known is None:
            known = self.made[key] = query.listing()
        return known
