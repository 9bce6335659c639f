"""The order by relevance: rows that have all words of a search in their name before others, and whole words before beginnings of words.

A rank is worked out from the words of a row and of the search alone, by SQL to order rows and by Python for their cursors. The words of a name are
indexed a second time with a mark (`persistence.kit.search.tokenizer.marked`), so that the rows of each rank are a search of their own: a page reads the best
rank by id, and the next one only where that does not fill it. Ranking all matches takes a second where a word is in every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Integer, case, literal

from persistence.kit.query.conditions import searching, shows
from persistence.kit.query.paging import ComputedKey
from persistence.kit.search.tokenizer import Words

NAMED_WHOLE, NAMED, WHOLE, FOUND = range(4)


def ranked(words: Words) -> Sequence[Words]:
    """What the rows of each rank have, from the best rank to the last."""
    whole, named = replace(words, whole=True), words.in_first_text()
    named_whole = replace(named, whole=True)
    return (
        named_whole,
        replace(named, without=(named_whole,)),
        replace(whole, without=(named,)),
        replace(words, without=(named, whole)),
    )


def name_of(rank: int) -> str:
    """With which the parameters of a rank's conditions begin."""
    return f"rank_{rank}"


def values(words: Words) -> Mapping[str, Any]:
    """The parameters of all ranks, by their names."""
    return {name: value for rank, each in enumerate(ranked(words)) for name, value in searching(each, name_of(rank)).items()}


def rank_of(row_words: Any, words: Words) -> ColumnElement[int]:
    """Of a row that has been found, by its words: the smaller, the better."""
    better = [replace(each, without=()) for each in ranked(words)[:FOUND]]
    found = [(shows(row_words, each, name_of(rank)), literal(rank, Integer)) for rank, each in enumerate(better)]
    return case(*found, else_=literal(FOUND, Integer))


def key(row_words: str, words: Words) -> ComputedKey:
    """For cursors: the same of a row's attribute in Python."""
    better = [replace(each, without=()) for each in ranked(words)[:FOUND]]

    def rank(text: str) -> int:
        return next((rank for rank, each in enumerate(better) if _has(text.split(" "), each)), FOUND)

    return ComputedKey((row_words,), rank)


def _has(row: Sequence[str], words: Words) -> bool:
    meets = str.__eq__ if words.whole else str.startswith
    return all(any(meets(each, word) for word in group for each in row) for group in words.groups)
