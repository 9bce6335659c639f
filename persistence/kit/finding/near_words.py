"""Near words: what may have been meant by a search that found nothing, within a typing error or two of what was typed.

Beside its rows a table keeps the words that they have, each under all spellings that are left of it when up to two of its first letters are missing. Two
words within that distance share such a spelling (symmetric deletion, Garbe 2012), so a look-up by a few equal texts finds all that are near, on
every database alike and without a look at the others; triggers of the database keep the table: see `spellings_index`. How near they are is worked out here.

Numbers, article numbers and words of less than four letters are never bent: they are meant as they are. Words with digits are in the table as they
are only, so that it has every word from three letters on (`persistence.kit.query.conditions` looks up there how a word that was typed goes on).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from sqlalchemy import Column, Index, Select, Table, bindparam, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.column_types import SortableText
from persistence.kit.database.database import Base
from persistence.kit.search import tokenizer
from persistence.kit.search.tokenizer import Words

LETTERS = 4  # Of a word that may be bent by one error, as it is typed.
MANY_LETTERS = 8  # Of one that may be bent by two.
SUFFIX = "_spellings"
HEAD = 7  # Letters of a word whose deletions are kept: 29 spellings at most.
CANDIDATES = 1_000  # Words that are compared: 20 ms, if they are long.
WAYS = 32  # To understand one word.
SAMPLE = 20  # Rows in which the words that were meant are looked for.
# Scripts that put spaces between words: those before Thai, and from Georgian to Ogham and Runes.
SPACED = (range(0x0E00), range(0x10A0, 0x1780))


def spellings_table(name: str) -> Table:
    """Of a table with a `search_words` column. Not unique: writers who add the same word at once need not wait for each other."""
    columns = (Column("spelling", SortableText, nullable=False), Column("word", SortableText, nullable=False))
    return Table(f"{name}{SUFFIX}", Base.metadata, *columns, Index(f"ix_{name}_spellings", "spelling", "word"))


@dataclass(frozen=True)
class Correction:
    """What is searched for in place of what was typed, and how it would have been typed."""

    words: Words
    query: str


def tolerance(word: str) -> int:
    """How many errors a typed word may have."""
    if len(word) < LETTERS or any(char.isdecimal() for char in word) or not any(ord(word[0]) in script for script in SPACED):
        return 0
    return 1 if len(word) < MANY_LETTERS else 2


def spellings(word: str, errors: int) -> set[str]:
    """What is left of the beginning of a word without up to so many letters."""
    head = word[:HEAD]
    return {"".join(letters) for missing in range(errors + 1) for letters in combinations(head, max(len(head) - missing, 0))}


def distance(one: str, other: str) -> int:
    """Letters inserted, left out, replaced or exchanged with their neighbours (Damerau and Levenshtein, without restriction)."""
    rows: dict[tuple[int, int], int] = {}
    beyond = len(one) + len(other)
    for i in range(len(one) + 1):
        rows[i, -1], rows[i, 0] = beyond, i
    for j in range(len(other) + 1):
        rows[-1, j], rows[0, j] = beyond, j
    rows[-1, -1] = beyond
    last_row: dict[str, int] = {}
    for i, letter in enumerate(one, 1):
        last_column = 0
        for j, against in enumerate(other, 1):
            row, column = last_row.get(against, 0), last_column
            if letter == against:
                last_column = j
            exchanged = rows[row - 1, column - 1] + (i - row - 1) + 1 + (j - column - 1)
            rows[i, j] = min(rows[i - 1, j - 1] + (letter != against), rows[i, j - 1] + 1, rows[i - 1, j] + 1, exchanged)
        last_row[letter] = i
    return rows[len(one), len(other)]


@dataclass(frozen=True)
class _Typed:
    """A part of the query between blanks, and its words; those of an article number, which has a digit, are left as they are."""

    text: str
    words: tuple[str, ...]

    @property
    def may_be_bent(self) -> bool:
        return not any(char.isdecimal() for char in self.text)


@dataclass(frozen=True)
class Way:
    """A word that may have been meant, and how far it is from what was typed."""

    word: str
    errors: int


class NearWords:
    """The words near to those of one query, as a table of spellings has them."""

    def __init__(self, table: Table, query: str) -> None:
        self._table = table
        self._typed = [_Typed(text, tuple(tokenizer.prefixes(text))) for text in query.split()]
        self._words = Words.of(query)
        bent = {word for typed in self._typed if typed.may_be_bent for word in typed.words}
        self._errors = {word: tolerance(word) for word in tokenizer.prefixes(query) if word in bent and tolerance(word)}

    async def guesses(self, session: AsyncSession) -> Sequence[Mapping[str, Sequence[Way]]]:
        """For each word what it may mean, first as it takes the fewest errors, then as it takes any that are allowed; nothing if nothing is near."""
        if not self._errors:
            return ()
        known = set(await session.scalars(self._known()))
        near = _near(self._errors, (await session.scalars(self._candidates())).all())
        least = {word: self._ways(word, near, known, least=True) for group in self._words.groups for word in group}
        every = {word: self._ways(word, near, known, least=False) for word in least}
        return [guess for guess in ([least] if least == every else [least, every]) if all(guess.values()) and guess != _as_typed(least)]

    def _known(self) -> Select[Any]:
        """Those words that begin a word of the table: they may be meant as they are."""
        table, parts = self._table.c, list[Any]()
        for place, word in enumerate(self._errors):
            typed = bindparam(f"known_{place}", word, type_=SortableText)
            head = bindparam(f"head_{place}", word[:HEAD], type_=SortableText)
            last = bindparam(f"last_{place}", word[:HEAD] + "\U0010ffff", type_=SortableText)
            begins = func.substr(table.word, 1, len(word)) == typed
            there = select(literal(1)).where(table.spelling >= head, table.spelling < last, begins).limit(1)
            parts.append(select(typed.label("word")).where(there.exists()))
        return select(union_all(*parts).subquery("known").c.word)

    def _candidates(self) -> Select[Any]:
        table = self._table.c
        candidates = {spelling for word, errors in self._errors.items() for spelling in spellings(word, errors)}
        return select(table.word).where(table.spelling.in_(sorted(candidates))).distinct().order_by(table.word).limit(CANDIDATES)

    def _ways(self, word: str, near: Mapping[str, Sequence[Way]], known: set[str], *, least: bool) -> Sequence[Way]:
        if word not in self._errors:
            return (Way(word, 0),)
        typed, ways = ((Way(word, 0),) if word in known else ()), near[word]
        if not least:
            return (*typed, *ways)[:WAYS]
        return typed or [way for way in ways if way.errors == ways[0].errors][:WAYS]

    def words(self, guess: Mapping[str, Sequence[Way]]) -> Words:
        groups = tuple(_padded([way.word for word in group for way in guess[word]]) for group in self._words.groups)
        return Words(groups, self._words.runs)

    def correction(self, guess: Mapping[str, Sequence[Way]], rows: Iterable[str]) -> Correction | None:
        """Of rows that were found, given by their words, the one that is nearest to what was typed says what was meant."""
        meant = [chosen for row in rows if (chosen := _chosen(guess, row.split(" "))) is not None]
        if not meant:
            return None
        best = min(meant, key=lambda chosen: (sum([way.errors for way in chosen.values()]), [way.word for way in chosen.values()]))
        return Correction(self.words(guess), " ".join(_typed_as(typed, best) for typed in self._typed))


async def correct(
    session: AsyncSession, table: Table, query: str, rows_of: Callable[[Words], Select[Any]], *, found_nothing: bool
) -> Correction | None:
    """`rows_of` makes a statement for the words of the first rows that words find, up to SAMPLE. None if the query's own words find something, or others nothing.

    `found_nothing` tells that the query's own words are known to find nothing.
    """
    near = NearWords(table, query)
    guesses = await near.guesses(session)
    # All of the sample: for a single row PostgreSQL would read along the table, in the hope of meeting it soon.
    if not guesses or (not found_nothing and (await session.scalars(rows_of(Words.of(query)))).first() is not None):
        return None
    for guess in guesses:
        words = near.words(guess)
        # PostgreSQL collects all rows that have a beginning of a word before it compares them with those of another; of whole words it skips most.
        for sought in (replace(words, whole=True), words):
            rows: Sequence[str] = (await session.scalars(rows_of(sought))).all()
            if correction := near.correction(guess, rows):
                return correction
    return None


def _near(errors: Mapping[str, int], candidates: Sequence[str]) -> Mapping[str, Sequence[Way]]:
    """Nearest first."""
    found: dict[str, Sequence[Way]] = {}
    for word, most in errors.items():
        close = [each for each in candidates if abs(len(each) - len(word)) <= most and not any(char.isdecimal() for char in each)]
        ways = [Way(each, between) for each in close if 0 < (between := distance(word, each)) <= most]
        found[word] = sorted(ways, key=lambda way: (way.errors, way.word))
    return found


def _as_typed(guess: Mapping[str, Sequence[Way]]) -> Mapping[str, Sequence[Way]]:
    return {word: (Way(word, 0),) for word in guess}


def _chosen(guess: Mapping[str, Sequence[Way]], row: Sequence[str]) -> Mapping[str, Way] | None:
    chosen = {word: next((way for way in ways if any(has.startswith(way.word) for has in row)), None) for word, ways in guess.items()}
    return None if None in chosen.values() else {word: way for word, way in chosen.items() if way}


def _typed_as(typed: _Typed, meant: Mapping[str, Way]) -> str:
    """As it was typed, if it was right."""
    bent = any(meant[word].errors for word in typed.words)
    return " ".join(tokenizer.spelled(meant[word].word) for word in typed.words) if bent else typed.text


def _padded(words: list[str]) -> tuple[str, ...]:
    """Repeats the last one up to a power of two, so that few forms of statements do for all."""
    missing = (1 << (len(words) - 1).bit_length()) - len(words)
    return (*words, *([words[-1]] * missing))
