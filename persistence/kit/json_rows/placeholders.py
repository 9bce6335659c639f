"""Texts of rows as the database wrote them, and what it could not write: ids on SQLite, and placeholders that are filled by another statement or by Python.

A placeholder is a number, which says what fills it, and the values of the row that the filling is made of. Control characters stand around both: in JSON they
are escaped, so no text of a row can hold them.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from itertools import chain

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


class Placeholders:
    """Those of one column of rows, by number and content, `3:42`; the texts are split at them once."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts, self._parts = texts, _LINE_END.join(texts).split(_PLACEHOLDER)
        self.all = self._parts[1::2]

    def filled(self, by: Mapping[bytes, bytes]) -> list[bytes]:
        """The texts of the column, which has some."""
        self._parts[1::2] = [by[placeholder] for placeholder in self.all]
        return b"".join(self._parts).split(_LINE_END)

    def add_points(self, costs: list[int], points: Mapping[bytes, int]) -> None:
        """To the cost of each row what its placeholders cost."""
        priced, begin = [points.get(placeholder, 0) for placeholder in self.all], 0
        for row, text in enumerate(self._texts):
            end = begin + text.count(_PLACEHOLDER) // 2
            costs[row] += sum(priced[begin:end])
            begin = end


def contents_by_number(columns: Sequence[Placeholders]) -> dict[bytes, dict[bytes, bytes]]:
    """What is to be filled: by their number the different placeholders, each with its content. Raises: BrokenRow."""
    found: dict[bytes, dict[bytes, bytes]] = {}
    for placeholder in dict.fromkeys(chain.from_iterable([column.all for column in columns])):
        number, _, content = placeholder.partition(b":")
        found.setdefault(number, {})[placeholder] = content
    if _BROKEN in found:
        raise BrokenRow
    return found
