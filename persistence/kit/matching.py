"""Conditions that each database writes in its own way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Self

from sqlalchemy import Boolean, ColumnElement, String, Text, and_, bindparam, cast, false, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from persistence.kit import search


class _Matches(FunctionElement[bool]):
    """Arguments: id column, words column, the query for FTS5, the query for PostgreSQL."""

    type = Boolean()
    inherit_cache = True
    name = "matches"

    def self_group(self, against: Any = None) -> Self:
        """Stands as it is: SQLAlchemy would write `id IN (…) = 1` for SQLite, which then looks nothing up but asks this of each row."""
        return self


class _ContainsAny(FunctionElement[bool]):
    """Arguments: JSON array column, wanted values as JSON text, and as a PostgreSQL array."""

    type = Boolean()
    inherit_cache = True
    name = "contains_any"


class _ContainsAll(_ContainsAny):
    inherit_cache = True
    name = "contains_all"


def matches(id_: Any, words: Any, query: str) -> ColumnElement[bool]:
    """Rows of a table with a `<table>_search` index in which each word of the query begins a word."""
    return _Matches(id_, words, literal(search.fts5(query) or '""'), cast(literal(search.tsquery(query)), Text))


def shows(words: Any, query: str) -> ColumnElement[bool]:
    """The same of a row that is read anyway: a look at its words, at no index. They hold letters and digits only, so nothing needs escaping."""
    spaced = literal(" ").concat(words)
    return and_(*(spaced.like(f"% {word}%") for word in search.prefixes(query))) if search.prefixes(query) else false()


def contains_any(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    return _ContainsAny(column, literal(json.dumps(list(values))), _array(values))


def contains_all(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    return _ContainsAll(column, literal(json.dumps(list(dict.fromkeys(values)))), _array(values))


def _array(values: Sequence[str]) -> Any:
    return bindparam(None, list(values), type_=ARRAY(String))


@compiles(_Matches, "sqlite")
def _matches_sqlite(element: _Matches, compiler: Any, **kw: Any) -> str:
    id_, words, fts5, _ = element.clauses
    index = f"{words.table.name}_search"
    return f"{compiler.process(id_, **kw)} IN (SELECT rowid FROM {index} WHERE {index} MATCH {compiler.process(fts5, **kw)})"  # noqa: S608 -- values are bound


@compiles(_Matches, "postgresql")
def _matches_postgresql(element: _Matches, compiler: Any, **kw: Any) -> str:
    _, words, _, tsquery = element.clauses
    return f"array_to_tsvector(string_to_array({compiler.process(words, **kw)}, ' ')) @@ {compiler.process(tsquery, **kw)}::tsquery"


@compiles(_ContainsAny, "sqlite")
def _any_sqlite(element: _ContainsAny, compiler: Any, **kw: Any) -> str:
    column, wanted, _ = (compiler.process(clause, **kw) if place < 2 else "" for place, clause in enumerate(element.clauses))
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value IN (SELECT value FROM json_each({wanted})))"  # noqa: S608 -- values are bound


@compiles(_ContainsAll, "sqlite")
def _all_sqlite(element: _ContainsAll, compiler: Any, **kw: Any) -> str:
    column, wanted, _ = (compiler.process(clause, **kw) if place < 2 else "" for place, clause in enumerate(element.clauses))
    return f"NOT EXISTS (SELECT value FROM json_each({wanted}) EXCEPT SELECT value FROM json_each({column}))"  # noqa: S608 -- values are bound


@compiles(_ContainsAny, "postgresql")
def _any_postgresql(element: _ContainsAny, compiler: Any, **kw: Any) -> str:
    column, _, wanted = element.clauses
    return f"{compiler.process(column, **kw)} ?| {compiler.process(wanted, **kw)}"


@compiles(_ContainsAll, "postgresql")
def _all_postgresql(element: _ContainsAll, compiler: Any, **kw: Any) -> str:
    column, _, wanted = element.clauses
    return f"{compiler.process(column, **kw)} ?& {compiler.process(wanted, **kw)}"
