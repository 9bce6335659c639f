"""Reads rows of an entity from CSV or JSON Lines. An invalid row is reported by its line number and does not stop the others.

Which columns there are, what they hold and how they are checked follows from the entity's table and from the class of the values that clients give.
Nothing is altered in silence: what is read is what the file says, or the row is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import Enum
from functools import cached_property, partial
from itertools import chain
from typing import Any, BinaryIO, cast

from persistence.kit.errors import InvalidInput
from persistence.kit.imports.outcomes import RowPatch
from persistence.kit.parsing import csv_formulas as formulas
from persistence.kit.parsing import csv_reader, strict_json, text_lines
from persistence.kit.parsing import values as parsing
from persistence.kit.parsing.blank import without_invisible
from persistence.kit.parsing.csv_reader import CsvRecord
from persistence.kit.parsing.text_lines import LINE_CHARACTERS
from persistence.kit.parsing.validation import client_name
from persistence.kit.query.entity import Entity

DELIMITERS = (",", ";", "\t", "|")
LIST_SEPARATOR = ";"  # Between the values of a column that holds a list.
UNMATCHED = "must be given to match by it: a row without is found by an export's id and createdAt only"
AMBIGUOUS = "may be thousands or a fraction: write it without a thousands separator, and with two decimal places at most"
ID_DIGITS = 18

_PLACES = {"id": "id", "createdAt": "created_at"}
"""What an export says of a row and nobody gives it."""
_PARSERS: Mapping[str, Callable[[object], Any]] = {
    "Decimal": parsing.decimal_number,
    "Int": parsing.whole_number,
    "Boolean": parsing.boolean,
    "DateTime": parsing.instant,
}
_NUMBERS = ("Decimal", "Int")
_JSON_TYPES: Mapping[str, Any] = {"String": str, "Int": int | float, "Boolean": bool, "DateTime": str, "Reference": str}
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}[.,][0-9]{3}")
_QUOTED = re.compile(r'"[^"]*"')
_BETWEEN_WORDS = re.compile(r"[\s_-]+")  # `external_id` and `External ID` are `externalId`.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\1*[ \r\n]*', re.IGNORECASE)  # Of spreadsheets, which take it for no row either.


class UnreadableFile(Exception):
    """The file as a whole is not one that rows can be read from."""


class _BadRow(Exception):
    """The message says what is wrong with it; `values` are those that could be read."""

    def __init__(self, message: str, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.values = values or {}


class Match(Enum):
    """By what rows of a file find the rows of the table that they are about."""

    NONE = "none"
    """By nothing: each is a new one."""
    KEY = "key"
    """By the entity's key; one without, by the id and the time of creation that an export of this database has."""
    ID = "id"


@dataclass(frozen=True)
class ImportRow:
    """One row of the file, by the number of its first line: good, with what the form made of its values, or at fault.

    `key` tells which row of the table it is about, also where it is at fault; None where it does not say.
    """

    line: int
    content: Any
    fault: str = ""
    key: str | None = None

    @property
    def natural_key(self) -> str | None:
        """The key by which the other system knows it; None for a row that goes by its id."""
        return None if self.key is None or self.key.startswith("\0") else self.key


