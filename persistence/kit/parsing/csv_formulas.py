"""Keeps spreadsheets from running the texts of a CSV file as formulas: an apostrophe goes in front of what begins like one, and import takes it off again.

A spreadsheet runs a cell that begins with `= + - @`, also in full width, behind blanks or behind quotation marks, and takes some control characters off first.
Where it splits a file at another separator than the comma, a cell may begin behind any of them, and behind a line end. So an apostrophe is put in all these
places. One that was there already gets another beside it, so that taking one off everywhere (`unescape`) always gives back what there was.

Source: OWASP, "CSV Injection". What is not defended: a file that is split at blanks.
"""

from __future__ import annotations

import re

# With the characters that Unicode's compatibility folding (NFKC) makes these of, as some programs fold what they read.
SIGNS = "=+-@⁺⁼₊₌⩵⩶﬩﹢﹣﹦﹫＋－＝＠−"  # noqa: RUF001 -- they stand here because they look alike
CONTROLS = "\t\r\n"
SEPARATORS = f",;|{CONTROLS}"
BLANKS = " \x0b\x0c\x85\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"  # Nobody sees them in front of a sign.

_AHEAD = rf"""["'{BLANKS}]*"""
_SIGN = f"[{re.escape(SIGNS)}]"
_BEGINS = re.compile(rf"(?:^(?={_AHEAD}(?:{_SIGN}|[{CONTROLS}]))|(?<=[{SEPARATORS}])(?={_AHEAD}{_SIGN}))")
_NEUTRAL = re.compile(rf"(?:^'(?={_AHEAD}(?:{_SIGN}|[{CONTROLS}]))|(?<=[{SEPARATORS}])'(?={_AHEAD}{_SIGN}))")
# For a look at many rows at once, in UTF-8, where each sign beyond ASCII begins with one of two bytes. That these begin other characters, too, and that all
# bytes of a blank are left out wherever they stand, finds too much, never too little.
_LEADING = bytes({char.encode()[0] for char in SIGNS if not char.isascii()})
_IGNORED = bytes({byte for char in f"\"'{BLANKS}" if char != "-" for byte in char.encode() if byte not in _LEADING})
_SEPARATOR, _CONTROL, _SIGN_BYTE = 1, 2, 3


def _kinds(control: int) -> bytes:
    signs = {*b"=+-@", *_LEADING}
    return bytes(
        _SEPARATOR if byte in b",;|" else control if byte in b"\t\r\n" else _SIGN_BYTE if byte in signs else 0 for byte in range(256)
    )


_KINDS, _KINDS_OF_LINES = _kinds(_CONTROL), _kinds(_SEPARATOR)
_BEHIND_SEPARATOR = bytes([_SEPARATOR, _SIGN_BYTE])
_SUSPICIOUS = (_BEHIND_SEPARATOR, bytes([_CONTROL, _SIGN_BYTE]), bytes([_SEPARATOR, _CONTROL]))


def escape(text: str) -> str:
    """The text, or a quoted cell's inside, as a spreadsheet may have it."""
    return _BEGINS.sub("'", text)


def unescape(text: str) -> str:
    """What `escape` was given."""
    return _NEUTRAL.sub("", text) if "'" in text else text


def may_contain_formula(rows: bytes, *, lines: int | None = None) -> bool:
    """Whether a cell of these rows of CSV may be one that `escape` changes: a false alarm is possible, a miss is not. A row's first cell holds no control.

    With the number of rows, it is found out in half the time where each is one line, and taken for granted of others.
    """
    if lines is None:
        kinds = (b"\n" + rows).translate(_KINDS, _IGNORED)
        return any(pair in kinds for pair in _SUSPICIOUS)
    returns = lines if rows.endswith(b"\r\n") else 0
    if b"\t" in rows or rows.count(b"\n") != lines or rows.count(b"\r") != returns:
        return True
    kinds = rows.translate(_KINDS_OF_LINES, _IGNORED)
    return kinds.startswith(_BEHIND_SEPARATOR[1:]) or _BEHIND_SEPARATOR in kinds
