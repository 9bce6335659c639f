"""Word search with the same results on every database.

Words are made here, in Python: both databases only index them. A query finds the rows in which each of its words begins a word.

A word is one of UAX #29, without its punctuation: letters, marks and digits; format characters, such as a soft hyphen or a joiner, belong to it and
are ignored. So does an apostrophe between letters, straight or curly: `don't` and `dont` are one word; what follows it is a word too, so that `eau`
is found in `l'eau`. Hyphens and full stops part words, so that `example` is found in `ada@example.com`. Text of scripts that put no spaces
between words (Han, kana, Thai, Lao, Khmer, Burmese) is indexed from each of its letters on, so that it is found from the middle.

Who changes what a text's words are re-indexes the rows that there are by a migration, as 0019 does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import regex

from persistence.kit.parsing.validation import Checks

QUERY_LENGTH = 200  # Characters of a query.
QUERY_WORDS = 16  # Each costs an index look-up.
WORD_LENGTH = 64  # Characters of a word that are indexed, and that a query's word may have; PostgreSQL refuses lexemes of 2 kB.
WINDOW = 4  # Letters of unspaced text, with their marks, that are indexed from each place: most of its words are shorter.
STEP = WINDOW - 1  # Windows of a query that are looked up share a letter; that a row has them side by side is told by its `runs`.
MARK = "·"  # Before a word of a row's first text: an apostrophe where people type it, so it is in no word, and to both databases it is a letter.
REMEMBERED_QUERIES = 256  # Of up to QUERY_LENGTH characters: half a megabyte.
REMEMBERED = 20_000  # Folded characters: 2 MB. More are in no shop's texts, but anybody may send all of Unicode.

_ASCII_WORD = re.compile(r"[a-z0-9]+")
# Characters that this version of Unicode does not know are mostly letters of a later one.
_LETTER = regex.compile(r"[\p{L}\p{M}\p{N}\p{Cn}\p{Co}]")
UNSPACED = r"[[\p{Line_Break=Complex_Context}\p{Ideographic}\p{Han}\p{Hiragana}\p{Bopomofo}\p{Word_Break=Katakana}]&&[\p{L}\p{M}\p{N}]]"
_MARK = regex.compile(r"\p{M}")
APOSTROPHE = "'"
# Those that UAX #29 has within words, and what is typed in their place; the last three are of Catalan and Hebrew.
_APOSTROPHES = frozenset("'’‘‛`′‧·׳״")  # noqa: RUF001 -- look-alikes are the point
_LETTER_WITH_MARKS = regex.compile(r".\p{M}*")
_SPACED_LETTER = rf"[[\p{{L}}\p{{M}}]--{UNSPACED}]"
_OUTSIDE_WORDS = regex.compile(rf"(?<!{_SPACED_LETTER}){APOSTROPHE}|{APOSTROPHE}(?!{_SPACED_LETTER})", regex.VERSION1)
_NOT_PARTED_BY_SPACES_ALONE = regex.compile(rf"[{UNSPACED}\u200b]", regex.VERSION1)
_WORD = regex.compile(rf"(?P<unspaced>{UNSPACED}[{UNSPACED}\p{{M}}\u200b]*)|[^\s\u200b{UNSPACED}]+", regex.VERSION1)
# But for the zero-width space, which parts words; Thai and Khmer text has it where others put a space, or has it not.
_IGNORED = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}\p{Me}ʹʺʻʼʽʾʿـ--\u200b]", regex.VERSION1)
# Canonical classes of marks that readers leave out: accents, points of Hebrew and Arabic, nuktas. Vowel signs, viramas, tone marks of Thai and Lao and
# the voicing of kana have others: without them it is another word. Source: UAX #44, section 5.7.4.
_ACCENTS = frozenset({1, 7, *range(10, 37), *range(200, 241)})
# Letters that languages of one script, or places in a word, have each their own of: keyboards have one of them, and readers take it for the others.
_ALIKE = {
    "ك": "کڪ", "ي": "یىےێ", "ه": "ہھەةۃ", "ا": "ٱ", "ن": "ں", "گ": "ګ", "و": "ۆ", "ر": "ڕ", "ل": "ڵ",  # noqa: RUF001 -- look-alikes are the point
    "כ": "ך", "מ": "ם", "נ": "ן", "פ": "ף", "צ": "ץ",  # noqa: RUF001 -- as above
    "ं": "ँ",
}  # fmt: skip
# Letters that are no letter with an accent to Unicode, and are to readers. Those that are by their names, such as `o with stroke`, need no place here.
_SIMPLER = {
    "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ı": "i", "ȷ": "j", "ŋ": "n", "ĸ": "k", "ə": "e", "ǝ": "e", "ɛ": "e", "ɔ": "o", "ɩ": "i", "ʋ": "v", "ɣ": "g", "ʉ": "u",  # noqa: RUF001 -- as above
    "ꜳ": "aa", "ꜵ": "ao", "ꜷ": "au", "ꜹ": "av", "ꜻ": "av", "ꜽ": "ay", "ꝏ": "oo", "ꝡ": "vy", "ꜩ": "tz", "ỻ": "ll",
    "װ": "וו", "ױ": "וי", "ײ": "יי", "ৎ": "ত্", "ൺ": "ണ്", "ൻ": "ന്", "ർ": "ര്", "ൽ": "ല്", "ൾ": "ള്", "ൿ": "ക്",  # noqa: RUF001 -- as above
    **{other: letter for letter, others in _ALIKE.items() for other in others},
    **{chr(katakana): chr(katakana - 0x60) for katakana in range(0x30A1, 0x30F7)},  # To hiragana.
}  # fmt: skip
# As they are written where a word ends.
_FINAL = str.maketrans({letter: others for letter, others in _ALIKE.items() if letter in "כמנפצ"} | {"σ": "ς"})  # noqa: RUF001 -- as above
# The ring of Thai and Lao before a mark of tone: typed with it, `น้ำ` looks as with the letter that has the ring in it, which follows the tone.
_RING_BEFORE_TONE = re.compile("([\u0e4d\u0ecd])([\u0e48-\u0e4b\u0ec8-\u0ecb])")
_ADORNED = re.compile(r"((?:LATIN|CYRILLIC) SMALL LETTER .+?) WITH .+")


def check(checks: Checks, path: str, query: str | None) -> None:
    """Report a query that is too long, has too many words or too long ones: none of them would be ignored in silence."""
    before = len(checks.problems)
    checks.text(path, query, most=QUERY_LENGTH, lines=True)
    if not query or len(checks.problems) > before:
        return
    if (number := len(prefixes(query))) > QUERY_WORDS:
        checks.report(
            path,
            f"must have at most {QUERY_WORDS} words, not {number}; text without spaces, such as Chinese, has one for each {STEP} letters",
        )
    elif (longest := max(map(len, prefixes(query)), default=0)) > WORD_LENGTH:
        checks.report(path, f"must have words of at most {WORD_LENGTH} characters, not {longest}")


def words(text: str) -> list[str]:
    """The words by which a text is found, in order: `Motörhead (Live)` gives `motorhead`, `live`; `日本語` gives `日本語`, `本語`, `語`."""
    return [word for entry in _entries(text) for word in entry.split(" ")]


def indexed(*texts: str | None) -> str:
    """Each word and each run of the texts once, separated by spaces: the content of a `search_words` column."""
    return " ".join(dict.fromkeys(entry for text in texts if text for entry in _entries(text)))


def marked(words: str, first: str) -> str:
    """`indexed` texts, and the words of the first of them again with a mark, so that rows which have a word in that text are found by it, and ranked."""
    return " ".join([words, *(MARK + word for word in dict.fromkeys(first.split(" ")) if word)])


def _entries(text: str) -> Iterable[str]:
    """Words, and for text without spaces the words of all its letters side by side, so that longer text than a window is found by these."""
    for word, unspaced in _parted(text):
        if unspaced:
            yield " ".join(_from_each_place(word))
        else:
            yield from _with_tails(word)


@lru_cache(REMEMBERED_QUERIES)
def query_parts(query: str) -> Sequence[tuple[str, bool]]:
    """Split once: each of a query's forms and conditions is made of it."""
    return tuple(_parted(query))


