"""The reader of CSV …"""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.kit.parsing import csv_reader, text_lines
from persistence.kit.parsing.csv_reader import BLANK_BEFORE, BROKEN, RECORD_CHARACTERS, STRAY, TOO_LONG, UNCLOSED, CsvReader
from persistence.kit.parsing.text_lines import Undecodable

LONG = RECORD_CHARACTERS + 10_000
Read = list[tuple[int, list[str | None] | str]]


def read(content: str | bytes, delimiter: str = ",") -> Read:
    data = content if isinstance(content, bytes) else content.encode()
    with text_lines.lines(io.BytesIO(data)) as lines:
        return [(record.line, record.fault or list(record.cells)) for record in CsvReader(lines, delimiter)]


@pytest.mark.parametrize(
    ("content", "records"),
    [
        ("", []),
        ("a", [(1, ["a"])]),
        ("a,b\r\nc,d\r\n", [(1, ["a", "b"]), (2, ["c", "d"])]),
        ("a,b\nc,d", [(1, ["a", "b"]), (2, ["c", "d"])]),
        ("a,b\rc,d\r", [(1, ["a", "b"]), (2, ["c", "d"])]),
        ("a\n\n\r\nb", [(1, ["a"]), (2, [None]), (3, [None]), (4, ["b"])]),
        ('"a","b"\n"c",d', [(1, ["a", "b"]), (2, ["c", "d"])]),
        ('"",,""\n', [(1, ["", None, ""])]),
        ('"a ""b"" c",""""\n', [(1, ['a "b" c', '"'])]),
        ('"a,b","c\nd\r\ne\rf"\ng', [(1, ["a,b", "c\nd\r\ne\rf"]), (5, ["g"])]),
        (" a , b \n", [(1, [" a ", " b "])]),
        ("a\0b,\x1a\n", [(1, ["a\0b", "\x1a"])]),
        ("a\u2028b\x0bc\x85d,e\n", [(1, ["a\u2028b\x0bc\x85d", "e"])]),
        ("'a,b'\n", [(1, ["'a", "b'"])]),
    ],
)
def test_follows_rfc_4180(content: str, records: Read) -> None:
    assert read(content) == records


@pytest.mark.parametrize(
    ("content", "records"),
    [
        ('A,1,"oops\nB,2,x\n', [(1, UNCLOSED)]),
        ('A,1,"\n', [(1, UNCLOSED)]),
        ('"', [(1, UNCLOSED)]),
        ('A,1,"oops\nB,2,"fine"\nC,3,x\n', [(1, BROKEN)]),
        ('"24\\" wide",1\nB,2\n', [(1, BROKEN)]),
        ('"24" wide",1\nB,2\n', [(1, BROKEN)]),
        ('"a" ,1\nB,2\n', [(1, BROKEN)]),
        ('"He said "hi\nEvil,9.99,x\nbye" ok",1\nB,2\n', [(1, BROKEN)]),
        ('A, "b\nEvil,1",2\n', [(1, BLANK_BEFORE)]),
        ('24" wide,1\nB,2\n', [(1, STRAY), (2, ["B", "2"])]),
        ('24",6"\nB,2\n', [(1, STRAY), (2, ["B", "2"])]),
        ('24" wide,"two\nlines"\nB,2\n', [(1, STRAY), (3, ["B", "2"])]),
        ('ok,1\n24" wide,"never\nB,2\n', [(1, ["ok", "1"]), (2, UNCLOSED)]),
    ],
)
def test_refuses_what_is_not_rfc_4180_by_its_line(content: str, records: Read) -> None:
    assert read(content) == records
    assert read(content.replace("\n", "\r\n")) == records


@pytest.mark.parametrize(
    "cell",
    [
        "x" * LONG,
        '"' + "x" * LONG + '"',
        '"' + "Evil,9.99,x\n" * (LONG // 12) + '"',
        '"' + '""' * LONG + '"',
        '"' + '""\r\n' * (LONG // 2) + '"',
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_reads_nothing_of_a_record_that_is_too_long(cell: str, end: str) -> None:
    whole = "first,1\n" + cell.replace("\r\n", "\n") + ",1\nlast,1\n"
    whole, lines = whole.replace("\n", end), whole.count("\n")
    assert read(whole) == [(1, ["first", "1"]), (2, TOO_LONG), (lines, ["last", "1"])]


def test_judges_a_record_that_is_too_long_as_any_other() -> None:
    assert read("x" * LONG + '",1') == [(1, TOO_LONG)]
    assert read('"' + "x" * LONG + '"x,1\nEvil,1\n') == [(1, BROKEN)]
    assert read('"' + "x\nEvil,1\n" * (LONG // 9)) == [(1, UNCLOSED)]


def test_takes_constant_memory() -> None:
    def content() -> Iterator[str]:
        yield '"'
        for _ in range(20):
            yield "x" * RECORD_CHARACTERS
        yield '",1\n'
        yield "last,1\n"

    tracemalloc.start()
    found = [(record.line, record.fault or record.cells) for record in CsvReader(content(), ",")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(1, TOO_LONG), (2, ["last", "1"])]
    assert peak < 6 * RECORD_CHARACTERS


cells = st.text(st.sampled_from("ab ,;\"'\r\n\t=é🙂") | st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.lists(cells, min_size=2, max_size=4), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(deadline=None, max_examples=200)
def test_reads_what_others_write(rows: list[list[str]], end: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [found for _, found in read(file.getvalue())] == rows


@given(st.text(st.sampled_from('ab,"\r\n'), max_size=40))
@settings(deadline=None, max_examples=300)
def test_reads_the_same_wherever_lines_are_cut(text: str) -> None:
    """Pieces of lines, as long lines come, give the same records as whole lines; and never one more than a lenient reader sees."""
    whole = read(text)
    with text_lines.lines(io.BytesIO(text.encode())) as lines:
        pieces = [piece for line in lines for piece in ([line[:1], line[1:]] if len(line) > 1 and line[:2] != "\r\n" else [line])]
    joined = [(record.line, record.fault or list(record.cells)) for record in _Cautious(pieces, ",")]
    assert joined == whole


class _Cautious(CsvReader):
    """Takes every piece for one that may be a part of a line."""

    def __iter__(self) -> Iterator[csv_reader.CsvRecord]:
        while self._char():
            line = self._line
            try:
                yield self._record(line)
            except csv_reader._Lost as lost:  # pyright: ignore[reportPrivateUsage] -- the short way of whole lines is left out here
                yield csv_reader.CsvRecord(line, (), str(lost))
                return


TEXT = 'naïve 🙂,"two\r\nlines"\r\nb,c\r\n'
RECORDS: Read = [(1, ["naïve 🙂", "two\r\nlines"]), (3, ["b", "c"])]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        b"\xff\xfe" + TEXT.encode("utf-16-le"),
    ],
)
def test_reads_utf_8_and_utf_16(content: bytes) -> None:
    assert read(content) == RECORDS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16-le"), "The file is in UTF-16 without a byte order mark: save it as UTF-8."),
        ("abc".encode("utf-16-be"), "The file is in UTF-16 without a byte order mark: save it as UTF-8."),
        (TEXT.encode("utf-32"), "The file is in UTF-32: save it as UTF-8."),
        ("a,b\nc,d".encode("utf-16") + b"x", "From line 2 on, the file is not in UTF-16: save it as UTF-8."),
    ],
)
def test_says_what_encoding_it_does_not_read(content: bytes, message: str) -> None:
    with pytest.raises(Undecodable) as refused:
        read(content)
    assert str(refused.value) == message
