"""Byte range requests (RFC 9110, section 14): one range; a request for several gets the whole representation."""

from __future__ import annotations

import re
from dataclasses import dataclass

DIGITS = 1_000  # Many are no fault of a position, and converting more takes too long.
# A list may have empty elements. Source: RFC 9110, sections 5.6.1 and 14.1.2.
_ONE = re.compile(rf"bytes\s*=[\s,]*(\d{{0,{DIGITS}}})\s*-\s*(\d{{0,{DIGITS}}})[\s,]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class ByteRange:
    """The bytes from `start` up to, without, `end`, of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class UnsatisfiableRange(Exception):
    """The range begins after the end."""


def requested_range(header: str | None, size: int) -> ByteRange | None:
    """What a Range field asks for; None for the whole, also where the field makes no sense. Raises: UnsatisfiableRange."""
    found = _ONE.fullmatch(header or "")
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size or start >= end:
        raise UnsatisfiableRange
    return ByteRange(start, end, size)
