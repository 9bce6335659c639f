"""Where the words of a search stand in a text, so that a client can mark them: in UTF-16 code units, as browsers count.

A row is found by folded words (`persistence.kit.search.tokenizer`): `strasse` finds `Straße`. The same folding is done here grapheme by grapheme, each of which
remembers where it came from, so that a place in the folded text is one in the text that people see, and no visible character is cut in two.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import regex

from persistence.kit.search.tokenizer import APOSTROPHE, UNSPACED, Words, fold, part

MOST = 100  # Of one row: more marks are no help to anybody.

# A run of ASCII characters without a mark on the last one folds character by character; anything else goes by what is seen as one character.
_PIECE = regex.compile(r"(?:[\x00-\x7f](?=[\x00-\x7f]|$))+|\X")
# Marks belong to the letter before them, and without one to the word after them.
_NO_WORD_BEFORE = rf"(?<![[\p{{L}}\p{{N}}]--{UNSPACED}]\p{{M}}*)(?<!(?:^|[\s\u200b'])\p{{M}}+)"
_UNSPACED = regex.compile(UNSPACED, regex.VERSION1)


@dataclass(frozen=True)
class Highlight:
    field: str
    start: int
    length: int


def highlights(words: Words, texts: Mapping[str, str | None]) -> list[Highlight]:
    """Where each text, by its field, has one of the words or the beginning that was searched for: in order, and none twice."""
    found = [Highlight(field, start, end - start) for field, text in texts.items() if text for start, end in _in_text(words, text)]
    return found[:MOST]


def _in_text(words: Words, text: str) -> Iterator[tuple[int, int]]:
    pattern = _pattern(words)
    if pattern is None:
        return
    plain, starts, ends = _folded(text)
    spans = [(starts[match.start()], ends[match.end() - 1]) for match in pattern.finditer(plain, overlapped=True)]
    yield from _in_code_units(text, _merged(spans))


@lru_cache(maxsize=256)
def _pattern(words: Words) -> regex.Pattern[str] | None:
    """The longest words first, as one may begin another."""
    each = sorted({word for group in words.groups for word in group}, key=lambda word: (-len(word), word))
    return regex.compile("|".join(map(_of_word, each)), regex.VERSION1) if each else None


def _of_word(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word)
    alone = r"(?<![\p{L}\p{N}\p{M}])" if unicodedata.category(letters[0]).startswith("M") else ""  # A mark beside a letter belongs to it.
    if _UNSPACED.search(word):
        return alone + "\u200b?".join(map(regex.escape, letters)) + r"(?!\p{M})"  # A mark makes another letter of it.
    return alone + _NO_WORD_BEFORE + f"{APOSTROPHE}?".join(map(regex.escape, letters))


def _folded(text: str) -> tuple[str, list[int], list[int]]:
    """The folded text, and for each of its characters where that which it came from begins and ends."""
    parts, starts, ends = list[str](), list[int](), list[int]()
    for match in _PIECE.finditer(text):
        piece, (start, end) = match[0], match.span()
        folded = _fold(piece)
        parts.append(folded)
        alike = piece.isascii()
        starts += range(start, end) if alike else [start] * len(folded)
        ends += range(start + 1, end + 1) if alike else [end] * len(folded)
    return part("".join(parts)), starts, ends


_fold = lru_cache(maxsize=4096)(fold)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _in_code_units(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    place = units = 0
    for span in spans:
        found: list[int] = []
        for index in span:
            units += len(text[place:index].encode("utf-16-le")) // 2
            place = index
            found.append(units)
        yield found[0], found[1]