def prefixes(query: str) -> list[str]:
    """What must each begin a word of a row that the query finds."""
    return list(
        dict.fromkeys(
            part for word, unspaced in query_parts(query) for part in (_windows(word) if unspaced else (_without_apostrophes(word),))
        )
    )


def runs(query: str) -> list[str]:
    """Of text without spaces that is longer than a window: what a row that the query finds has in its words, after a space."""
    found = (_LETTER_WITH_MARKS.findall(word) for word, unspaced in query_parts(query) if unspaced)
    return list(dict.fromkeys(" ".join(_at(letters, range(len(letters) - STEP))) for letters in found if len(letters) > WINDOW))


@dataclass(frozen=True)
class Words:
    """What a row must have: of each group one of its words, or the beginning of one. A group of several is a word and what may be meant by it."""

    groups: tuple[tuple[str, ...], ...]
    runs: tuple[str, ...] = ()
    """Of text without spaces that is longer than a window: what the row has in its words, after a space."""
    whole: bool = False
    """Whether the beginning of a word does not do."""
    without: tuple[Words, ...] = ()
    """What the row must not have."""

    @classmethod
    def of(cls, query: str) -> Words:
        return cls(tuple((word,) for word in prefixes(query)), tuple(runs(query)))

    def in_first_text(self) -> Words:
        """Of rows whose words are `marked`: the same, but in the first of their texts."""
        return replace(self, groups=tuple(tuple(MARK + word for word in group) for group in self.groups))

    def patterns(self, name: str) -> Mapping[str, str]:
        """For LIKE, of a text with a space at both ends: what the row must have, each with a name of its own: `search_0_0`, `search_1_0`, `search_1_1`."""
        end = " %" if self.whole else "%"
        return {f"{name}_{place}_{way}": f"% {word}{end}" for place, group in enumerate(self.groups) for way, word in enumerate(group)}

    def fts5(self) -> str:
        """SQLite's form: `("motor"*) AND ("live"* OR "life"*)`. Words hold letters, marks and digits only, so nothing needs escaping."""
        end = "" if self.whole else "*"
        found = " AND ".join("(" + " OR ".join(f'"{word}"{end}' for word in group) + ")" for group in self.groups)
        return f"({found})" + "".join(f" NOT ({each.fts5()})" for each in self.without) if self.without else found

    def tsquery(self) -> str:
        """PostgreSQL's form: `('motor':*) & ('live':* | 'life':*)`. `'motor':+` is any longer word that begins so."""
        end = "" if self.whole else ":*"
        parts = ["(" + " | ".join(f"'{word}'{end}" for word in group) + ")" for group in self.groups]
        if any(each.whole and each.groups == self.groups for each in self.without):
            # The row has a longer one of some word then, and these are in fewer rows.
            longer = "(" + " | ".join(f"'{word}':+" for group in self.groups for word in group) + ")"
            parts = [*parts, longer] if len(parts) > 1 else [longer]
        return " & ".join([*parts, *(f"!({each.tsquery()})" for each in self.without)])


