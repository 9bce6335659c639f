"""Rows by their keys, and numbers about rows that point to them, for all who ask at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, Select, String, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from persistence.kit.database.executors.statement_executor import StatementExecutor
from persistence.kit.json_rows.json_page import RowForm
from persistence.kit.json_rows.placeholders import lines
from persistence.kit.json_rows.row_json import JsonColumn, RowWriter
from persistence.kit.json_rows.statements import Statements
from persistence.kit.query.batching import BatcherByTarget
from persistence.kit.query.child_aggregate import ChildAggregate

ROWS_AT_ONCE = 500  # Looked up by one statement: 5 MB, if all are of the longest.


class Lookup:
    """Rows by a unique attribute: their texts, without those that have left, but with `even_gone`."""

    def __init__(self, statements: Statements, form: RowForm, attribute: str, *, even_gone: bool = False) -> None:
        self._statements, self._texts = statements, len(form.texts)
        key = getattr(form.entity.model, attribute)
        kind = BigInteger() if isinstance(key.type, BigInteger) else String()
        self._number = isinstance(kind, BigInteger)

        def statement(writer: RowWriter) -> Select[Any]:
            if statements.sqlite:
                among: Any = key.in_(select(func.json_each(bindparam("keys", type_=Text)).table_valued("value").c.value))
            else:
                among = key == func.any(bindparam("keys", type_=ARRAY(kind)))
            return writer.aggregate(select(form.entity.model).where(*(() if even_gone else form.entity.present), among))

        fields = (*form.texts, JsonColumn(attribute))
        self._prepared = statements.aggregated(("lookup", form.entity, attribute, even_gone), form.entity, fields, statement)
        self._batchers: BatcherByTarget[Any, Any, tuple[bytes, ...]] = BatcherByTarget(self._fetch, most=ROWS_AT_ONCE)

    async def one(self, key: Any) -> tuple[bytes, ...] | None:
        return await self._batchers.load(await self._statements.raw(), key)

    async def many(self, keys: Sequence[Any]) -> Sequence[tuple[bytes, ...] | None]:
        return await self._batchers.many(await self._statements.raw(), keys)

    async def _fetch(self, raw: StatementExecutor, keys: Sequence[Any]) -> Mapping[Any, tuple[bytes, ...]]:
        [[text]] = await raw.fetch(self._prepared, {"keys": self._statements.listed(keys)})
        cells, width = lines(text), self._texts + 1
        found = map(int, cells[self._texts :: width]) if self._number else map(orjson.loads, cells[self._texts :: width])
        return dict(zip(found, zip(*(cells[place::width] for place in range(self._texts)), strict=True), strict=True))


class Aggregates:
    """Numbers about the rows that point to each of some parents."""

    def __init__(self, statements: Statements, aggregate: ChildAggregate) -> None:
        self._statements, self._aggregate = statements, aggregate
        keys = bindparam("keys", type_=Text if statements.sqlite else ARRAY(BigInteger))
        among: Any = func.json_each(keys).table_valued("value").c.value if statements.sqlite else func.unnest(keys)
        self._prepared = statements.prepared(aggregate.statement(select(among)))
        self._batchers: BatcherByTarget[Any, int, Any] = BatcherByTarget(self._fetch, most=ROWS_AT_ONCE)

    async def many(self, parents: Sequence[int]) -> Sequence[Any]:
        return await self._batchers.many(await self._statements.raw(), parents)

    async def _fetch(self, raw: StatementExecutor, parents: Sequence[int]) -> Mapping[int, Any]:
        rows = await raw.fetch(self._prepared, {"keys": self._statements.listed(parents)})
        found = {parent: self._aggregate.value(count, total) for parent, count, total in rows}
        return {parent: found.get(parent, self._aggregate.value(0, 0)) for parent in parents}
