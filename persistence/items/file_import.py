"""Imports items from CSV or JSON Lines, row by row. An invalid row is reported by its line number and does not stop the others.

Nothing is altered in silence: what is read is what the file says, or the row is refused. Only blanks around tags do not count, as in the API.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, cast

from persistence.items import external_ids
from persistence.items import table as items
from persistence.items.csv_export import SEPARATOR
from persistence.items.import_journal import ImportJournal
from persistence.items.table import ItemValues
from persistence.items.upserts import ItemPatch
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput
from persistence.kit.parsing import csv_formulas as formulas
from persistence.kit.parsing import csv_reader, strict_json, text_lines
from persistence.kit.parsing import values as parsing
from persistence.kit.parsing.blank import without_invisible
from persistence.kit.parsing.csv_reader import CsvRecord
from persistence.kit.parsing.text_lines import LINE_CHARACTERS

BATCH_ROWS = 1_000  # Of one transaction: readers and other writers wait for less than a second.
DELIMITERS = (",", ";", "\t")
FIELDS = {items.PATHS.get(name, name): name for name in ItemValues.__dataclass_fields__}
"""The columns that are read, by the API's names, and the attributes that they give."""
REQUIRED = ("name", "price")
UNMATCHED = "must be given to match by it: a row without is found by an export's id and createdAt only"
AMBIGUOUS = "may be thousands or a fraction: write it without a thousands separator, and with two decimal places at most"
ID_DIGITS = 18
SLICE_ROWS = 25  # Read before others have their turn on the event loop: a millisecond or two.

_PLACES = {"id": "id", "createdAt": "created_at"}
"""What an export says of an item and nobody gives it."""
_ATTRIBUTES = {name.casefold(): attribute for name, attribute in FIELDS.items()}
_COLUMNS = _ATTRIBUTES | {name.casefold(): attribute for name, attribute in _PLACES.items()}
_KNOWN = frozenset([*_ATTRIBUTES.values(), *_PLACES.values()])
_JSON_NAMES = FIELDS | _PLACES
_EMPTY: Mapping[str, Any] = {"name": "", "description": None, "tags": ()}
_NUMBERS: Mapping[str, Callable[[object], Any]] = {"price": parsing.decimal_number, "inventory": parsing.whole_number}
_JSON_TYPES: Mapping[str, Any] = {"name": str, "description": str | None, "tags": list, "inventory": int | float, "external_id": str | None}
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}[.,][0-9]{3}")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\1*[ \r\n]*', re.IGNORECASE)  # Of spreadsheets, which take it for no row either.


class UnreadableFile(Exception):
    """The file as a whole is not one that items can be read from."""


