"""CSV export of the catalogue, byte for byte the same on both databases: PostgreSQL writes it by itself, SQLite's rows are formatted here.

Sources: RFC 4180; RFC 3339 for instants. Cells that a spreadsheet would run are made harmless: see `persistence.kit.parsing.csv_formulas`.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from sqlalchemy import ColumnElement, Text, literal_column
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.items.table import TAGS, Item
from persistence.kit.database.executors.row_stream import stream_copy, stream_rows
from persistence.kit.imports.file_rows import LIST_SEPARATOR as SEPARATOR
from persistence.kit.parsing import csv_formulas as formulas
from persistence.kit.query.entity import STREAM_ROWS, ListQuery, selected

COLUMNS = ("name", "description", "price", "tags", "inventory", "externalId", "id", "createdAt")
HEADER = ",".join(COLUMNS).encode() + b"\r\n"
ROW_END = "\x1f"  # In no text: `Checks` refuses it. PostgreSQL ends rows with LF, which texts may hold too, where the standard wants CR LF.

_END = f"{ROW_END}\n".encode()
_CELL = re.compile(r'"([^"]*(?:""[^"]*)*)"|[^",][^,]*')  # One with something in it.
# As GraphQL has it: six digits behind the second, or none. Of a session in UTC; to_char takes three times as long.
_POSTGRESQL_CREATED = f"""replace(
    CASE WHEN date_trunc('second', items.created_at) = items.created_at THEN items.created_at::timestamp::text
    ELSE rpad(items.created_at::timestamp::text, 26, '0') END, ' ', 'T') || '+00:00{ROW_END}'"""
_FEW_TAGS = 4  # Picked one by one, these take a tenth of the time that unpacking the list takes.


async def lines(session: AsyncSession, items: ListQuery, *, limit: int | None, raw: bool) -> AsyncGenerator[bytes]:
    """CSV of a list of items, after its header, cut anywhere. `raw` leaves cells as they are, for programs. Raises: InvalidInput."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    made = _sqlite_lines(session, items, limit, raw) if on_sqlite else _postgresql_lines(session, items, limit, raw)
    async with aclosing(made) as pieces:
        async for piece in pieces:
            yield piece


async def _sqlite_lines(session: AsyncSession, items: ListQuery, limit: int | None, raw: bool) -> AsyncGenerator[bytes]:
    columns = (Item.name, Item.description, Item.price, Item.tags, Item.inventory, Item.external_id, Item.id, Item.created_at)
    statement: Any = selected(items, limit).with_only_columns(*columns)
    async with aclosing(stream_rows(session, statement, most=STREAM_ROWS)) as batches:
        async for rows in batches:
            lines = [
                f"{_quoted(name)},{_quoted(description)},{cents // 100}.{cents % 100:02d},"
                f"{_quoted(_tags(tags))},{inventory},{_quoted(external_id)},{_global_id(id_)},{_created(at)}\r\n"
                for name, description, cents, tags, inventory, external_id, id_, at in rows
            ]
            piece = "".join(lines).encode()
            yield (
                piece
                if raw or not formulas.may_contain_formula(piece, lines=len(lines))
                else b"".join([_harmless(line.encode()) for line in lines])
            )


async def _postgresql_lines(session: AsyncSession, items: ListQuery, limit: int | None, raw: bool) -> AsyncGenerator[bytes]:
    cells: list[ColumnElement[Any]] = [literal_column(cell, Text).label(None) for cell in _POSTGRESQL_CELLS]
    statement = selected(items, limit).with_only_columns(*cells)
    async with aclosing(stream_copy(session, statement)) as pieces:
        async for rows in pieces:
            if raw or not formulas.may_contain_formula(rows, lines=rows.count(ROW_END.encode())):
                yield rows.replace(_END, b"\r\n")
            else:
                yield b"\r\n".join([_harmless(row) for row in rows.split(_END)])


def _harmless(row: bytes) -> bytes:
    """A row as a spreadsheet may have it. Of rows of several lines, too, most hold nothing like a formula."""
    return _CELL.sub(_neutral, row.decode()).encode() if formulas.may_contain_formula(row) else row


def _neutral(cell: re.Match[str]) -> str:
    return formulas.escape(cell[0]) if cell[1] is None else f'"{formulas.escape(cell[1])}"'


def _global_id(id_: int) -> str:
    return b2a_base64(b"Item:%d" % id_, newline=False).decode()


def _created(text: str) -> str:
    return f"{text[:10]}T{text[11:].removesuffix('.000000')}+00:00"


def _tags(output: str) -> str | None:
    """From their JSON. Where nothing is escaped, a quote ends a tag."""
    return (SEPARATOR.join(json.loads(output)) if "\\" in output else output[2:-2].replace('", "', SEPARATOR)) or None


def _quoted(text: str | None) -> str:
    """As PostgreSQL quotes: an empty text always, to tell it from none, and one with a comma, a quote or a line end."""
    if not text:
        return "" if text is None else '""'
    if '"' in text:
        return '"' + text.replace('"', '""') + '"'
    return f'"{text}"' if "," in text or "\n" in text or "\r" in text else text


def _picked(tags: int) -> str:
    return f"concat_ws('{SEPARATOR}', {', '.join(f'items.tags->>{place}' for place in range(tags))})"


_POSTGRESQL_CELLS = (
    "items.name",
    "items.description",
    "items.price_cents::numeric(14, 0) * 0.01",
    f"CASE WHEN items.tags->{_FEW_TAGS} IS NULL THEN nullif({_picked(_FEW_TAGS)}, '') ELSE {_picked(TAGS)} END",
    "items.inventory",
    "items.external_id",
    "encode(('Item:' || items.id)::bytea, 'base64')",
    _POSTGRESQL_CREATED,
)