def _without_apostrophes(word: str) -> str:
    return word.replace(APOSTROPHE, "")


def _with_tails(word: str) -> list[str]:
    """`l'eau` gives `leau` and `eau`."""
    if APOSTROPHE not in word:
        return [word[:WORD_LENGTH]]
    parts = word.split(APOSTROPHE)
    return ["".join(parts[place:])[:WORD_LENGTH] for place in range(len(parts))]


def _from_each_place(word: str) -> list[str]:
    if not _MARK.search(word):
        return [word[place : place + WINDOW] for place in range(len(word))]
    letters: list[str] = _LETTER_WITH_MARKS.findall(word)
    return [window[:WORD_LENGTH] for window in _at(letters, range(len(letters)))]


def _windows(word: str) -> list[str]:
    letters: list[str] = _LETTER_WITH_MARKS.findall(word)
    last = max(len(letters) - WINDOW, 0)
    return _at(letters, (*range(0, last, STEP), last))


def _at(letters: Sequence[str], places: Iterable[int]) -> list[str]:
    return ["".join(letters[place : place + WINDOW]) for place in places]


def _parted(text: str) -> Iterable[tuple[str, bool]]:
    """Folded words, with the apostrophes between their letters, and whether they are text without spaces."""
    if text.isascii() and _APOSTROPHES.isdisjoint(text):
        return [(word, False) for word in _ASCII_WORD.findall(text.lower())]
    plain = part(fold(text))
    if _NOT_PARTED_BY_SPACES_ALONE.search(plain) is None:
        return [(word, False) for word in plain.split()]
    return [(_composed(found[0]), True) if found["unspaced"] else (found[0], False) for found in _WORD.finditer(plain)]


def fold(text: str) -> str:
    """Small letters without what readers leave out, and spaces for what is in no word; apostrophes are left for `part`."""
    return _RING_BEFORE_TONE.sub(r"\2\1", unicodedata.normalize("NFKD", text)).translate(_FOLDING)


def spelled(word: str) -> str:
    """A folded word as readers expect it: Hebrew and Greek have letters of their own for the end of a word."""
    return word[:-1] + word[-1].translate(_FINAL)


def part(folded: str) -> str:
    """A folded text of the same length in which apostrophes are within words only."""
    return _OUTSIDE_WORDS.sub(" ", folded) if APOSTROPHE in folded else folded


def _composed(word: str) -> str:
    """With the voicing of kana in the letter: `か` is not found in `が`."""
    return unicodedata.normalize("NFC", word.replace("\u200b", ""))


class Folding(dict[int, str]):
    """For `str.translate`: the small letters in the place of a character, or a space for what is in no word. `most` are remembered."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __missing__(self, code: int) -> str:
        folded = _simple(chr(code))
        if len(self) < self._most:
            self[code] = folded
        return folded


def _simple(text: str) -> str:
    return "".join(map(_plain, unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())))


def _plain(char: str) -> str:
    """A small letter without what readers leave out; empty for what is nothing but that, and a space for what is in no word."""
    if char in _APOSTROPHES:
        return APOSTROPHE
    if _IGNORED.match(char) or unicodedata.combining(char) in _ACCENTS:
        return ""
    if not _LETTER.match(char):
        return char if char == "\u200b" else " "
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    if adorned := _ADORNED.fullmatch(unicodedata.name(char, "")):
        return _simple(unicodedata.lookup(adorned[1]))
    return _SIMPLER.get(char, char)


_FOLDING = Folding(REMEMBERED)
