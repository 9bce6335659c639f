"""The catalogue as CSV, byte for byte the same on both databases. PostgreSQL makes it itself; of SQLite's rows it is made here, in half the time.

Sources: RFC 4180; RFC 3339 for instants.

A cell that begins like a formula gets an apostrophe in front, or a spreadsheet would run it; one that begins with apostrophes and then like a
formula gets one more, so that taking one off (`plain`) always gives back what there was.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from sqlalchemy import ColumnElement, Text, literal_column
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.items.listing import STREAM_ROWS, Filter, selected
from persistence.items.table import TAGS, Item
from persistence.kit.database.row_stream import copied, fetched

COLUMNS = ("name", "description", "price", "tags", "inventory", "id", "createdAt")
HEADER = ",".join(COLUMNS).encode() + b"\r\n"
FORMULA = "=+-@\t\r"
SEPARATOR = ";"  # Between tags, which hold none.
ROW_END = "\x1f"  # In no text: `Checks` refuses it. PostgreSQL ends rows with LF, which texts may hold too, where the standard wants CR LF.

_DOUBTFUL = FORMULA + "'"
_FORMULA = re.compile(rf"'*[{re.escape(FORMULA)}]")
_DISGUISED = re.compile(rf"'+[{re.escape(FORMULA)}]")
_CODES = ", ".join(str(ord(char)) for char in FORMULA)
_POSTGRESQL_CREATED = f"replace(items.created_at::text, ' ', 'T') || ':00{ROW_END}'"  # Of a session in UTC. A third of the time of to_char.
_FEW_TAGS = 4  # Picked one by one, these take a tenth of the time that unpacking the list takes.


def plain(cell: str) -> str:
    """The text that a neutralised cell stands for."""
    return cell[1:] if _DISGUISED.match(cell) else cell


async def lines(session: AsyncSession, filter_: Filter, *, limit: int | None, raw: bool) -> AsyncGenerator[bytes]:
    """CSV of the items in order of id, after its header, cut anywhere. `raw` leaves cells as they are, for programs. Raises: InvalidInput."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    made = _sqlite_lines(session, filter_, limit, raw) if on_sqlite else _postgresql_lines(session, filter_, limit, raw)
    async with aclosing(made) as pieces:
        async for piece in pieces:
            yield piece


async def _sqlite_lines(session: AsyncSession, filter_: Filter, limit: int | None, raw: bool) -> AsyncGenerator[bytes]:
    cell = _quoted if raw else _neutral
    columns = (Item.name, Item.description, Item.price, Item.tags, Item.inventory, Item.id, Item.created_at)
    statement: Any = selected(filter_, limit).with_only_columns(*columns)
    async with aclosing(fetched(session, statement, most=STREAM_ROWS)) as pieces:
        async for rows in pieces:
            lines = [
                f"{cell(name)},{cell(description)},{cents // 100}.{cents % 100:02d},{cell(_tags(tags))},{inventory},{_global_id(id_)},{_created(at)}\r\n"
                for name, description, cents, tags, inventory, id_, at in rows
            ]
            yield "".join(lines).encode()


async def _postgresql_lines(session: AsyncSession, filter_: Filter, limit: int | None, raw: bool) -> AsyncGenerator[bytes]:
    cells: list[ColumnElement[Any]] = [literal_column(cell, Text).label(None) for cell in _postgresql_cells(raw)]
    statement = selected(filter_, limit).with_only_columns(*cells)
    async with aclosing(copied(session, statement)) as pieces:
        async for rows in pieces:
            yield rows.replace(ROW_END.encode() + b"\n", b"\r\n")


def _global_id(id_: int) -> str:
    return b2a_base64(b"Item:%d" % id_, newline=False).decode()


def _created(text: str) -> str:
    return f"{text[:10]}T{text[11:].rstrip('0').rstrip('.')}+00:00"


def _tags(written: str) -> str | None:
    """From their JSON. Where nothing is escaped, a quote ends a tag."""
    return (SEPARATOR.join(json.loads(written)) if "\\" in written else written[2:-2].replace('", "', SEPARATOR)) or None


def _neutral(text: str | None) -> str:
    return _quoted(f"'{text}" if text and text[0] in _DOUBTFUL and _FORMULA.match(text) else text)


def _quoted(text: str | None) -> str:
    """As PostgreSQL quotes: an empty text always, to tell it from none, and one with a comma, a quote or a line end."""
    if not text:
        return "" if text is None else '""'
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _postgresql_cells(raw: bool) -> Iterable[str]:
    yield _postgresql_text("items.name", raw)
    yield _postgresql_text("items.description", raw)
    yield "items.price_cents::numeric(14, 0) * 0.01"
    first, few, every = "(items.tags->>0)", _picked(_FEW_TAGS), _picked(TAGS)
    joined = f"CASE WHEN items.tags->{_FEW_TAGS} IS NULL THEN nullif({few}, '') ELSE {every} END"
    yield joined if raw else f"CASE WHEN {_is_formula(first)} THEN '''' ELSE '' END || {joined}"
    yield "items.inventory"
    yield "encode(('Item:' || items.id)::bytea, 'base64')"
    yield _POSTGRESQL_CREATED


def _picked(tags: int) -> str:
    return f"concat_ws('{SEPARATOR}', {', '.join(f'items.tags->>{place}' for place in range(tags))})"


def _postgresql_text(value: str, raw: bool) -> str:
    return value if raw else f"CASE WHEN {_is_formula(value)} THEN '''' || {value} ELSE {value} END"


def _is_formula(value: str) -> str:
    """Whether the first character, or the first one after apostrophes, begins a formula."""
    behind = f"ascii({value}) = 39 AND ascii(ltrim({value}, '''')) IN ({_CODES})"
    # Most texts begin with a letter: one comparison is all they take.
    return f"(ascii({value}) <= {max(map(ord, FORMULA))} AND (ascii({value}) IN ({_CODES}) OR {behind}))"
