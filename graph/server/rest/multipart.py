"""Streams one file out of a multipart form. Source: RFC 7578.

Starlette's own reader of forms waits for the whole body and keeps it in a temporary file; here each piece goes on to where it is kept. What a form
has beside the file is read and dropped: other fields, and text before the first boundary and after the last.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from graph.kit.errors import BAD_USER_INPUT, Refused, refusal
from graph.server.asgi.error_responses import UNSUPPORTED

FIELD = "file"
EXAMPLE = "as `curl -F file=@photo.png` does"
PART_BYTES = 2**20  # What is handed on at a time: large enough for a thread's errand, small enough for the memory.
PIECE_BYTES = 50  # What each piece takes beside its content: a client chooses how small they are.
PLAIN = frozenset({b"7bit", b"8bit", b"binary"})  # Source: RFC 7578, section 4.7.
HEADERS = 8
HEADER_BYTES = 4_096
PARTS = 100  # The file and other fields.
PREAMBLE_BYTES = 4_096  # Before the first boundary.
OTHER_BYTES = 65_536  # Of other fields, and of what stands before and after the form.
FORM_BYTES = 2 * OTHER_BYTES  # What a form may add around its file, headers and boundaries included.

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)')
_ENCODED_WORD = re.compile(rb'"?=\?.*\?="?', re.DOTALL)  # Which forms do not know. Source: RFC 2047, section 2; RFC 7578, section 5.1.
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})+)", re.IGNORECASE)


class FormFile:
    """The one file of a form: first its name, then its content."""

    def __init__(self, content_type: str | None, body: AsyncGenerator[bytes]) -> None:
        """Raises: Refused, if it is no form."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise refusal(UNSUPPORTED, f"Send multipart/form-data with one part named {FIELD}, {EXAMPLE}.")
        boundary = options.get(b"boundary")
        if not boundary:
            raise _bad("The Content-Type names no boundary")
        self._body, self._filename, self._in_file, self._ended = body, None, False, False
        self._content, self._held, self._headers = list[bytes](), 0, dict[bytes, bytes]()
        self._field, self._value = b"", b""
        self._parts, self._dropped = 0, 0
        self._parser = self._parser_for(boundary)
        # A line feed alone ends a line too: what a hand-written client puts before the form is nobody's loss.
        self._first_boundary = re.compile(rb"(?:\A|\n)(--" + re.escape(boundary) + rb")(?:[ \t]*(\r\n)|(?=--))")
        self._delimiter, self._preamble, self._begun = b"--" + boundary, b"", False

    def _parser_for(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._end,
                },
                max_header_count=HEADERS,
                max_header_size=HEADER_BYTES,
            )
        except FormParserError as error:
            raise _bad("The boundary is too long") from error

    async def filename(self) -> str:
        """As the client wrote it. Raises: Refused, if the form has no file."""
        async for piece in self._body:
            self._read(piece)
            if self._filename is not None:
                return self._filename
        raise _bad("The form is empty or ends before its file")

    async def parts(self) -> AsyncGenerator[bytes]:
        """The content, in parts that take about PART_BYTES. Raises: Refused, if the form is broken or has a second file."""
        async for piece in self._body:
            if self._held >= PART_BYTES:
                yield self._taken()
            self._read(piece)
        if not self._ended:
            raise _bad("The body ends within the form")
        if self._content:
            yield self._taken()

    def _taken(self) -> bytes:
        content, self._content, self._held = b"".join(self._content), [], 0
        return content

    def _read(self, piece: bytes) -> None:
        if self._ended:
            self._drop(len(piece))
            return
        if not self._begun:
            piece = self._after_preamble(piece)
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _bad("The form is not well formed") from error

    def _after_preamble(self, piece: bytes) -> bytes:
        """What the parser is to read, which knows no preamble and no blanks after the first boundary."""
        self._preamble += piece
        found = self._first_boundary.search(self._preamble)
        if (found.start() if found else len(self._preamble)) > PREAMBLE_BYTES:
            raise _bad("The form is not well formed: no boundary comes where it begins")
        if found is None:
            return b""
        self._begun, rest, self._preamble = True, self._preamble[found.end() :], b""
        return self._delimiter + (found[2] or b"") + rest

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > OTHER_BYTES:
            raise _bad(f"Beside the file, a form may have {OTHER_BYTES} bytes")

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise _bad(f"A form may have {PARTS} parts")
        self._headers.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        kind, options = parse_options_header(disposition)
        self._in_file = kind == b"form-data" and options.get(b"name") == FIELD.encode()
        if not self._in_file:
            return
        if self._filename is not None:
            raise _bad(f"There is more than one part named {FIELD}")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in PLAIN:  # Nothing decodes it, and it would be stored as it came.
            raise _bad("The part has a Content-Transfer-Encoding, which forms have no more")
        self._filename = _filename(disposition, options)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._drop(end - start)
            return
        self._content.append(data[start:end])
        self._held += end - start + PIECE_BYTES

    def _part_ends(self) -> None:
        self._in_file = False

    def _end(self) -> None:
        self._ended = True


def _filename(disposition: str, options: dict[bytes, bytes]) -> str:
    """The plain name; the extended one where there is no other, or that is an encoded word, as .NET sends it. Raises: Refused."""
    plain = options.get(b"filename")
    name = plain if plain and not _ENCODED_WORD.fullmatch(plain) else _extended(disposition) or plain
    if not name:
        raise _bad("The part has no filename")
    if "\\" in disposition:  # Whether it escapes or separates, no name that is accepted has one.
        raise _bad("The filename holds a quotation mark or a backslash")
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise _bad("The filename is not in UTF-8") from error


def _extended(disposition: str) -> bytes | None:
    """The value of `filename*`, in UTF-8. RFC 7578 has no use for it, but some libraries send nothing else. Raises: Refused. Source: RFC 8187."""
    values = [value for name, value in _PARAMETER.findall(disposition) if name.lower() == "filename*"]
    if not values:
        return None
    found = _EXTENDED.fullmatch(values[0].strip('"'))
    if found is None:
        raise _bad("The filename* is not well formed")
    name = unquote_to_bytes(found[2])
    return name if found[1].lower() == "utf-8" else name.decode("latin-1").encode()


def _bad(what: str) -> Refused:
    return refusal(BAD_USER_INPUT, f"{what}: send one part named {FIELD} with a filename, {EXAMPLE}.")
