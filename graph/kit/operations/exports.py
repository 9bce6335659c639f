"""Exports of an entity's rows as CSV and JSON, declared: `GET /api/v2/stream/reviews.csv` and `.json`.

    export(reviews.ALL, "reviews", scope=Scope.ITEMS_READ)

An export has the fields of the entity's type that come from its own row, under the names and in the forms of GraphQL, and the global id of each object
that a foreign key points to: `authorId` for `author`. What not every viewer sees is left out.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, cast

import orjson

from graph.kit.auth import Scope
from graph.kit.entity.declaration import ComputedValue, StoredValue, ToOne, as_stored, entity_type, name_of
from graph.kit.global_ids import global_id
from persistence.kit.database.database import Database
from persistence.kit.parsing import csv_formulas
from persistence.kit.query import entity
from persistence.kit.query.entity_list import EntityList

LIST_SEPARATOR = ";"  # Between the values of a column that holds a list.


@dataclass(frozen=True)
class ExportColumn:
    """A value of each row: its name, the attributes that it is made of, and how."""

    name: str
    attributes: tuple[str, ...]
    value: Callable[..., Any]


@dataclass(frozen=True)
class Export:
    rows: EntityList
    name: str
    scope: Scope

    def columns(self) -> Sequence[ExportColumn]:
        """In the order of the type's fields. For a schema that was checked: see `graph.kit.entity.declaration`."""
        declared = entity_type(name_of(self.rows.entity))
        assert declared is not None, "an entity that is exported has a type"
        if declared.visible is not None and declared.visible.scope is not self.scope:
            raise TypeError(f"The export {self.name} would show rows that take {declared.visible.scope.value}: give it that scope")
        columns = [_column(declared.name, name, source) for name, source in declared.sources.items()]
        return [column for column in columns if column is not None]

    async def json(self, database: Database, limit: int | None) -> AsyncGenerator[bytes]:
        """One array, a row on each line."""
        columns, before = self.columns(), b"["
        async with aclosing(self._rows(database, columns, limit)) as parts:
            async for rows in parts:
                names = [column.name for column in columns]
                yield before + b",\n".join([orjson.dumps(dict(zip(names, map(_plain, row), strict=True))) for row in rows])
                before = b",\n"
        yield b"[]\n" if before == b"[" else b"]\n"

    async def csv(self, database: Database, limit: int | None, *, raw: bool) -> AsyncGenerator[bytes]:
        """RFC 4180, with a header. `raw` leaves cells as they are, for programs; else those that a spreadsheet would run are made harmless."""
        columns = self.columns()
        yield ",".join(column.name for column in columns).encode() + b"\r\n"
        async with aclosing(self._rows(database, columns, limit)) as parts:
            async for rows in parts:
                yield "".join([f"{','.join([_cell(value, raw=raw) for value in row])}\r\n" for row in rows]).encode()

    async def _rows(
        self, database: Database, columns: Sequence[ExportColumn], limit: int | None
    ) -> AsyncGenerator[Sequence[Sequence[Any]]]:
        attributes = list(dict.fromkeys(name for column in columns for name in column.attributes))
        places = [(column.value, [attributes.index(name) for name in column.attributes]) for column in columns]
        async with database.snapshot() as session, aclosing(entity.stream(session, self.rows, attributes, limit=limit)) as parts:
            async for rows in parts:
                yield [[value(*[row[place] for place in each]) for value, each in places] for row in rows]


_exports: list[Export] = []


def exports() -> Sequence[Export]:
    """All that have been declared."""
    return _exports


def export(rows: EntityList, name: str, *, scope: Scope) -> Export:
    """Declare an export of a list under a name."""
    _exports.append(declared := Export(rows, name, scope))
    return declared


def _column(type_name: str, name: str, source: object) -> ExportColumn | None:
    match source:
        case StoredValue("id"):
            return ExportColumn(name, ("id",), partial(global_id, type_name))
        case StoredValue(attribute):
            return ExportColumn(name, (attribute,), as_stored)
        case ComputedValue(attributes, compute, None):
            return ExportColumn(name, attributes, compute)
        case ToOne(foreign_key, target):
            return ExportColumn(f"{name}Id", (foreign_key,), partial(_reference, name_of(target)))
        case _:
            return None


def _reference(type_name: str, id_: int | None) -> str | None:
    return None if id_ is None else global_id(type_name, id_)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _cell(value: Any, *, raw: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | dict):
        return _quoted(json.dumps(value, ensure_ascii=False))
    if isinstance(value, datetime):
        return value.isoformat()
    text = LIST_SEPARATOR.join(cast("list[str]", value)) if isinstance(value, list) else str(value)
    return _quoted(csv_formulas.escape(text) if isinstance(value, str | list) and not raw else text)


def _quoted(text: str) -> str:
    """An empty text always, to tell it from none, and one with a comma, a quote or a line end."""
    if text and not any(char in text for char in '",\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'
