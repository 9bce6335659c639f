"""Splits a text file into lines at constant memory: UTF-8 or UTF-16, with LF, CR LF or CR at their ends."""

from __future__ import annotations

import codecs
import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO

LINE_CHARACTERS = 2**20  # A longer line comes in pieces.

_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Undecodable(Exception):
    """The file is not in an encoding that is read. The message says what to do."""


@contextmanager
def lines(file: BinaryIO) -> Generator[Generator[str]]:
    """The lines of a file with their ends, from its start. Bytes that are not UTF-8 come as lone surrogates. Raises: Undecodable."""
    text = io.TextIOWrapper(file, *_encoding(file), newline="")
    try:
        yield _lines(text)
    finally:
        if not file.closed:
            text.detach()  # Else it would close the file, which is its opener's.


def _encoding(file: BinaryIO) -> tuple[str, str]:
    """The encoding, and what is done with bytes that are not in it."""
    start = file.read(4)
    file.seek(0)
    if start in _UTF_32 or start.count(0) == 3:
        raise Undecodable("The file is in UTF-32: save it as UTF-8.")
    if start.startswith(_UTF_16):
        return "utf-16", "surrogatepass"
    if start[::2] == b"\0\0" or start[1::2] == b"\0\0":
        raise Undecodable("The file is in UTF-16 without a byte order mark: save it as UTF-8.")
    return "utf-8-sig", "surrogateescape"


def _lines(text: io.TextIOWrapper) -> Generator[str]:
    following, number = "", 1
    try:
        while line := following + text.readline(LINE_CHARACTERS):
            following = ""
            if line.endswith("\r") and len(line) >= LINE_CHARACTERS and (following := text.read(1)) == "\n":
                line, following = line + following, ""  # The bound stood between the two.
            yield line
            number += line.endswith(("\r", "\n"))
    except UnicodeDecodeError as error:
        raise Undecodable(f"From line {number} on, the file is not in UTF-16: save it as UTF-8.") from error
