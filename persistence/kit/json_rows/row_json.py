"""What a statement writes of each row: JSON, byte for byte as orjson would make it, so that hot reads need no look at the values.

A tree of `Field` names attributes of an entity; `RowWriter` makes SQL of it for either database. What they write differently is brought into one form
here: instants as `isoformat` has them, money with two places, text escaped where it must be and nowhere else. What SQL cannot write stays out as a
placeholder (`persistence.kit.json_rows.placeholders`): a nested list, a value that Python works out, a field that not every viewer sees.

Nothing of this may be given values from a client: names are the schema's, values are bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import Boolean, Integer, Select, Text, cast, func, inspect, literal_column, select

from persistence.kit.column_types import Document, Money, UtcDateTime
from persistence.kit.database.database import Base
from persistence.kit.json_rows.placeholders import BROKEN, LINE_END, MARK, PLACEHOLDER
from persistence.kit.query.entity import Entity

LINE = "/*line*/"  # Composing a statement takes SQLAlchemy milliseconds. Only a row's text differs from document to document, so that is put in later.
TABLES = 200  # Kept, with the names that they are joined under: 6 MB.
ARGUMENTS = 60  # Of one call: SQLite takes 127, PostgreSQL 100.
SAFE_INTEGER = 2**53 - 1  # Beyond, JSON readers lose digits: a larger number is written as a string.


@dataclass(frozen=True, slots=True)
class JsonColumn:
    """An attribute's value. A `big` number that JSON readers could not keep is written as a string."""

    attribute: str
    big: bool = False


@dataclass(frozen=True, slots=True)
class JsonGlobalId:
    """Base64 of the type's name and the row's id."""

    attribute: str
    type_name: str


@dataclass(frozen=True, slots=True)
class JsonLiteral:
    json: str


@dataclass(frozen=True, slots=True)
class JsonChoice:
    """One of a few texts, each with the JSON that stands for it; another one is a broken row."""

    attribute: str
    choices: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class JsonPlaceholder:
    """What is filled in later: its number, and the row's values that the filling is made of, as one number or as a JSON array."""

    number: int
    attributes: tuple[str, ...]
    listed: bool


@dataclass(frozen=True, slots=True)
class JsonObject:
    fields: tuple[tuple[str, Field], ...]


@dataclass(frozen=True, slots=True)
class JsonEdge:
    """The object in another table that a foreign key points to; null without one, a broken row where there must be one."""

    foreign_key: str
    target: Entity[Any]
    object: JsonObject
    nullable: bool


@dataclass(frozen=True, slots=True)
class JsonExists:
    """Whether a row of another entity, which has not left, points to this one."""

    children: Entity[Any]
    foreign_key: str


Field: TypeAlias = "JsonColumn | JsonGlobalId | JsonLiteral | JsonChoice | JsonPlaceholder | JsonObject | JsonEdge | JsonExists"
Piece: TypeAlias = tuple[str, Sequence[str]]  # Of a format, and the SQL of what it shows.


class _Rows:
    """A table, or one that is joined under another name. To name another one takes SQLAlchemy a millisecond: see `_rows`."""

    def __init__(self, entity: Entity[Any], name: str | None = None) -> None:
        table: Any = entity.model.__table__
        self.entity = entity
        self.table = table if name is None else table.alias(name)
        self.name: str = self.table.name
        model: type[Base] = entity.model
        self._attributes = inspect(model).columns
        self._sql: dict[str, str] = {}
        self.pieces: dict[tuple[JsonColumn, bool, bool], Piece] = {}

    def column(self, attribute: str) -> Any:
        return self.table.c[self._attributes[attribute].key]

    def sql(self, attribute: str) -> str:
        known = self._sql.get(attribute)
        if known is None:
            known = self._sql[attribute] = f"{self.name}.{self.column(attribute).name}"
        return known


_rows = lru_cache(TABLES)(_Rows)


