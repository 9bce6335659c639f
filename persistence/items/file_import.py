"""Imports items from CSV or JSON Lines, row by row. An invalid row is reported by its line number and does not stop the others.

Nothing is altered in silence: what is read is what the file says, or the row is refused. Only blanks around tags do not count, as in the API.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, cast

from persistence.items import table as items
from persistence.items.csv_export import COLUMNS, SEPARATOR
from persistence.items.table import ItemValues
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput
from persistence.kit.parsing import csv_formulas as formulas
from persistence.kit.parsing import csv_reader, strict_json, text_lines
from persistence.kit.parsing import values as parsing
from persistence.kit.parsing.csv_reader import Record
from persistence.kit.parsing.text_lines import LINE_CHARACTERS

BATCH_ROWS = 1_000  # Of one transaction: readers and other writers wait for less than a second.
DELIMITERS = (",", ";", "\t")
FIELDS = {items.PATHS.get(name, name): name for name in ItemValues.__dataclass_fields__}
"""The columns that are read, by the API's names, and the attributes that they give."""
REQUIRED = ("name", "price")

_OF_EXPORTS = frozenset(name.casefold() for name in COLUMNS)
_ATTRIBUTES = {name.casefold(): attribute for name, attribute in FIELDS.items()}
_NUMBERS: Mapping[str, Callable[[object], Any]] = {"price": parsing.decimal_number, "inventory": parsing.whole_number}
_JSON_TYPES: Mapping[str, Any] = {"name": str, "description": str | None, "tags": list, "inventory": int | float, "external_id": str | None}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\1*[\r\n]*', re.IGNORECASE)  # Of spreadsheets, which take it for no row either.


class UnreadableFile(Exception):
    """The file as a whole is not one that items can be read from."""


class _BadRow(Exception):
    """The message says what is wrong with it."""


@dataclass(frozen=True)
class ImportRow:
    """One row of the file, by the number of its first line: good, or at fault."""

    line: int
    draft: ItemValues | None
    fault: str = ""


@dataclass(frozen=True)
class ImportBatch:
    """What became of some rows."""

    created: int
    refused: list[ImportRow]


async def load(database: Database, rows: Iterable[ImportRow], *, owner_id: int | None) -> AsyncGenerator[ImportBatch]:
    """Create the good rows' items, a transaction for each batch. What was created before a failure stays; rows before an unreadable one are created."""
    batch, unreadable = list[ImportRow](), None
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH_ROWS:
                yield await _create(database, batch, owner_id)
                batch = []
    except UnreadableFile as error:
        unreadable = error
    yield await _create(database, batch, owner_id)
    if unreadable:
        raise unreadable


async def _create(database: Database, rows: Sequence[ImportRow], owner_id: int | None) -> ImportBatch:
    good, refused = [row for row in rows if row.draft], [row for row in rows if row.draft is None]
    if not good:
        return ImportBatch(0, refused)
    drafts = [row.draft for row in good if row.draft]
    async with database.transaction() as work:
        taken = await items.refusals(work, drafts)
        new = [draft for place, draft in enumerate(drafts) if place not in taken]
        await items.create_all(work, new, owner_id=owner_id)
    refused += [replace(good[place], draft=None, fault=error.message) for place, error in taken.items()]
    return ImportBatch(len(new), sorted(refused, key=lambda row: row.line))


def from_csv(file: BinaryIO, *, raw: bool = False, unread: Callable[[Sequence[str]], None] = lambda _: None) -> Iterator[ImportRow]:
    """Commas, semicolons or tabs, as a first line `sep=;` says or as the header has most; columns in any order.

    Lines of separators only are skipped, empty cells at a line's end may be missing or too many. `raw` takes leading apostrophes for text; `unread` hears of
    columns that are neither read nor an export's own.

    Raises: Unreadable, if the header lacks a column, or the file is in another encoding.
    """
    with _opened(file) as lines:
        header, records, delimiter = _opening(lines)
        unread([name for name in header if name and name not in _OF_EXPORTS and name not in FIELDS.values()])
        table = _Table(header, raw, decimal_comma=delimiter != ",")
        for record in records:
            if record.fault:
                yield ImportRow(record.line, None, record.fault)
            elif not _is_blank(record.cells):
                yield _row(record.line, partial(table.values, record.cells))


def from_json_lines(file: BinaryIO) -> Iterator[ImportRow]:
    """One object a line, with the names that the API has; unknown ones are ignored. Raises: Unreadable."""
    with _opened(file) as lines:
        for number, line in enumerate(_whole(lines), 1):
            if line is None:
                yield ImportRow(number, None, f"is longer than {LINE_CHARACTERS} characters")
            elif line.strip():
                yield _row(number, partial(_json_values, line))


@contextmanager
def _opened(file: BinaryIO) -> Generator[Iterator[str]]:
    try:
        with text_lines.lines(file) as lines:
            yield lines
    except text_lines.Undecodable as error:
        raise UnreadableFile(str(error)) from error


