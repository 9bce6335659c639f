"""Objects that the database itself writes as JSON, byte for byte as orjson would: for hot reads, whose rows then need no look at their values.

A `Written` is a tree of names; `expression` makes SQL of it for either database. What is written differently elsewhere is brought into one form here:
instants as `isoformat` has them, money with two places, text escaped where it must be and nowhere else. SQLite has no base64, so there an id
stands between two marks until `lines` takes the rows apart.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Boolean, ColumnElement, Integer, Select, Text, cast, func, literal_column, select

from persistence.kit.column_types import Document, Money, UtcDateTime

# Neither can be in JSON as it is written here: in strings control characters are escaped.
LINE_END, MARK = "\n", "\x1f"


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
Piece: TypeAlias = tuple[str, Sequence[str]]  # Of a format, and the SQL of what it shows.


def columns(written: Written) -> set[str]:
    """The names of the columns that it needs."""
    needed = {written.present} if written.present else set[str]()
    for _, field in written.fields:
        needed |= columns(field) if isinstance(field, Written) else {field.column} if isinstance(field, Value) else set()
    return needed


def expression(field: Field, named: Mapping[str, Any], *, sqlite: bool) -> ColumnElement[str]:
    """Its JSON; `named` has the mapped column for each name. Field names are GraphQL's, so they need no escape."""
    return literal_column(_Writer(named, sqlite=sqlite).formatted(field), Text)


def gathered(rows: Select[Any], *, sqlite: bool) -> Select[Any]:
    """One row, whose columns hold those of all rows, a line for each: a driver takes longer for each row than for all of its text.

    Ordered rows with a limit stay in their order on both databases.
    """
    every = rows.subquery().c
    if sqlite:
        return select(*[func.group_concat(column, LINE_END) for column in every])
    return select(*[func.convert_to(func.string_agg(cast(column, Text), LINE_END), "UTF8") for column in every])


def lines(column: bytes | None) -> list[bytes]:
    """What a gathered column has of each row; it is null if there are none."""
    if column is None:
        return []
    if (mark := MARK.encode()) in column:
        parts = column.split(mark)
        parts[1::2] = [b2a_base64(part, newline=False) for part in parts[1::2]]
        column = b"".join(parts)
    return column.split(LINE_END.encode())


class _Writer:
    def __init__(self, named: Mapping[str, Any], *, sqlite: bool) -> None:
        self._named, self._sqlite = named, sqlite

    def formatted(self, field: Field) -> str:
        return self._call(*self.piece(field))

    def _call(self, shape: str, shown: Sequence[str]) -> str:
        if shape == "%s":
            return shown[0]
        arguments = ", ".join([f"'{shape}'", *shown])
        return f"printf({arguments})" if self._sqlite else f"format({arguments})"

    def piece(self, field: Field) -> Piece:
        if isinstance(field, Constant):
            return field.json, ()
        if isinstance(field, Value):
            return self._value(field)
        if field.present:
            return _unless_null(self._name(field.present), self.formatted(Written(field.fields)))
        pieces = [(name, *self.piece(each)) for name, each in field.fields]
        inside = ",".join([f'"{name}":{shape}' for name, shape, _ in pieces])
        return f"{{{inside}}}", [each for _, _, shown in pieces for each in shown]

    def _value(self, value: Value) -> Piece:
        column, type_ = self._name(value.column), self._column(value.column).type
        if value.prefix is not None:
            if self._sqlite:
                return f'"{MARK}{value.prefix}%d{MARK}"', [column]
            return '"%s"', [f"encode(('{value.prefix}' || {column})::bytea, 'base64')"]
        piece = (self._sqlite_value if self._sqlite else self._postgresql_value)(column, type_)
        return _unless_null(column, self._call(*piece)) if self._column(value.column).nullable else piece

    def _column(self, name: str) -> Any:
        return self._named[name].property.columns[0]

    def _name(self, name: str) -> str:
        column = self._column(name)
        return f"{column.table.name}.{column.name}"

    def _postgresql_value(self, column: str, type_: Any) -> Piece:
        if isinstance(type_, Money):
            return '"%s"', [f"{column}::numeric * 0.01"]
        if isinstance(type_, UtcDateTime):
            text = f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
            return '"%s+00:00"', [f"replace({text}, '.000000', '')"]
        if isinstance(type_, type(Document)):
            every = f"array_to_json(ARRAY(SELECT jsonb_array_elements_text({column})))::text"
            return "%s", [_compact(f"{column}::text", f"strpos({column}::text, '\\')", every)]
        if isinstance(type_, Boolean):
            return "%s", [_flag(column)]
        return "%s", [f"{column}::text" if isinstance(type_, Integer) else f"to_json({column})::text"]

    def _sqlite_value(self, column: str, type_: Any) -> Piece:
        if isinstance(type_, Money):
            return '"%d.%02d"', [f"{column} / 100", f"{column} % 100"]
        if isinstance(type_, UtcDateTime):
            return '"%sT%s+00:00"', [f"substr({column}, 1, 10)", f"replace(substr({column}, 12), '.000000', '')"]
        if isinstance(type_, type(Document)):
            every = f"(SELECT json_group_array(value) FROM json_each({column}))"  # noqa: S608 -- a column's name
            return "%s", [_compact(column, f"instr({column}, '\\')", every)]
        if isinstance(type_, Boolean):
            return "%s", [_flag(column)]
        return "%s", [column if isinstance(type_, Integer) else f"json_quote({column})"]


def _unless_null(column: str, json: str) -> Piece:
    return "%s", [f"CASE WHEN {column} IS NULL THEN 'null' ELSE {json} END"]


def _compact(text: str, escaped: str, every: str) -> str:
    """A list of strings without spaces. Where nothing is escaped, a quote ends a string, so the text between two strings can be replaced."""
    return f"CASE WHEN {escaped} > 0 THEN {every} ELSE replace({text}, '\", \"', '\",\"') END"


def _flag(column: str) -> str:
    return f"CASE WHEN {column} THEN 'true' ELSE 'false' END"
