"""The order by relevance: rows that have all words of a search in their name before others, and whole words before beginnings of words.

A rank is worked out from the words of a row and of the search alone, by SQL to order rows and by Python for their cursors: nothing is stored for it
but how many of a row's words are its name's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, and_, bindparam, case, func, literal, or_, true

from persistence.kit.query.paging import ComputedKey
from persistence.kit.query.search import Words

NAMED_WHOLE, NAMED, WHOLE, FOUND = range(4)


def values(words: Words) -> Mapping[str, Any]:
    """The parameters of `rank`, by their names."""
    return {f"{kind}_{name}": pattern for name, word in words.named() for kind, pattern in _patterns(word).items()}


def _patterns(word: str) -> Mapping[str, str]:
    return {"begins": f"% {word}%", "whole": f"% {word} %"}


def rank(row_words: Any, name_length: Any, words: Words) -> ColumnElement[int]:
    """Of a row with these words, of which so many characters are the name's: the smaller, the better."""
    everything = literal(" ").concat(row_words).concat(" ")
    name = literal(" ").concat(func.substr(row_words, 1, name_length)).concat(" ")

    def has(text: Any, kind: str) -> ColumnElement[bool]:
        return and_(
            true(),
            *[
                or_(*[text.like(_bound(kind, place, way, word)) for way, word in enumerate(group)])
                for place, group in enumerate(words.groups)
            ],
        )

    ranks = [(has(name, "whole"), NAMED_WHOLE), (has(name, "begins"), NAMED), (has(everything, "whole"), WHOLE)]
    found: ColumnElement[int] = case(*[(condition, literal(value, Integer)) for condition, value in ranks], else_=literal(FOUND, Integer))
    return found


def _bound(kind: str, place: int, way: int, word: str) -> Any:
    return bindparam(f"{kind}_{place}_{way}", _patterns(word)[kind], type_=String())


def key(row_words: str, name_length: str, words: Words) -> ComputedKey:
    """For cursors: the same of a row's attributes in Python."""

    def rank_of(text: str, length: int) -> int:
        everything, name = text.split(" "), text[:length].split(" ")

        def has(found: list[str], meets: Callable[[str, str], bool]) -> bool:
            return all(any(meets(each, word) for word in group for each in found) for group in words.groups)

        if has(name, str.__eq__):
            return NAMED_WHOLE
        if has(name, str.startswith):
            return NAMED
        return WHOLE if has(everything, str.__eq__) else FOUND

    return ComputedKey((row_words, name_length), rank_of)