@dataclass(frozen=True)
class FileForm:
    """The columns of an entity's files, by the API's names, and how rows are made of them.

    `values` is the dataclass of what clients give. `new` makes of its attributes what is to be created, `patch` of some of them what is to be changed; both
    raise InvalidInput. `key` are the attributes that the other system knows a row by; `references` the types whose global ids a foreign key takes.
    """

    entity: Entity[Any]
    type_name: str
    values: type[Any]
    key: tuple[str, ...]
    new: Callable[[Mapping[str, Any]], Any] = RowPatch
    patch: Callable[..., Any] = RowPatch
    match_by_key: str = "key"
    """What clients call it."""
    references: Mapping[str, str] = field(default_factory=dict[str, str])
    needs_owner: bool = False
    """Whether every row belongs to a user."""

    @cached_property
    def attributes(self) -> dict[str, str]:
        """By the API's names."""
        return {self.name(each.name): each.name for each in fields(self.values)}

    @cached_property
    def required(self) -> Sequence[str]:
        """Of a new row."""
        return [each.name for each in fields(self.values) if each.default is MISSING and each.default_factory is MISSING]

    @cached_property
    def columns(self) -> dict[str, str]:
        """What a header may have, in small letters."""
        return {name.casefold(): attribute for name, attribute in {**self.attributes, **_PLACES}.items()}

    def needed(self, match: Match) -> Sequence[str]:
        return {Match.NONE: self.required, Match.KEY: self.key, Match.ID: ("id",)}[match]

    def name(self, attribute: str) -> str:
        """What clients call it: `itemId` of the attribute `item_id`."""
        return client_name(attribute)

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """What the attributes hold: as `Entity.kind` says, or `Reference`."""
        return {name: "Reference" if name in self.references else self.entity.kind(name) for name in self.attributes.values()}

    @cached_property
    def parsed_attributes(self) -> Sequence[str]:
        """Of other kinds than texts."""
        return [name for name, kind in self.kinds.items() if kind not in {"String", "JSON"}]

    @cached_property
    def nullable(self) -> Collection[str]:
        return {name for name in self.kinds if self.entity.is_nullable(name)}

    def empty(self, attribute: str) -> Any:
        """What an empty cell of a row that is matched means."""
        return () if self.kinds[attribute] == "JSON" else None if attribute in self.nullable else ""

    def matches(self) -> Mapping[str, Match]:
        """By what clients call them."""
        return {"none": Match.NONE, self.match_by_key: Match.KEY, "id": Match.ID}

    def parsed(self, values: Mapping[str, object], *, decimal_comma: bool = False) -> dict[str, Any]:
        """Numbers, instants and references among them; their bounds are checked later. Raises: _BadRow."""
        found: dict[str, Any] = {}
        for name in self.parsed_attributes:
            if name in values and not (values[name] is None and name in self.nullable):
                try:
                    found[name] = self._parse(name, values[name], decimal_comma=decimal_comma)
                except parsing.BadValue as error:
                    raise _BadRow(f"{self.name(name)}: {error}") from error
        return found

    def _parse(self, attribute: str, value: object, *, decimal_comma: bool) -> Any:
        kind = self.kinds[attribute]
        if kind == "Reference":
            return _reference(value, self.references[attribute])
        return _PARSERS[kind](_with_point(value) if decimal_comma and kind in _NUMBERS else value)

    def from_csv(
        self, file: BinaryIO, *, raw: bool = False, unread: Callable[[str], None] = lambda _: None, match: Match = Match.NONE
    ) -> Iterator[ImportRow]:
        """Commas, semicolons, tabs or vertical bars, as a first line `sep=;` says or as the header has most; columns in any order.

        Lines of separators only are skipped, empty cells at a line's end may be missing or too many. `raw` takes leading apostrophes for text; `unread` hears in a
        sentence of columns that are neither read nor an export's own.

        Raises: UnreadableFile, if the header lacks a column, or the file is in another encoding.
        """
        with _opened(file) as lines:
            header, records, delimiter = _opening(lines, partial(_header, form=self, match=match))
            if others := ", ".join(name for name in header if name and name not in self.columns.values()):
                unread(f"These columns are not read: {others.encode(errors='replace').decode()}.")
            table = _Table(self, header, raw, decimal_comma=delimiter != ",")
            read = table.values if match is Match.NONE else table.present
            for record in records:
                if record.fault:
                    yield ImportRow(record.line, None, record.fault)
                elif not _is_blank(record.cells):
                    yield self._row(record.line, partial(read, record.cells), match)

    def from_json_lines(self, file: BinaryIO, *, match: Match = Match.NONE) -> Iterator[ImportRow]:
        """One object a line, with the names that the API has; unknown ones are ignored. Raises: UnreadableFile."""
        read = self._json_values if match is Match.NONE else self._json_present
        with _opened(file) as lines:
            for number, line in enumerate(_whole(lines), 1):
                if line is None:
                    yield ImportRow(number, None, f"is longer than {LINE_CHARACTERS} characters")
                elif line.strip():
                    yield self._row(number, partial(read, line), match)

    def _row(self, line: int, values: Callable[[], Mapping[str, Any]], match: Match) -> ImportRow:
        try:
            present = values()
        except _BadRow as error:
            return ImportRow(line, None, str(error), key=self._key(error.values, match))
        key = self._key(present, match)
        try:
            return ImportRow(line, self._content(present, match), key=key)
        except InvalidInput as error:
            return ImportRow(line, None, "is not in UTF-8" if _is_undecodable(present.values()) else error.message, key=key)

    def _content(self, values: Mapping[str, Any], match: Match) -> Any:
        """Raises: InvalidInput."""
        if match is Match.NONE:
            return self.new(values)
        stated = {name: value for name, value in _without_places(values).items() if name not in self.key or value}
        return self.patch(stated, **self._place(values, match))

    def _is_by_id(self, values: Mapping[str, Any], match: Match) -> bool:
        return match is Match.ID or not all(values.get(name) for name in self.key)

    def _key(self, values: Mapping[str, Any], match: Match) -> str | None:
        """Tells a row's row of the table from others; None where it does not say which it is."""
        if match is Match.NONE:
            return None
        if not self._is_by_id(values, match):
            return "\x1f".join(str(values[name]) for name in self.key)
        id_ = _row_id(values.get("id"), self.type_name)
        return None if id_ is None else id_key(id_)

    def _place(self, values: Mapping[str, Any], match: Match) -> dict[str, Any]:
        """How a row that does not go by its key finds its row of the table. Raises: InvalidInput."""
        if not self._is_by_id(values, match):
            return {}
        id_, created_at = _row_id(values.get("id"), self.type_name), values.get("created_at")
        if match is Match.ID:
            if id_ is None:
                raise InvalidInput.at("id", f"must be {_article(self.type_name)}'s id, as exports have it")
            return {"row_id": id_}
        if id_ is None or not created_at:
            raise InvalidInput.at(self.name(self.key[0]), UNMATCHED)
        return {"row_id": id_, "created_at": _instant(created_at)}

    def _json_values(self, text: str) -> dict[str, Any]:
        """Of a new row. Raises: _BadRow."""
        values = self._json_object(text)
        if missing := [self.name(name) for name in self.required if name not in values]:
            raise _BadRow(f"lacks {' and '.join(missing)}")
        return _without_places(self._json_checked(values))

    def _json_present(self, text: str) -> dict[str, Any]:
        """Of a row that is matched. Raises: _BadRow."""
        values = self._json_object(text)
        try:
            return self._json_checked(values)
        except _BadRow as error:
            raise _BadRow(str(error), values) from error

    def _json_object(self, text: str) -> dict[str, Any]:
        """Its values by attributes. Raises: _BadRow."""
        try:
            found = strict_json.loads(text)
        except strict_json.NotJson as error:
            raise _BadRow("is not JSON") from error
        except strict_json.BadJson as error:
            raise _BadRow(f"is not strict JSON: {error}") from error
        if not isinstance(found, dict):
            raise _BadRow("is not a JSON object")
        names = {**self.attributes, **_PLACES}
        return {names[name]: value for name, value in cast("dict[str, Any]", found).items() if name in names}

    def _json_checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: _BadRow."""
        present = {name: self._listed(name, value) for name, value in values.items()}
        for name in self.kinds:
            if name in present and not self._is_of_type(name, present[name]):
                raise _BadRow(f"{self.name(name)}: is of the wrong type")
        return {**present, **self.parsed(present)}

    def _listed(self, attribute: str, value: Any) -> Any:
        """As in GraphQL, where one value stands for a list of one."""
        return [value] if isinstance(value, str) and self.kinds.get(attribute) == "JSON" else value

    def _is_of_type(self, attribute: str, value: Any) -> bool:
        if value is None:
            return attribute in self.nullable or self.kinds[attribute] == "Decimal"
        if self.kinds[attribute] == "JSON":
            return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value))
        return isinstance(value, _JSON_TYPES.get(self.kinds[attribute], object))


@contextmanager
def _opened(file: BinaryIO) -> Generator[Iterator[str]]:
    try:
        with text_lines.lines(file) as lines:
            yield lines
    except text_lines.Undecodable as error:
        raise UnreadableFile(str(error)) from error


def _opening(lines: Iterator[str], header_of: Callable[[Sequence[str]], Sequence[str]]) -> tuple[Sequence[str], Iterator[CsvRecord], str]:
    """The header, the records below it, and the delimiter. Raises: UnreadableFile."""
    number, delimiter = 1, None
    first = next(lines, "")
    if says := _SEPARATOR_LINE.fullmatch(first):
        number, delimiter, first = 2, says[1], next(lines, "")
        if delimiter not in DELIMITERS:
            raise UnreadableFile("The first line names a separator that is not read: it must be a comma, a semicolon, a tab or a |.")
    while first and not first.strip(" \r\n,;\t|"):
        number, first = number + 1, next(lines, "")
    delimiter = delimiter or max(DELIMITERS, key=_QUOTED.sub("", first).count)
    records = iter(csv_reader.CsvReader(chain([first] if first else [], lines), delimiter, line=number))
    header = next(records, CsvRecord(number, ()))
    if header.fault:
        raise UnreadableFile(f"Line {header.line} must name the columns, but {header.fault}.")
    return header_of([cell or "" for cell in header.cells]), records, delimiter


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


def _header(cells: Sequence[str], form: FileForm, match: Match) -> Sequence[str]:
    """Attributes, and other columns by their names in small letters."""
    names = [without_invisible(cell).strip().casefold() for cell in cells]
    header = [form.columns.get(_BETWEEN_WORDS.sub("", name), name) for name in names]
    known = [name for name in header if name in form.columns.values()]
    needed = form.needed(match)
    missing = [form.name(name) for name in needed if name not in header]
    if missing or len(set(known)) < len(known):
        what = f"no column {' and '.join(missing)}" if missing else "a column twice"
        among = " and ".join(map(form.name, needed))
        raise UnreadableFile(f"The first line must name the columns, with {among} among them; it has {what}.")
    return header


def id_key(row_id: int) -> str:
    return f"\0{row_id}"  # No key has such a character.


def _reference(value: object, type_name: str) -> int:
    """Raises: BadValue."""
    if (found := _row_id(value, type_name)) is None:
        raise parsing.BadValue(f"must be {_article(type_name)}'s id")
    return found


def _article(type_name: str) -> str:
    return f"{'an' if type_name[0] in 'AEIO' else 'a'} {type_name.lower()}"


def _row_id(text: object, type_name: str) -> int | None:
    """Of a global id, as exports have it."""
    try:
        kind, _, digits = base64.b64decode(str(text or ""), validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return None
    return int(digits) if kind == type_name and digits.isascii() and digits.isdigit() and len(digits) < ID_DIGITS else None


def _instant(text: object) -> datetime:
    """Raises: InvalidInput."""
    try:
        return parsing.instant(text)
    except parsing.BadValue as error:
        raise InvalidInput.at("createdAt", str(error)) from error


def _is_blank(cells: Iterable[str | None]) -> bool:
    return not any(cell and cell.strip() for cell in cells)


def _is_undecodable(values: Iterable[Any]) -> bool:
    texts = chain.from_iterable(cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value] for value in values)
    return any("\udc80" <= char <= "\udcff" for text in texts for char in str(text))


@dataclass(frozen=True)
class _Table:
    """How the cells of a CSV file are to be read."""

    form: FileForm
    header: Sequence[str]
    raw: bool
    decimal_comma: bool

    def values(self, cells: Sequence[str | None]) -> dict[str, Any]:
        """Of a new row. Raises: _BadRow."""
        present = dict.fromkeys(self.form.required, "") | _without_places(self._texts(cells))
        return present | self.form.parsed(present, decimal_comma=self.decimal_comma)

    def present(self, cells: Sequence[str | None]) -> dict[str, Any]:
        """Of a row that is matched: an empty text or list empties what is there, an empty number says nothing. Raises: _BadRow."""
        padded = [*cells, *[None] * (len(self.header) - len(cells))]
        present = self._texts(padded)
        for name in self.form.kinds.keys() - self.form.parsed_attributes - set(self.form.key):
            if name in self.header:
                present.setdefault(name, self.form.empty(name))
        try:
            return present | self.form.parsed(present, decimal_comma=self.decimal_comma)
        except _BadRow as error:
            raise _BadRow(str(error), present) from error

    def _texts(self, cells: Sequence[str | None]) -> dict[str, Any]:
        """What the cells hold that are not empty. Raises: _BadRow."""
        if not _is_blank(cells[len(self.header) :]):
            raise _BadRow(f"has {len(cells)} cells where the header has {len(self.header)}")
        known = self.form.columns.values()
        found = {name: cell for name, cell in zip(self.header, cells, strict=False) if cell is not None and name in known}
        texts = {name: self._text(name, cell) for name, cell in found.items() if cell or name not in self.form.parsed_attributes}
        return {name: text for name, text in texts.items() if text or name not in self.form.key}

    def _text(self, name: str, cell: str) -> Any:
        text = cell if self.raw or name in self.form.parsed_attributes else formulas.unescape(cell)
        return [each for each in text.split(LIST_SEPARATOR) if each.strip()] if self.form.kinds.get(name) == "JSON" else text


def _without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _PLACES.values()}


def _with_point(cell: object) -> object:
    """A number of a file that may have decimal commas. Raises: BadValue, where its comma or point may as well part thousands."""
    text = str(cell)
    if _THOUSANDS.fullmatch(text):
        raise parsing.BadValue(AMBIGUOUS)
    return text.replace(",", ".")
