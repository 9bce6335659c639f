"""Reads CSV strictly, at constant memory. Source: RFC 4180, with LF and CR as line ends beside CR LF, and any delimiter.

Python's reader takes stray quotation marks for text, and rows that follow an unclosed one for its cell; it reads on in the middle of a cell that is too long;
and it does not tell `""`, an empty text, from no text. Here a record that breaks the rules is refused by its line. Where it cannot be told where such a record
ends, nothing after it is read, or the lines of a text could be taken for rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

RECORD_CHARACTERS = 2**20  # The longest good one has some 40,000, with every quotation mark doubled.

STRAY = "a quotation mark stands in a cell that does not begin with one: put the whole cell in quotation marks, and double those in it"
LOST = "where it ends cannot be told, so nothing from here on is read"
BLANK_BEFORE = f"a blank stands before the quotation mark that begins a cell; {LOST}"
BROKEN = f"text follows the quotation mark that ends a cell: double those inside it; {LOST}"
UNCLOSED = f"a quotation mark begins a cell and none ends it; {LOST}"
TOO_LONG = f"is longer than {RECORD_CHARACTERS} characters"

_QUOTED = re.compile(r'[^"]*')


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One record by the number of its first line: its cells, where None is an empty one without quotation marks; or what is wrong with it."""

    line: int
    cells: Sequence[str | None]
    fault: str = ""


class _Lost(Exception):
    """The end of the record cannot be told."""


class CsvReader:
    """The records of physical lines, each given with its line end. A line may come in pieces of at least `RECORD_CHARACTERS`, of which the last has the end."""

    def __init__(self, lines: Iterable[str], delimiter: str, *, line: int = 1) -> None:
        self._lines, self._delimiter = iter(lines), delimiter
        self._piece: str = ""
        self._place, self._line = 0, line
        self._bare = re.compile(rf'[^"{re.escape(delimiter)}\r\n]*')
        self._cell = re.compile(rf'(?:"([^"]*(?:""[^"]*)*)"|([^"{re.escape(delimiter)}\r\n]*))({re.escape(delimiter)}|\r\n\Z|\r\Z|\n\Z|\Z)')
        self._rest = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")

    def __iter__(self) -> Iterator[CsvRecord]:
        while self._char():
            line = self._line
            if len(self._piece) < RECORD_CHARACTERS and (cells := self._cells_of_line(self._piece)) is not None:
                self._place = len(self._piece)
                yield CsvRecord(line, cells)
                continue
            try:
                yield self._record(line)
            except _Lost as lost:
                yield CsvRecord(line, (), str(lost))
                return

    def _cells_of_line(self, line: str) -> list[str | None] | None:
        """The short way for a whole record in one line; None for all others."""
        if '"' not in line:
            return [cell or None for cell in line.rstrip("\r\n").split(self._delimiter)]
        cells, place = list[str | None](), 0
        while found := self._cell.match(line, place):
            quoted, bare, end = found.groups()
            cells.append((bare or None) if quoted is None else quoted.replace('""', '"'))
            if end != self._delimiter:
                return cells
            place = found.end()
        return None

    def _char(self) -> str:
        """The next character, or none at the end."""
        while self._place == len(self._piece):
            self._line += self._piece.endswith(("\r", "\n"))
            self._piece, self._place = next(self._lines, ""), 0
            if not self._piece:
                return ""
        return self._piece[self._place]

    def _run(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """The longest text of such characters, in pieces."""
        while self._char() and (found := pattern.match(self._piece, self._place)) and found[0]:
            self._place = found.end()
            yield found[0]

    def _record(self, line: int) -> CsvRecord:
        """Raises: _Lost."""
        record = _Cells()
        while True:
            if self._char() == '"':
                self._quoted_cell(record)
            else:
                self._bare_cell(record)
            if self._char() != self._delimiter:
                self._place = len(self._piece)  # Only the line's end is left.
                return CsvRecord(line, () if record.fault else record.cells, record.fault)
            self._place += 1

    def _bare_cell(self, record: _Cells) -> None:
        for text in self._run(self._bare):
            record.add(text)
        if self._char() == '"':
            if not "".join(record.parts).strip():
                raise _Lost(BLANK_BEFORE)
            record.fault = record.fault or STRAY
            for text in self._run(self._rest):
                record.add(text)
        record.end(quoted=False)

    def _quoted_cell(self, record: _Cells) -> None:
        self._place += 1
        while True:
            for text in self._run(_QUOTED):
                record.add(text)
            if not self._char():
                raise _Lost(UNCLOSED)
            self._place += 1
            if self._char() != '"':
                break
            self._place += 1
            record.add('"')
        if self._char() not in {"", self._delimiter, "\r", "\n"}:
            raise _Lost(BROKEN)
        record.end(quoted=True)


class _Cells:
    """The cells of a record while it is read; of one that is at fault nothing is kept."""

    def __init__(self) -> None:
        self.cells: list[str | None] = []
        self.parts: list[str] = []
        self.fault = ""
        self._size = 0

    def add(self, text: str) -> None:
        self._size += len(text)
        if self._size > RECORD_CHARACTERS:
            self.fault = TOO_LONG
        if self.fault:
            # One piece tells whether the cell is blank so far.
            self.parts = self.parts[:1] or [text[:1]]
        else:
            self.parts.append(text)

    def end(self, *, quoted: bool) -> None:
        text = "".join(self.parts)
        self.parts = []
        self._size += 1
        if not self.fault:
            self.cells.append(text if quoted else text or None)
