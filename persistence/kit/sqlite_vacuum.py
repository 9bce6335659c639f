"""Rewrites a SQLite file, so that nothing of deleted rows is left in it.

SQLite deletes a row by forgetting where it was. Its bytes stay, in free pages and in the unused parts of others, until something else is written
there; `secure_delete` overwrites them, but not the copies that were left when rows moved from page to page. So the whole file is written anew.
Words of deleted rows also stay in the segments of a search index, until these are merged. The new file is in the write-ahead log at first, behind
what was there before: `empty_log` moves it, once nobody reads a former state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

WAIT_SECONDS = 2.0  # For writers of other processes, and for readers of a former state of the file.
LITESTREAM = "_litestream_seq"  # The table of a program that keeps the log for its backup, and empties it by itself.


class FileInUse(Exception):
    """A reader still uses a former state of the file, so its write-ahead log cannot be emptied yet."""


def rewrite(file: str, search_indexes: Sequence[str]) -> None:
    """Takes the write lock for as long as it takes to write the file, and room for it twice. Raises: sqlite3.Error."""
    with closing(_open(file)) as connection:
        for index in search_indexes:
            connection.execute(f"INSERT INTO {index}({index}) VALUES ('optimize')")  # noqa: S608 -- names of ours
        connection.execute("VACUUM")


def empty_log(file: str) -> None:
    """Raises: FileInUse, sqlite3.Error."""
    with closing(_open(file)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (LITESTREAM,)).fetchone() is None:
            raise FileInUse


def _open(file: str) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None, timeout=WAIT_SECONDS)
