"""Items out of a file, row by row: CSV in any order of columns, or JSON lines. A bad row is told with its line and keeps no other from loading."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, BinaryIO, cast

import orjson

from persistence.items import table as items
from persistence.items.csv_export import SEPARATOR, plain
from persistence.items.table import Draft
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput

BATCH_ROWS = 1_000  # Of one transaction: readers and other writers wait for less than a second.
LINE_BYTES = 2**20  # The longest good line of JSON has some 60 kB.
DELIMITERS = (",", ";", "\t")
REQUIRED = ("name", "price")


class Unreadable(Exception):
    """The file as a whole is not one that items can be read from."""


@dataclass(frozen=True)
class Row:
    """One row of the file, by the number of its first line: good, or at fault."""

    line: int
    draft: Draft | None
    fault: str = ""


@dataclass(frozen=True)
class Batch:
    """What became of some rows."""

    created: int
    refused: list[Row]


async def load(database: Database, rows: Iterable[Row], *, owner_id: int | None) -> AsyncGenerator[Batch]:
    """Create the good rows' items, a transaction for each batch. What was created before a failure stays."""
    good, refused = list[Draft](), list[Row]()
    for row in rows:
        if row.draft is None:
            refused.append(row)
        else:
            good.append(row.draft)
        if len(good) + len(refused) == BATCH_ROWS:
            yield await _create(database, good, refused, owner_id)
            good, refused = [], []
    yield await _create(database, good, refused, owner_id)


async def _create(database: Database, good: list[Draft], refused: list[Row], owner_id: int | None) -> Batch:
    if good:
        async with database.transaction() as work:
            await items.create_all(work, good, owner_id=owner_id)
    return Batch(len(good), refused)


def from_csv(file: BinaryIO, *, raw: bool = False) -> Iterator[Row]:
    """UTF-8 with or without BOM; commas, semicolons or tabs; columns in any order, unknown ones ignored. `raw` takes leading apostrophes for text.

    Raises: Unreadable, if the header lacks a column.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline()
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(chain([first], text), delimiter=delimiter)
    header = _header(next(reader, list[str]()))
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield Row(line, None, str(error))
            continue
        if len(cells) == len(header):
            yield _row(line, _texts(dict(zip(header, cells, strict=True)), raw=raw, decimal_comma=delimiter != ","))
        elif any(cells):
            yield Row(line, None, f"has {len(cells)} cells where the header has {len(header)}")
    text.detach()


def from_json_lines(file: BinaryIO) -> Iterator[Row]:
    """One object a line, with the names that the API has; unknown ones are ignored."""
    line = 0
    while text := file.readline(LINE_BYTES):
        line += 1
        if not text.endswith(b"\n") and len(text) == LINE_BYTES:
            while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Row(line, None, f"is longer than {LINE_BYTES} bytes")
        elif text.strip():
            yield _row(line, _object(text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text))


def _header(cells: list[str]) -> list[str]:
    header = [cell.strip().casefold() for cell in cells]
    known = [name for name in header if name in Draft.__dataclass_fields__]
    missing = [name for name in REQUIRED if name not in header]
    if missing or len(set(known)) < len(known):
        what = f"no column {' and '.join(missing)}" if missing else "a column twice"
        raise Unreadable(f"The first line must name the columns, with name and price among them; it has {what}.")
    return header


def _row(line: int, values: Mapping[str, Any] | str) -> Row:
    if isinstance(values, str):
        return Row(line, None, values)
    draft = Draft(**values)
    try:
        draft.check()
    except InvalidInput as error:
        text = "".join((draft.name, draft.description or "", *draft.tags))
        return Row(line, None, "is not in UTF-8" if any("\udc80" <= char <= "\udcff" for char in text) else error.message)
    return Row(line, draft)


def _texts(cells: Mapping[str, str], *, raw: bool, decimal_comma: bool) -> dict[str, Any] | str:
    """The values of a draft, or what is wrong."""
    name, description, tags = (cell if raw else plain(cell) for cell in (cells.get(key, "") for key in ("name", "description", "tags")))
    price, inventory = cells["price"].strip(), cells.get("inventory", "").strip() or "0"
    if decimal_comma:
        price = price.replace(",", ".")
    if not inventory.isascii() or not inventory.removeprefix("-").isdigit() or len(inventory) > 12:
        return "inventory: must be a whole number"
    return _priced(price) or {
        "name": name,
        "description": description or None,
        "price": Decimal(price),
        "tags": [tag.strip() for tag in tags.split(SEPARATOR) if tag.strip()],
        "inventory": int(inventory),
    }


def _object(text: bytes) -> dict[str, Any] | str:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "is not JSON"
    if not isinstance(found, dict):
        return "is not a JSON object"
    values = {name: value for name, value in cast("dict[str, Any]", found).items() if name in Draft.__dataclass_fields__}
    kinds: dict[str, Any] = {"name": str, "description": str | None, "price": str | int | float, "tags": list, "inventory": int}
    wrong = [name for name, value in values.items() if not isinstance(value, kinds[name]) or isinstance(value, bool)]
    if missing := [name for name in REQUIRED if name not in values]:
        return f"lacks {' and '.join(missing)}"
    if wrong or not all(isinstance(tag, str) for tag in values.get("tags", ())):
        return f"{wrong[0] if wrong else 'tags'}: is of the wrong type"
    return _priced(str(values["price"])) or {**values, "price": Decimal(str(values["price"]))}


def _priced(text: str) -> str:
    """What is wrong with a price as text; empty for a number, whose bounds are checked later."""
    try:
        return "" if len(text) < 50 and Decimal(text).is_finite() else "price: must be a decimal number such as 9.99"
    except InvalidOperation:
        return "price: must be a decimal number such as 9.99"