class RowWriter:
    """The SQL of rows of one entity, and the joins that it turns out to need."""

    def __init__(self, entity: Entity[Any], *, sqlite: bool) -> None:
        self._sqlite, self._root = sqlite, _rows(entity)
        self._join_texts: dict[tuple[str, str], _Rows] = {}
        self._from: Any = self._root.table

    def line(self, fields: Sequence[Field]) -> str:
        """The SQL of a row's text: each field on a line of its own."""
        return self._call(LINE_END.join("%s" for _ in fields), [self._text(self._root, each) for each in fields])

    @property
    def joins(self) -> tuple[tuple[str, str, Entity[Any]], ...]:
        """What the lines written so far need: the table, its foreign key, and the entity that this points to."""
        return tuple((*key, rows.entity) for key, rows in self._join_texts.items())

    def aggregate(self, rows: Select[Any]) -> Select[Any]:
        """A statement for the entity's rows becomes one for a single text of all their lines, in whose SQL `LINE` stands for the line's.

        A driver takes longer for each row than for all of its text. Ordered rows with a limit stay in their order on both databases.
        """
        line: Any = literal_column(LINE, Text).label("line")
        # The line does not say from which table it comes, and a list that nothing is in has no condition that would.
        lines = rows.with_only_columns(line).select_from(self._from).subquery("lines").c.line
        if self._sqlite:
            return select(func.group_concat(lines, LINE_END))
        return select(func.convert_to(func.string_agg(cast(lines, Text), LINE_END), "UTF8"))

    def _text(self, rows: _Rows, field: Field) -> str:
        return self._call(*self._piece(rows, field))

    def _call(self, shape: str, shown: Sequence[str]) -> str:
        if shape == "%s":
            return shown[0]
        return f"{'printf' if self._sqlite else 'format'}({', '.join([_quoted(shape), *shown])})"

    def _piece(self, rows: _Rows, field: Field) -> Piece:
        match field:
            case JsonLiteral():
                return field.json, ()
            case JsonColumn():
                return self._value(rows, field)
            case JsonGlobalId():
                return self._global_id(rows.sql(field.attribute), field.type_name)
            case JsonChoice():
                return self._choice(rows.sql(field.attribute), field)
            case JsonPlaceholder():
                return self._placeholder(rows, field)
            case JsonEdge():
                return self._edge(rows, field)
            case JsonExists():
                return "%s", [_flag(self._exists(rows, field))]
            case JsonObject():
                return self._object(rows, field)

    def _object(self, rows: _Rows, object_: JsonObject) -> Piece:
        pieces = [(f'"{name}":', *self._piece(rows, each)) for name, each in object_.fields]
        calls: list[Piece] = [("{", [])]
        for place, (name, shape, shown) in enumerate(pieces):
            before, arguments = calls[-1]
            if len(arguments) + len(shown) > ARGUMENTS and arguments:
                calls.append(("", []))
                before, arguments = calls[-1]
            calls[-1] = (f"{before}{',' if place else ''}{name}{shape}", [*arguments, *shown])
        calls[-1] = (calls[-1][0] + "}", calls[-1][1])
        if len(calls) == 1:
            return calls[0]
        return "%s", [" || ".join(self._call(*each) for each in calls)]

    def _edge(self, rows: _Rows, edge: JsonEdge) -> Piece:
        target = self._join(rows, edge)
        missing = "null" if edge.nullable else f"{PLACEHOLDER}{BROKEN}{PLACEHOLDER}"
        return "%s", [f"CASE WHEN {target.sql('id')} IS NULL THEN '{missing}' ELSE {self._text(target, edge.object)} END"]

    def _exists(self, rows: _Rows, field: JsonExists) -> str:
        child = _rows(field.children, "child")
        present = f" AND {child.sql(field.children.gone)} IS NULL" if field.children.gone else ""
        where = f"{child.sql(field.foreign_key)} = {rows.sql('id')}{present}"
        return f"EXISTS (SELECT 1 FROM {field.children.model.__tablename__} AS child WHERE {where})"  # noqa: S608 -- names of the schema

    def _join(self, rows: _Rows, edge: JsonEdge) -> _Rows:
        key = (rows.name, edge.foreign_key)
        if key not in self._join_texts:
            target = self._join_texts[key] = _rows(edge.target, f"edge_{len(self._join_texts)}")
            self._from = self._from.outerjoin(target.table, rows.column(edge.foreign_key) == target.column("id"))
        return self._join_texts[key]

    def _global_id(self, column: str, type_name: str) -> Piece:
        """SQLite has no base64: an id stands between two marks until the rows are split."""
        if self._sqlite:
            return f'"{MARK}{type_name}:%d{MARK}"', [column]
        return '"%s"', [f"encode(('{type_name}:' || {column})::bytea, 'base64')"]

    def _choice(self, column: str, field: JsonChoice) -> Piece:
        cases = " ".join(f"WHEN {_quoted(value)} THEN {_quoted(json)}" for value, json in field.choices)
        return "%s", [f"CASE {column} {cases} ELSE '{PLACEHOLDER}{BROKEN}{PLACEHOLDER}' END"]

    def _placeholder(self, rows: _Rows, placeholder: JsonPlaceholder) -> Piece:
        values = [self._value(rows, JsonColumn(name), raw=True) for name in placeholder.attributes]
        inside = ",".join(shape for shape, _ in values)
        return f"{PLACEHOLDER}{placeholder.number}:{f'[{inside}]' if placeholder.listed else inside}{PLACEHOLDER}", [
            each for _, shown in values for each in shown
        ]

    def _value(self, rows: _Rows, field: JsonColumn, *, raw: bool = False) -> Piece:
        """The same in each statement, so it is made once."""
        key = field, raw, self._sqlite
        known = rows.pieces.get(key)
        if known is None:
            known = rows.pieces[key] = self._piece_of(rows, field, raw=raw)
        return known

    def _piece_of(self, rows: _Rows, field: JsonColumn, *, raw: bool) -> Piece:
        column, name = rows.column(field.attribute), rows.sql(field.attribute)
        if raw and isinstance(column.type, type(Document)):
            piece: Piece = "%s", [name if self._sqlite else f"{name}::text"]
        else:
            piece = (self._sqlite_value if self._sqlite else self._postgresql_value)(name, column.type)
        if field.big:
            piece = "%s", [f"CASE WHEN abs({name}) > {SAFE_INTEGER} THEN '\"' || {name} || '\"' ELSE {self._call(*piece)} END"]
        return ("%s", [f"CASE WHEN {name} IS NULL THEN 'null' ELSE {self._call(*piece)} END"]) if column.nullable else piece

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


def _compact(text: str, escaped: str, every: str) -> str:
    """A list of strings without spaces. Where nothing is escaped, a quote ends a string, so the text between two strings can be replaced."""
    return f"CASE WHEN {escaped} > 0 THEN {every} ELSE replace({text}, '\", \"', '\",\"') END"


def _flag(column: str) -> str:
    return f"CASE WHEN {column} THEN 'true' ELSE 'false' END"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
