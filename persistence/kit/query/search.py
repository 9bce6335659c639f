"""Search by words, with the same answers on every database.

Words are made here, in Python: both databases only index them. A query finds the rows in which each of its words begins a word.
"""

from __future__ import annotations

import re
import unicodedata

# But for vowel signs that were marks in Unicode 6.1, by whose tables SQLite still parts words: it would take a word with one for a phrase, and fail.
WORD = re.compile(r"[^\W_\u19b0-\u19c0\u19c8\u19c9\u1cf2\u1cf3]+")
WORD_LENGTH = 64  # Characters of a word that count; PostgreSQL refuses lexemes of 2 kB.
QUERY_WORDS = 16  # Words of a query that count: each costs an index look-up.


def words(text: str) -> list[str]:
    """The words of a text, without case and accents, in order: `Motörhead (Live)` gives `motorhead`, `live`."""
    plain = text.casefold()
    if not plain.isascii():
        plain = "".join(char for char in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(char)).casefold()
    return [word[:WORD_LENGTH] for word in WORD.findall(plain)]


def indexed(*texts: str | None) -> str:
    """Each word of the texts once, separated by spaces: the content of a `search_words` column."""
    return " ".join(dict.fromkeys(word for text in texts if text for word in words(text)))


def prefixes(query: str) -> list[str]:
    return list(dict.fromkeys(words(query)))[:QUERY_WORDS]


def fts5(query: str) -> str:
    """SQLite's form: `"motor"* AND "live"*`. Words hold letters and digits only, so nothing needs escaping."""
    return " AND ".join(f'"{word}"*' for word in prefixes(query))


def tsquery(query: str) -> str:
    """PostgreSQL's form: `'motorhead':* & 'live':*`."""
    return " & ".join(f"'{word}':*" for word in prefixes(query))
