"""Reads JSON that means one thing to every reader: UTF-8, no repeated names, no lone surrogates, no NaN, no number that would change.

RFC 8259 lets a reader skip a byte order mark (section 8.1), leaves repeated names open (section 4) and lets numbers lose digits (section 6). The last two are
refused: a firewall that reads the first of two names would judge another value than the one used here, and a rounded number is a silent change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import cast

import orjson

# Real values nest five or six deep. orjson itself reads 1,024 levels, more than Python code may safely walk.
MAX_DEPTH = 64
_BOM = b"\xef\xbb\xbf"
# Numbers of at most 15 digits with a small exponent pass through 64-bit floats unchanged. Source: IEEE 754, and C's DBL_DIG.
_LONG_NUMBER = re.compile(rb"[0-9.]{16}|[0-9][eE][+-]?[0-9]{3}")
_SHORT_DIGITS = 18  # Whole numbers of so many digits are read as integers of 64 bits.


class BadJson(ValueError):
    """The message is meant for the client and quotes nothing that it sent."""


class NotJson(BadJson):
    """Not JSON at all."""

    def __init__(self) -> None:
        super().__init__("The JSON cannot be read.")


def loads(text: bytes | str) -> object:
    """Raises: NotJson, or BadJson for JSON that not every reader takes for the same."""
    if isinstance(text, str):
        text = text.encode(errors="surrogatepass")
    text = text.removeprefix(_BOM)
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson from error
    # Every string was written with two quotation marks, and one inside a string as `\"`. A repeated name loses at least
    # its own two, so equal counts prove that nothing was lost: 2 µs for usual bodies where a second parse takes 7.
    # The one escape that hides a quotation mark from the count gets that second parse, and so do long numbers.
    strings: list[str] = []
    floats: list[float] = []
    _collect([value], MAX_DEPTH, strings, floats)
    if b"\\u0022" in text or (floats and _LONG_NUMBER.search(text)):
        _check_again(text)
    elif text.count(b'"') != 2 * len(strings) + "".join(strings).count('"'):
        raise BadJson("A name is repeated in a JSON object.")
    return value


def _collect(values: Iterable[object], depth: int, strings: list[str], floats: list[float]) -> None:
    """Gather every string and name, so that they can be counted at once, and what may have been rounded."""
    if depth < 0:
        raise BadJson(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    for value in values:
        # `type(…) is` because orjson makes no subclasses, and it takes half the time of isinstance.
        if type(value) is str:
            strings.append(value)
        elif type(value) is dict:
            members = cast("dict[str, object]", value)
            strings += members
            _collect(members.values(), depth - 1, strings, floats)
        elif type(value) is list:
            _collect(cast("list[object]", value), depth - 1, strings, floats)
        elif type(value) is float:
            floats.append(value)


def _check_again(text: bytes) -> None:
    """Raises: BadJson."""
    try:
        json.loads(text, object_pairs_hook=_distinct, parse_float=_exact, parse_int=_exact_whole)
    except BadJson:
        raise
    except (ValueError, RecursionError) as error:
        # A value that a repeated name replaced was never walked above: it may nest too deep for this parser.
        raise NotJson from error


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("A name is repeated in a JSON object.")
    return found


def _exact_whole(literal: str) -> object:
    """Beyond 64 bits, orjson makes floats of whole numbers, too."""
    return literal if len(literal) <= _SHORT_DIGITS or -(2**63) <= int(literal) < 2**64 else _exact(literal)


def _exact(literal: str) -> object:
    if len(literal) > 1_000 or Decimal(literal) != Decimal(repr(float(literal))):
        raise BadJson("A number has more digits than are kept: write it as a string.")
    return literal