class _BadRow(Exception):
    """The message says what is wrong with it; `values` are those that could be read."""

    def __init__(self, message: str, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.values = values or {}


class Match(Enum):
    """By what rows find the items that they are about."""

    NONE = "none"
    """By nothing: each is a new item."""
    EXTERNAL_ID = "external-id"
    """By external id; one without, by the id and the time of creation that an export of this catalogue has."""
    ID = "id"


_REQUIRED: Mapping[Match, Sequence[str]] = {Match.NONE: REQUIRED, Match.EXTERNAL_ID: ("external_id",), Match.ID: ("id",)}


@dataclass(frozen=True)
class ImportRow:
    """One row of the file, by the number of its first line: good, or at fault. One that is matched has a patch instead of a draft.

    `key` tells which item it is about, also where it is at fault; None where it does not say.
    """

    line: int
    draft: ItemValues | None
    fault: str = ""
    patch: ItemPatch | None = None
    key: str | None = None

    @property
    def external_id(self) -> str | None:
        return None if self.key is None or self.key.startswith("\0") else self.key


@dataclass(frozen=True)
class ImportBatch:
    """What became of some rows."""

    created: int
    refused: list[ImportRow]


async def load(
    database: Database,
    rows: Iterable[ImportRow],
    *,
    owner_id: int | None,
    dry_run: bool = False,
    journal: ImportJournal | None = None,
) -> AsyncGenerator[ImportBatch]:
    """Create the good rows' items, a transaction for each batch. What was created before a failure stays; rows before an unreadable one are created.

    With a journal, rows that an earlier run has created are passed over.
    """
    done = journal.state.get("line", 0) if journal else 0
    async with aclosing(batches(rows, BATCH_ROWS)) as parts:
        async for part in parts:
            if following := [row for row in part if row.line > done]:
                yield await _create(database, following, owner_id, None if dry_run else journal, dry_run=dry_run)


async def batches(rows: Iterable[ImportRow], most: int) -> AsyncGenerator[list[ImportRow]]:
    """Rows before one that makes the rest unreadable are a batch, too. Raises: UnreadableFile."""
    batch, unreadable = list[ImportRow](), None
    try:
        for number, row in enumerate(rows, 1):
            batch.append(row)
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(0)
            if len(batch) == most:
                yield batch
                batch = []
    except UnreadableFile as error:
        unreadable = error
    if batch:
        yield batch
    if unreadable:
        raise unreadable


async def _create(
    database: Database, rows: Sequence[ImportRow], owner_id: int | None, journal: ImportJournal | None, *, dry_run: bool
) -> ImportBatch:
    good, refused = [row for row in rows if row.draft], [row for row in rows if row.draft is None]
    drafts = [row.draft for row in good if row.draft]
    if not good:
        return ImportBatch(0, refused)
    if dry_run:
        async with database.reading_latest() as session:
            taken = items.refusals(drafts, await items.with_external_ids(session, items.external_ids_of(drafts)))
        new = [draft for place, draft in enumerate(drafts) if place not in taken]
    else:
        async with database.transaction() as work:
            taken = items.refusals(drafts, await items.claim_external_ids(work, items.external_ids_of(drafts)))
            new = [draft for place, draft in enumerate(drafts) if place not in taken]
            await items.create_all(work, new, owner_id=owner_id)
            if journal:
                await journal.note(work, {"line": rows[-1].line, "created": journal.state.get("created", 0) + len(new)})
    refused += [replace(good[place], draft=None, fault=error.message) for place, error in taken.items()]
    return ImportBatch(len(new), sorted(refused, key=lambda row: row.line))


def from_csv(
    file: BinaryIO, *, raw: bool = False, unread: Callable[[Sequence[str]], None] = lambda _: None, match: Match = Match.NONE
) -> Iterator[ImportRow]:
    """Commas, semicolons or tabs, as a first line `sep=;` says or as the header has most; columns in any order.

    Lines of separators only are skipped, empty cells at a line's end may be missing or too many. `raw` takes leading apostrophes for text; `unread` hears of
    columns that are neither read nor an export's own.

    Raises: UnreadableFile, if the header lacks a column, or the file is in another encoding.
    """
    with _opened(file) as lines:
        header, records, delimiter = _opening(lines, match)
        unread([name for name in header if name and name not in _KNOWN])
        table = _Table(header, raw, decimal_comma=delimiter != ",")
        for record in records:
            if record.fault:
                yield ImportRow(record.line, None, record.fault)
            elif not _is_blank(record.cells) and match is Match.NONE:
                yield _row(record.line, partial(table.values, record.cells))
            elif not _is_blank(record.cells):
                yield _matched(record.line, partial(table.present, record.cells), match)


def from_json_lines(file: BinaryIO, *, match: Match = Match.NONE) -> Iterator[ImportRow]:
    """One object a line, with the names that the API has; unknown ones are ignored. Raises: UnreadableFile."""
    with _opened(file) as lines:
        for number, line in enumerate(_whole(lines), 1):
            if line is None:
                yield ImportRow(number, None, f"is longer than {LINE_CHARACTERS} characters")
            elif line.strip() and match is Match.NONE:
                yield _row(number, partial(_json_values, line))
            elif line.strip():
                yield _matched(number, partial(_json_present, line), match)


@contextmanager
def _opened(file: BinaryIO) -> Generator[Iterator[str]]:
    try:
        with text_lines.lines(file) as lines:
            yield lines
    except text_lines.Undecodable as error:
        raise UnreadableFile(str(error)) from error


def _opening(lines: Iterator[str], match: Match) -> tuple[Sequence[str], Iterator[CsvRecord], str]:
    """The header, the records below it, and the delimiter. Raises: UnreadableFile."""
    number, delimiter = 1, None
    first = next(lines, "")
    if says := _SEPARATOR_LINE.fullmatch(first):
        number, delimiter, first = 2, says[1], next(lines, "")
        if delimiter not in DELIMITERS:
            raise UnreadableFile("The first line names a separator that is not read: it must be a comma, a semicolon or a tab.")
    while first and not first.strip(" \r\n,;\t"):
        number, first = number + 1, next(lines, "")
    delimiter = delimiter or max(DELIMITERS, key=first.count)
    records = iter(csv_reader.CsvReader(chain([first] if first else [], lines), delimiter, line=number))
    header = next(records, CsvRecord(number, ()))
    if header.fault:
        raise UnreadableFile(f"Line {header.line} must name the columns, but {header.fault}.")
    return _header([cell or "" for cell in header.cells], match), records, delimiter


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


def _header(cells: Sequence[str], match: Match) -> Sequence[str]:
    """Attributes, and other columns by their names in small letters."""
    names = [without_invisible(cell).strip().casefold() for cell in cells]
    header = [_COLUMNS.get(name, name) for name in names]
    known = [name for name in header if name in _ATTRIBUTES.values()]
    required = _REQUIRED[match]
    missing = [items.PATHS.get(name, name) for name in required if name not in header]
    if missing or len(set(known)) < len(known):
        what = f"no column {' and '.join(missing)}" if missing else "a column twice"
        among = " and ".join(items.PATHS.get(name, name) for name in required)
        raise UnreadableFile(f"The first line must name the columns, with {among} among them; it has {what}.")
    return header


def _matched(line: int, values: Callable[[], Mapping[str, Any]], match: Match) -> ImportRow:
    """A row that changes an item, or adds one."""
    try:
        present = values()
    except _BadRow as error:
        return ImportRow(line, None, str(error), key=_key(error.values, match))
    key = _key(present, match)
    stated = {name: value for name, value in _without_places(present).items() if name != "external_id" or value}
    try:
        patch = ItemPatch.checked(stated, **_place(present, match))
    except InvalidInput as error:
        text = "".join(map(str, present.values()))
        fault = "is not in UTF-8" if any("\udc80" <= char <= "\udcff" for char in text) else error.message
        return ImportRow(line, None, fault, key=key)
    return ImportRow(line, None, patch=patch, key=key)


def _is_by_id(values: Mapping[str, Any], match: Match) -> bool:
    return match is Match.ID or not values.get("external_id")


def _key(values: Mapping[str, Any], match: Match) -> str | None:
    """Tells a row's item from others; None where the row does not say which it is."""
    if not _is_by_id(values, match):
        return str(values["external_id"])
    id_ = _item_id(values.get("id"))
    return None if id_ is None else id_key(id_)


def _place(values: Mapping[str, Any], match: Match) -> dict[str, Any]:
    """How a row that does not go by external id finds its item. Raises: InvalidInput."""
    if not _is_by_id(values, match):
        return {}
    id_, created_at = _item_id(values.get("id")), values.get("created_at")
    if match is Match.ID:
        if id_ is None:
            raise InvalidInput.at("id", "must be an item's id, as exports have it")
        return {"item_id": id_}
    if id_ is None or not created_at:
        raise InvalidInput.at(external_ids.PATH, UNMATCHED)
    return {"item_id": id_, "created_at": _instant(created_at)}


def id_key(item_id: int) -> str:
    return f"\0{item_id}"  # No external id has such a character.


def _item_id(text: object) -> int | None:
    """Of a global id, as exports have it."""
    try:
        kind, _, digits = base64.b64decode(str(text or ""), validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return None
    return int(digits) if kind == "Item" and digits.isascii() and digits.isdigit() and len(digits) < ID_DIGITS else None


def _instant(text: object) -> datetime:
    """Raises: InvalidInput."""
    try:
        return parsing.instant(text)
    except parsing.BadValue as error:
        raise InvalidInput.at("createdAt", str(error)) from error


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
        """Of a new item. Raises: _BadRow."""
        present = self._texts(cells)
        numbers = {name: present.pop(name) for name in _NUMBERS if name in present}
        return {"name": "", **_without_places(present), **_parsed({"price": "", **numbers}, decimal_comma=self.decimal_comma)}

    def present(self, cells: Sequence[str | None]) -> dict[str, Any]:
        """Of a row that is matched: an empty description or list of tags empties what is there, an empty number says nothing. Raises: _BadRow."""
        padded = [*cells, *[None] * (len(self.header) - len(cells))]
        present = self._texts(padded)
        for name, empty in _EMPTY.items():
            if name in self.header:
                present.setdefault(name, empty)
        try:
            return present | _parsed(present, decimal_comma=self.decimal_comma)
        except _BadRow as error:
            raise _BadRow(str(error), present) from error

    def _texts(self, cells: Sequence[str | None]) -> dict[str, Any]:
        """What the cells hold that are not empty. Raises: _BadRow."""
        if not _is_blank(cells[len(self.header) :]):
            raise _BadRow(f"has {len(cells)} cells where the header has {len(self.header)}")
        found = {name: cell for name, cell in zip(self.header, cells, strict=False) if cell is not None and name in _KNOWN}
        texts: dict[str, Any] = {name: self._text(name, cell) for name, cell in found.items() if cell or name not in _NUMBERS}
        if "tags" in texts:
            texts["tags"] = [tag for tag in texts["tags"].split(SEPARATOR) if tag.strip()]
        return {name: text for name, text in texts.items() if text or name != "external_id"}

    def _text(self, name: str, cell: str) -> str:
        return cell if self.raw or name in _NUMBERS else formulas.unescape(cell)


def _json_values(text: str) -> dict[str, Any]:
    """Of a new item. Raises: _BadRow."""
    values = _json_object(text)
    if missing := [name for name in REQUIRED if name not in values]:
        raise _BadRow(f"lacks {' and '.join(missing)}")
    return _without_places(_json_checked(values))


def _json_present(text: str) -> dict[str, Any]:
    """Of a row that is matched. Raises: _BadRow."""
    values = _json_object(text)
    try:
        return _json_checked(values)
    except _BadRow as error:
        raise _BadRow(str(error), values) from error


def _json_object(text: str) -> dict[str, Any]:
    """Its values by attributes. Raises: _BadRow."""
    try:
        found = strict_json.loads(text)
    except strict_json.NotJson as error:
        raise _BadRow("is not JSON") from error
    except strict_json.BadJson as error:
        raise _BadRow(f"is not strict JSON: {error}") from error
    if not isinstance(found, dict):
        raise _BadRow("is not a JSON object")
    return {_JSON_NAMES[name]: value for name, value in cast("dict[str, Any]", found).items() if name in _JSON_NAMES}


def _json_checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Raises: _BadRow."""
    if isinstance(values.get("tags"), str):
        values = {**values, "tags": [values["tags"]]}  # As in GraphQL, where one value stands for a list of one.
    wrong = [name for name, kind in _JSON_TYPES.items() if name in values and not isinstance(values[name], kind)]
    if wrong or not all(isinstance(tag, str) for tag in values.get("tags", ())):
        raise _BadRow(f"{items.PATHS.get(wrong[0], wrong[0]) if wrong else 'tags'}: is of the wrong type")
    return {**values, **_parsed(values)}


def _without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _PLACES.values()}


def _parsed(values: Mapping[str, object], *, decimal_comma: bool = False) -> dict[str, Any]:
    """The numbers among them; their bounds are checked later. Raises: _BadRow."""
    parsed: dict[str, Any] = {}
    for name, parse in _NUMBERS.items():
        if name in values:
            try:
                parsed[name] = parse(_with_point(values[name]) if decimal_comma else values[name])
            except parsing.BadValue as error:
                raise _BadRow(f"{name}: {error}") from error
    return parsed


def _with_point(cell: object) -> object:
    """A number of a file that may have decimal commas. Raises: BadValue, where its comma or point may as well part thousands."""
    text = str(cell)
    if _THOUSANDS.fullmatch(text):
        raise parsing.BadValue(AMBIGUOUS)
    return text.replace(",", ".")
