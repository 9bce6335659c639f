"""Texts of rows as the database wrote them, and what it could not write: ids on SQLite, and placeholders that are filled by another statement or by Python.

A placeholder is a number, which says what fills it, and the values of the row that the filling is made of. Control characters stand around both: in JSON they
are escaped, so no text of a row can hold them.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence

LINE_END, MARK, PLACEHOLDER = "\n", "\x1f", "\x1e"
BROKEN = "!"  # The content of a placeholder where the row is not as the schema says.
_LINE_END, _MARK, _PLACEHOLDER, _BROKEN = LINE_END.encode(), MARK.encode(), PLACEHOLDER.encode(), BROKEN.encode()


def lines(text: bytes | None) -> list[bytes]:
    """The lines of an aggregated text, which is null without rows; marked ids become base64."""
    if text is None:
        return []
    if _MARK in text:
        parts = text.split(_MARK)
        parts[1::2] = [b2a_base64(part, newline=False) for part in parts[1::2]]
        text = b"".join(parts)
    return text.split(_LINE_END)


class BrokenRow(Exception):
    """A row is not as the schema says."""


def placeholders(columns: Iterable[Sequence[bytes]]) -> dict[int, set[bytes]]:
    """What is to be filled in some columns of rows: the contents of placeholders by their number. Raises: BrokenRow."""
    found: dict[int, set[bytes]] = {}
    for placeholder in {part for texts in columns for part in b"".join(texts).split(_PLACEHOLDER)[1::2]}:
        number, _, content = placeholder.partition(b":")
        if number == _BROKEN:
            raise BrokenRow
        found.setdefault(int(number), set()).add(content)
    return found


def fill(texts: Sequence[bytes], filled: Mapping[bytes, bytes]) -> list[bytes]:
    """The texts with their placeholders filled; `filled` is by number and content, `3:42`."""
    if not texts:
        return []
    parts = _LINE_END.join(texts).split(_PLACEHOLDER)
    parts[1::2] = [filled[part] for part in parts[1::2]]
    return b"".join(parts).split(_LINE_END)


def contents(text: bytes) -> list[bytes]:
    """The placeholders of one text, by number and content."""
    return text.split(_PLACEHOLDER)[1::2]
