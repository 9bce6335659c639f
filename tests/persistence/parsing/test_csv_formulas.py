"""Formulas in CSV …"""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from persistence.kit.parsing.csv_formulas import BLANKS, SEPARATORS, SIGNS, escape, may_contain_formula, unescape

FULL = "\N{FULLWIDTH EQUALS SIGN}"
LETTERS = [*SIGNS, *SEPARATORS, *" \"'ax\x0b\x85\xa0\u2003\u200b\u3000\ufeffé🙂漢、…"]
texts = st.text(st.sampled_from(LETTERS), max_size=12) | st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        *((f"{sign}1+1", f"'{sign}1+1") for sign in SIGNS),
        *((f"{control}x", f"'{control}x") for control in "\t\r\n"),
        (" =1", "' =1"),
        ("\xa0\u3000=1", "'\xa0\u3000=1"),
        ("\u200b=1", "'\u200b=1"),
        (f" {FULL}1", f"' {FULL}1"),
        ('"=1', "'\"=1"),
        ("a;=1", "a;'=1"),
        ("a; =1", "a;' =1"),
        ("a\t=1", "a\t'=1"),
        ("a,=1", "a,'=1"),
        ("a|=1", "a|'=1"),
        ("a\n=1", "a\n'=1"),
        ("a\r\n-1\r\n+1", "a\r\n'-1\r\n'+1"),
        ('a;"=1"', 'a;\'"=1"'),
        (f"a;{FULL}1", f"a;'{FULL}1"),
        ("-1;-2;;=3", "'-1;'-2;;'=3"),
        ("'=1", "''=1"),
        ("a;''=1", "a;'''=1"),
        ("\t=1", "'\t'=1"),
        ("Yo-yo", "Yo-yo"),
        ("a=b", "a=b"),
        ("a - b", "a - b"),
        ("'tis", "'tis"),
        ("a; b, c", "a; b, c"),
        ("a\nb\tc", "a\nb\tc"),
        ("", ""),
    ],
)
def test_are_made_harmless_wherever_a_cell_may_begin(text: str, harmless: str) -> None:
    assert escape(text) == harmless
    assert unescape(harmless) == text


def test_know_every_sign_that_folds_to_one() -> None:
    """Whatever NFKC makes of a character, trimmed."""
    folded = {char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.normalize("NFKC", char).lstrip()[:1] in set("=+-@")}
    assert folded | {"\N{MINUS SIGN}"} == set(SIGNS)
    blank = {char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace()} - set("\t\r\n\x1c\x1d\x1e\x1f")
    assert {char for char in blank if not re.fullmatch(f"[{BLANKS}]", char)} == set()


def split(text: str) -> list[str]:
    """The cells that a spreadsheet may see in a text, folded and trimmed."""
    parts = re.split(f"[{SEPARATORS}]", text)
    return [unicodedata.normalize("NFKC", re.sub(f"""^["{BLANKS}]*""", "", part)) for part in parts]


@given(texts)
@example("'\n=")
@example("''\t\t'=")
@settings(deadline=None, max_examples=500)
def test_come_back_and_none_is_left(text: str) -> None:
    harmless = escape(text)
    assert unescape(harmless) == text
    assert [cell for cell in split(harmless) if cell[:1] in set("=+-@")] == []


@given(texts, texts)
@settings(deadline=None, max_examples=500)
def test_are_found_in_rows(name: str, text: str) -> None:
    name = re.sub(r"[\t\r\n]", "", name)  # As names are.
    row = ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in (name, text)) + ",1.00,2026-11-30T00:00:00+00:00\x1f\n"
    bare = f"{name},{text},1.00\x1f\n"
    if (escape(name), escape(text)) != (name, text):
        for rows in (row.encode(), bare.encode()):
            assert may_contain_formula(rows)
            assert may_contain_formula(rows, lines=1)
            assert may_contain_formula(rows.replace(b"\x1f\n", b"\r\n") * 2, lines=2)


def test_are_not_looked_for_in_usual_rows() -> None:
    row = b'"Yo-yo, red = blue","a - b, c; d",19.90,x;y z,3,SXRlbTox==,2026-11-30T00:00:00+00:00'
    for rows in ((row + b"\x1f\n") * 2, (row + b"\r\n") * 2):
        assert not may_contain_formula(rows)
        assert not may_contain_formula(rows, lines=2)
    assert not may_contain_formula(row.replace(b"; d", b"\r\nd\te"))
