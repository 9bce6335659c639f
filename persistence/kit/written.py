"""Objects that the database itself writes as JSON, byte for byte as orjson would: for hot reads, whose rows then need no look at their values.

A `Written` is a tree of names; `expression` makes SQL of it for either database. What is written differently elsewhere is brought into one form here:
instants as `isoformat` has them, money with two places, text escaped where it must be and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Boolean, ColumnElement, Integer, Text, literal_column

from persistence.kit.columns import Document, Money, UtcDateTime


@dataclass(frozen=True)
class Value:
    """A column by its name; with a prefix, base64 of the prefix and the value."""

    column: str
    prefix: str | None = None


@dataclass(frozen=True)
class Constant:
    json: str


@dataclass(frozen=True)
class Written:
    """An object: its fields in order; null where the column `present` is."""

    fields: tuple[tuple[str, Field], ...]
    present: str | None = None


Field: TypeAlias = Value | Constant | Written


def columns(written: Written) -> set[str]:
    """The names of the columns that it needs."""
    needed = {written.present} if written.present else set[str]()
    for _, field in written.fields:
        needed |= columns(field) if isinstance(field, Written) else {field.column} if isinstance(field, Value) else set()
    return needed


def expression(written: Written, named: Mapping[str, Any], *, sqlite: bool) -> ColumnElement[str]:
    """The object's JSON; `named` has the mapped column for each name. Field names are GraphQL's, so they need no escape."""
    return literal_column(_Writer(named, sqlite=sqlite).object(written), Text)


class _Writer:
    def __init__(self, named: Mapping[str, Any], *, sqlite: bool) -> None:
        self._named, self._sqlite = named, sqlite

    def object(self, written: Written) -> str:
        pieces: list[str] = []
        before = "{"
        for name, field in written.fields:
            before += f'"{name}":'
            if isinstance(field, Constant):
                before += field.json
            else:
                pieces += [f"'{before}'", self.object(field) if isinstance(field, Written) else self.value(field)]
                before = ""
            before += ","
        pieces.append(f"'{before.removesuffix(',')}}}'")
        whole = f"({' || '.join(pieces)})" if self._sqlite else f"concat({', '.join(pieces)})"
        return f"CASE WHEN {self._name(written.present)} IS NULL THEN 'null' ELSE {whole} END" if written.present else whole

    def value(self, value: Value) -> str:
        column, type_ = self._name(value.column), self._column(value.column).type
        if value.prefix is not None:
            packed = f"base64('{value.prefix}' || {column})" if self._sqlite else f"encode(('{value.prefix}' || {column})::bytea, 'base64')"
            return f"'\"' || {packed} || '\"'"
        write = self._sqlite_value if self._sqlite else self._postgresql_value
        written = write(column, type_)
        return f"coalesce({written}, 'null')" if self._column(value.column).nullable else written

    def _column(self, name: str) -> Any:
        return self._named[name].property.columns[0]

    def _name(self, name: str) -> str:
        column = self._column(name)
        return f"{column.table.name}.{column.name}"

    def _postgresql_value(self, column: str, type_: Any) -> str:
        if isinstance(type_, Money):
            return f"'\"' || ({column}::numeric * 0.01)::text || '\"'"
        if isinstance(type_, UtcDateTime):
            text = f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
            return f"'\"' || replace({text}, '.000000', '') || '+00:00\"'"
        if isinstance(type_, type(Document)):
            every = f"array_to_json(ARRAY(SELECT jsonb_array_elements_text({column})))::text"
            return _compact(f"{column}::text", f"strpos({column}::text, '\\')", every)
        return (
            _flag(column) if isinstance(type_, Boolean) else f"{column}::text" if isinstance(type_, Integer) else f"to_json({column})::text"
        )

    def _sqlite_value(self, column: str, type_: Any) -> str:
        if isinstance(type_, Money):
            return f"printf('\"%d.%02d\"', {column} / 100, {column} % 100)"
        if isinstance(type_, UtcDateTime):
            return f"'\"' || substr({column}, 1, 10) || 'T' || replace(substr({column}, 12), '.000000', '') || '+00:00\"'"
        if isinstance(type_, type(Document)):
            every = f"(SELECT json_group_array(value) FROM json_each({column}))"  # noqa: S608 -- a column's name
            return _compact(column, f"instr({column}, '\\')", every)
        return _flag(column) if isinstance(type_, Boolean) else column if isinstance(type_, Integer) else f"json_quote({column})"


def _compact(text: str, escaped: str, every: str) -> str:
    """A list of strings without spaces. Where nothing is escaped, a quote ends a string, so the text between two strings can be replaced."""
    return f"CASE WHEN {escaped} > 0 THEN {every} ELSE replace({text}, '\", \"', '\",\"') END"


def _flag(column: str) -> str:
    return f"CASE WHEN {column} THEN 'true' ELSE 'false' END"
