"""SQL conditions for word search and tags, written for each dialect.

Their values are parameters with names that begin with the condition's own, so that a statement made for one value can be run for another:
`searching` and `containing` tell the values by these names. Where the names are the same, so is the statement.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

from sqlalchemy import Boolean, ColumnElement, String, Text, and_, bindparam, cast, false, literal, not_, or_, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from persistence.kit.search.ordered_scan import LOOKED_UP, WordIndex
from persistence.kit.search.tokenizer import Words


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


class _IndexedAny(FunctionElement[bool]):
    """Arguments: id column, and those of `_ContainsAny`."""

    type = Boolean()
    inherit_cache = True
    name = "indexed_any"

    def self_group(self, against: Any = None) -> Self:
        """As `_Matches` does."""
        return self


class _IndexedAll(_IndexedAny):
    inherit_cache = True
    name = "indexed_all"


class _Among(FunctionElement[bool]):
    """Arguments: column, the values as JSON text, and as a PostgreSQL array."""

    type = Boolean()
    inherit_cache = True
    name = "among"

    def self_group(self, against: Any = None) -> Self:
        """As `_Matches` does."""
        return self


def searching(query: str | Words, name: str = "search") -> Mapping[str, Any]:
    """Words hold letters, marks and digits only, so nothing needs escaping."""
    words = _words(query)
    return {**_for_index(words, name), **_patterns(words, name)}


def _for_index(words: Words, name: str) -> Mapping[str, str]:
    return {f"{name}_fts5": words.fts5() or '""', f"{name}_tsquery": words.tsquery()}


def _words(query: str | Words) -> Words:
    return Words.of(query) if isinstance(query, str) else query


def _patterns(words: Words, name: str) -> Mapping[str, str]:
    runs = {f"{name}_run_{place}": f"% {run}%" for place, run in enumerate(words.runs)}
    excluded = {key: value for place, each in enumerate(words.without) for key, value in _patterns(each, f"{name}_without_{place}").items()}
    return {**words.patterns(name), **runs, **excluded}


def containing(values: Sequence[str], name: str) -> Mapping[str, Any]:
    distinct = list(dict.fromkeys(values))
    return {f"{name}_json": json.dumps(distinct), f"{name}_array": distinct}


def matches(id_: Any, words: Any, query: str | Words, name: str = "search") -> ColumnElement[bool]:
    """Rows of a table with a `<table>_search` index in which a word of each of the query's groups begins a word."""
    searched = _words(query)
    fts5, tsquery = _parameter(_for_index(searched, name))
    found = _Matches(id_, words, fts5, cast(tsquery, Text))
    # The index knows of each window that a row has it, not where.
    return and_(found, *_runs(literal(" ").concat(words), searched, name))


def word_index(words: Any, query: str | Words, others: Iterable[ColumnElement[bool]], name: str = "search") -> WordIndex:
    """Rows that SQLite's index of words finds, and that fulfil other conditions."""
    searched = _words(query)
    fts5, _ = _parameter(_for_index(searched, name))
    rest = list(others)
    return WordIndex(fts5, and_(true(), *_runs(literal(" ").concat(words), searched, name), *rest), alone=not rest)


def shows(words: Any, query: str | Words, name: str = "search") -> ColumnElement[bool]:
    """The same of a row that is read anyway: a look at its words, at no index."""
    searched, padded = _words(query), literal(" ").concat(words)
    return _shows(padded.concat(" ") if any(each.whole for each in (searched, *searched.without)) else padded, searched, name)


def _shows(padded: Any, searched: Words, name: str) -> ColumnElement[bool]:
    patterns = iter(searched.patterns(name).items())
    shown = [or_(*(padded.like(_bound(*next(patterns))) for _ in group)) for group in searched.groups]
    hidden = [not_(_shows(padded, each, f"{name}_without_{place}")) for place, each in enumerate(searched.without)]
    return and_(*shown, *_runs(padded, searched, name), *hidden) if shown else false()


def _runs(padded: Any, searched: Words, name: str) -> list[ColumnElement[bool]]:
    return [padded.like(_bound(f"{name}_run_{place}", f"% {run}%")) for place, run in enumerate(searched.runs)]


def indexed_any(id_: Any, column: Any, values: Sequence[str], name: str) -> ColumnElement[bool]:
    """Rows of a table with a `<table>_<column>_search` index whose column has one of the values."""
    return _IndexedAny(id_, column, *_parameter(containing(values, name)))


def indexed_all(id_: Any, column: Any, values: Sequence[str], name: str) -> ColumnElement[bool]:
    return _IndexedAll(id_, column, *_parameter(containing(values, name)))


def contains_any(column: Any, values: Sequence[str], name: str) -> ColumnElement[bool]:
    """The same of a row that is read anyway."""
    return _ContainsAny(column, *_parameter(containing(values, name)))


def contains_all(column: Any, values: Sequence[str], name: str) -> ColumnElement[bool]:
    return _ContainsAll(column, *_parameter(containing(values, name)))


def among(column: Any, values: Collection[Any]) -> ColumnElement[bool]:
    """Rows that have one of these values in a column: one parameter, however many they are."""
    listed = list(values)
    return _Among(column, bindparam(None, json.dumps(listed), type_=String()), bindparam(None, listed, type_=ARRAY(column.type)))


