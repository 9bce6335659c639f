"""One file out of a form, as it arrives. Source: RFC 7578.

Starlette's own reader of forms waits for the whole body and keeps it in a temporary file; here each piece goes on to where it is kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from graph.kit.errors import BAD_USER_INPUT, Refused, refusal
from graph.server.asgi.error_responses import UNSUPPORTED

FIELD = "file"
EXAMPLE = "as `curl -F file=@photo.png` does"
PART_BYTES = 2**20  # What is handed on at a time: large enough for a thread's errand, small enough for the memory.
PIECE_BYTES = 50  # What each piece takes beside its content: a client chooses how small they are.
HEADERS = 8
HEADER_BYTES = 4_096


class FormFile:
    """The one file of a form: first its name, then its content."""

    def __init__(self, content_type: str | None, body: AsyncGenerator[bytes]) -> None:
        """Raises: Refused, if it is no form."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise refusal(UNSUPPORTED, f"Send multipart/form-data with one part named {FIELD}, {EXAMPLE}.")
        if not options.get(b"boundary"):
            raise _bad("The Content-Type names no boundary")
        self._body, self._filename, self._ended = body, None, False
        self._content, self._held, self._headers = list[bytes](), 0, dict[bytes, bytes]()
        self._field, self._value = b"", b""
        self._parser = self._parser_for(options[b"boundary"])

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
                    "on_end": self._end,
                },
                max_header_count=HEADERS,
                max_header_size=HEADER_BYTES,
            )
        except FormParserError as error:
            raise _bad("The boundary is too long") from error

    async def filename(self) -> str:
        """As the client wrote it. Raises: Refused, if the form does not begin with the file."""
        async for piece in self._body:
            self._read(piece)
            if self._filename is not None:
                return self._filename
        raise _bad("The form is empty or ends before its file")

    async def parts(self) -> AsyncGenerator[bytes]:
        """The content, in parts that take about PART_BYTES. Raises: Refused, if the form is broken or does not end with the file."""
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
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _bad("The form is not well formed") from error

    def _part_begins(self) -> None:
        if self._filename is not None:
            raise _bad("There is more than one part")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_end(self) -> None:
        self._filename = _filename(self._headers)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])
        self._held += end - start + PIECE_BYTES

    def _end(self) -> None:
        self._ended = True


def _filename(headers: dict[bytes, bytes]) -> str:
    disposition = headers.get(b"content-disposition", b"")
    kind, options = parse_options_header(disposition.decode("latin-1"))
    if kind != b"form-data" or options.get(b"name") != FIELD.encode():
        raise _bad(f"The part is not named {FIELD}")
    if not options.get(b"filename"):
        raise _bad("The part has no filename")
    if b"\\" in disposition:  # Whether it escapes or separates, no name that is accepted has one.
        raise _bad("The filename holds a quotation mark or a backslash")
    try:
        return options[b"filename"].decode()
    except UnicodeDecodeError as error:
        raise _bad("The filename is not in UTF-8") from error


def _bad(what: str) -> Refused:
    return refusal(BAD_USER_INPUT, f"{what}: send one part named {FIELD} with a filename, {EXAMPLE}.")