def _opening(lines: Iterator[str]) -> tuple[Sequence[str], Iterator[Record], str]:
    """The header, the records below it, and the delimiter. Raises: Unreadable."""
    number, delimiter = 1, None
    first = next(lines, "")
    if says := _SEPARATOR_LINE.fullmatch(first):
        number, delimiter, first = 2, says[1], next(lines, "")
        if delimiter not in DELIMITERS:
            raise UnreadableFile("The first line names a separator that is not read: it must be a comma, a semicolon or a tab.")
    while first and not first.strip(" \r\n,;\t"):
        number, first = number + 1, next(lines, "")
    delimiter = delimiter or max(DELIMITERS, key=first.count)
    records = iter(csv_reader.Reader(chain([first] if first else [], lines), delimiter, line=number))
    header = next(records, Record(number, ()))
    if header.fault:
        raise UnreadableFile(f"Line {header.line} must name the columns, but {header.fault}.")
    return _header([cell or "" for cell in header.cells]), records, delimiter


def _whole(lines: Iterable[str]) -> Iterator[str | None]:
    """Lines; None for one that is too long."""
    is_long = False
    for piece in lines:
        has_end = piece.endswith(("\r", "\n"))
        if is_long or len(piece) >= LINE_CHARACTERS:
            is_long = not has_end
            if has_end:
                yield None
        else:
            yield piece
    if is_long:
        yield None


def _header(cells: Sequence[str]) -> Sequence[str]:
    """Attributes, and other columns by their names in small letters."""
    names = [cell.strip().casefold() for cell in cells]
    header = [_ATTRIBUTES.get(name, name) for name in names]
    known = [name for name in header if name in _ATTRIBUTES.values()]
    missing = [name for name in REQUIRED if name not in header]
    if missing or len(set(known)) < len(known):
        what = f"no column {' and '.join(missing)}" if missing else "a column twice"
        raise UnreadableFile(f"The first line must name the columns, with name and price among them; it has {what}.")
    return header


def _is_blank(cells: Iterable[str | None]) -> bool:
    return not any(cell and cell.strip() for cell in cells)


def _row(line: int, values: Callable[[], Mapping[str, Any]]) -> ImportRow:
    try:
        draft = ItemValues(**values())
    except _BadRow as error:
        return ImportRow(line, None, str(error))
    try:
        draft.check()
    except InvalidInput as error:
        text = "".join((draft.name, draft.description or "", *draft.tags, draft.external_id or ""))
        return ImportRow(line, None, "is not in UTF-8" if any("\udc80" <= char <= "\udcff" for char in text) else error.message)
    return ImportRow(line, draft)


@dataclass(frozen=True)
class _Table:
    """How the cells of a CSV file are to be read."""

    header: Sequence[str]
    raw: bool
    decimal_comma: bool

    def values(self, cells: Sequence[str | None]) -> dict[str, Any]:
        """Of a draft. Raises: _BadRow."""
        if not _is_blank(cells[len(self.header) :]):
            raise _BadRow(f"has {len(cells)} cells where the header has {len(self.header)}")
        found = {name: cell for name, cell in zip(self.header, cells, strict=False) if cell is not None and name in FIELDS.values()}
        numbers = {
            name: cell.replace(",", ".") if self.decimal_comma else cell for name, cell in found.items() if name in _NUMBERS and cell
        }
        texts = {name: cell if self.raw else formulas.restored(cell) for name, cell in found.items() if name not in _NUMBERS}
        tags = [tag for tag in texts.get("tags", "").split(SEPARATOR) if tag.strip()]
        return {"name": "", **texts, "tags": tags, "external_id": texts.get("external_id") or None, **_parsed({"price": "", **numbers})}


def _json_values(text: str) -> dict[str, Any]:
    """Of a draft. Raises: _BadRow."""
    try:
        found = strict_json.loads(text)
    except strict_json.NotJson as error:
        raise _BadRow("is not JSON") from error
    except strict_json.BadJson as error:
        raise _BadRow(f"is not strict JSON: {error}") from error
    if not isinstance(found, dict):
        raise _BadRow("is not a JSON object")
    values = {FIELDS[name]: value for name, value in cast("dict[str, Any]", found).items() if name in FIELDS}
    if missing := [name for name in REQUIRED if name not in values]:
        raise _BadRow(f"lacks {' and '.join(missing)}")
    if isinstance(values.get("tags"), str):
        values["tags"] = [values["tags"]]  # As in GraphQL, where one value stands for a list of one.
    wrong = [name for name, kind in _JSON_TYPES.items() if name in values and not isinstance(values[name], kind)]
    if wrong or not all(isinstance(tag, str) for tag in values.get("tags", ())):
        raise _BadRow(f"{items.PATHS.get(wrong[0], wrong[0]) if wrong else 'tags'}: is of the wrong type")
    return values | _parsed(values)


def _parsed(values: Mapping[str, object]) -> dict[str, Any]:
    """The numbers among them; their bounds are checked later. Raises: _BadRow."""
    parsed: dict[str, Any] = {}
    for name, parse in _NUMBERS.items():
        if name in values:
            try:
                parsed[name] = parse(values[name])
            except parsing.BadValue as error:
                raise _BadRow(f"{name}: {error}") from error
    return parsed