def _parameter(values: Mapping[str, Any]) -> list[Any]:
    return [_bound(name, value) for name, value in values.items()]


def _bound(name: str, value: Any) -> Any:
    return bindparam(name, value, type_=ARRAY(String) if isinstance(value, list) else String())


@compiles(_Matches, "sqlite")
def _matches_sqlite(element: _Matches, compiler: Any, **kw: Any) -> str:
    id_, words, fts5, _ = element.clauses
    index = f"{words.table.name}_search"
    return f"{compiler.process(id_, **kw)} IN (SELECT rowid FROM {index} WHERE {index} MATCH {compiler.process(fts5, **kw)})"  # noqa: S608 -- values are bound


@compiles(_Matches, "postgresql")
def _matches_postgresql(element: _Matches, compiler: Any, **kw: Any) -> str:
    _, words, _, tsquery = element.clauses
    table, query = words.table.name, compiler.process(tsquery, **kw)
    # With a table of all words their beginnings are looked up there, which spares collecting the rows of each.
    known = f"{table}_spellings" in words.table.metadata.tables
    query = f"{table}_tsquery({query})" if known else f"replace({query}, ':+', ':*')::tsquery"
    # Of a query that it knows the planner might expect many rows, and make words of those of the whole table instead: 10 s of a million.
    query = f"(SELECT {query})" if kw.get(LOOKED_UP) else query
    return f"array_to_tsvector(string_to_array({compiler.process(words, **kw)}, ' ')) @@ {query}"


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: Any, **kw: Any) -> str:
    column, requested, _ = (compiler.process(clause, **kw) if place < 2 else "" for place, clause in enumerate(element.clauses))
    return f"{column} IN (SELECT value FROM json_each({requested}))"  # noqa: S608 -- values are bound


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: Any, **kw: Any) -> str:
    column, _, requested = element.clauses
    return f"{compiler.process(column, **kw)} = ANY({compiler.process(requested, **kw)})"


@compiles(_ContainsAny, "sqlite")
def _any_sqlite(element: _ContainsAny, compiler: Any, **kw: Any) -> str:
    column, requested, _ = (compiler.process(clause, **kw) if place < 2 else "" for place, clause in enumerate(element.clauses))
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value IN (SELECT value FROM json_each({requested})))"  # noqa: S608 -- values are bound


@compiles(_ContainsAll, "sqlite")
def _all_sqlite(element: _ContainsAll, compiler: Any, **kw: Any) -> str:
    column, requested, _ = (compiler.process(clause, **kw) if place < 2 else "" for place, clause in enumerate(element.clauses))
    met = f"(SELECT count(DISTINCT value) FROM json_each({column}) WHERE value IN (SELECT value FROM json_each({requested})))"  # noqa: S608 -- values are bound
    return f"{met} = (SELECT count(*) FROM json_each({requested}))"  # noqa: S608 -- values are bound


@compiles(_IndexedAny, "sqlite")
def _indexed_any_sqlite(element: _IndexedAny, compiler: Any, **kw: Any) -> str:
    id_, index, requested = _indexed(element, compiler, kw)
    return f"{id_} IN (SELECT item_id FROM {index} WHERE tag IN (SELECT value FROM json_each({requested})))"  # noqa: S608 -- values are bound


@compiles(_IndexedAll, "sqlite")
def _indexed_all_sqlite(element: _IndexedAll, compiler: Any, **kw: Any) -> str:
    id_, index, requested = _indexed(element, compiler, kw)
    found = f"SELECT item_id FROM {index} WHERE tag IN (SELECT value FROM json_each({requested})) GROUP BY item_id"  # noqa: S608 -- values are bound
    return f"{id_} IN ({found} HAVING count(*) = (SELECT count(*) FROM json_each({requested})))"  # noqa: S608 -- values are bound


def _indexed(element: _IndexedAny, compiler: Any, kw: Mapping[str, Any]) -> tuple[str, str, str]:
    id_, column, requested, _ = element.clauses
    return compiler.process(id_, **kw), f"{column.table.name}_{column.name}_search", compiler.process(requested, **kw)


@compiles(_IndexedAny, "postgresql")
def _indexed_any_postgresql(element: _IndexedAny, compiler: Any, **kw: Any) -> str:
    _, column, _, requested = element.clauses
    return f"{compiler.process(column, **kw)} ?| {compiler.process(requested, **kw)}"


@compiles(_IndexedAll, "postgresql")
def _indexed_all_postgresql(element: _IndexedAll, compiler: Any, **kw: Any) -> str:
    _, column, _, requested = element.clauses
    return f"{compiler.process(column, **kw)} ?& {compiler.process(requested, **kw)}"


@compiles(_ContainsAny, "postgresql")
def _any_postgresql(element: _ContainsAny, compiler: Any, **kw: Any) -> str:
    column, _, requested = element.clauses
    return f"{compiler.process(column, **kw)} ?| {compiler.process(requested, **kw)}"


@compiles(_ContainsAll, "postgresql")
def _all_postgresql(element: _ContainsAll, compiler: Any, **kw: Any) -> str:
    column, _, requested = element.clauses
    return f"{compiler.process(column, **kw)} ?& {compiler.process(requested, **kw)}"
