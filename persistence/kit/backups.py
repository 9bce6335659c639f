"""Online backups of a SQLite database, and restoring them.

A restored log is another history: what came after the copy never happened for it. So it gets a new identity, and subscribers who bring a cursor of
the old one get a `Gap`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from persistence.kit import fsync
from persistence.kit.events import log as events

PAGES_AT_ONCE = 1_024  # 4 MB.


class UnusableBackup(Exception):
    """There is nothing to copy, or it is no copy. Its text says what."""


class DatabaseInUse(Exception):
    """Another program has the database open."""


def back_up(database: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the database of this instant to a new file, and check the copy. `progress` hears pages done and pages in all.

    Raises: UnusableBackup, sqlite3.Error.
    """
    if not database.exists():
        raise UnusableBackup(f"There is no database at {database}.")
    with closing(sqlite3.connect(database, isolation_level=None)) as source, closing(sqlite3.connect(target)) as copy:
        # An open read keeps to one instant; without it each change by others would begin the copy anew.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy, pages=PAGES_AT_ONCE, progress=lambda _, left, total: progress(total - left, total))
        copy.execute("PRAGMA journal_mode=DELETE")
        _check(copy, database)


def restore(copy: Path, database: Path, *, aside: Path) -> None:
    """Put a copy in the database's place; what stood there is kept as `aside`. Raises: DatabaseInUse, UnusableBackup, sqlite3.Error.

    The content is written into the file that is there, in one transaction and under a lock that is held from the first look to the last byte: a
    service that starts meanwhile waits, and then has all of it. To put another file in its place would leave that service with the old one, whose
    log stands under the name of the new one's.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    partial = database.with_name(f"{database.name}.{os.getpid()}.partial")
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as source, closing(sqlite3.connect(partial)) as new:
            _check(source, copy)
            source.backup(new)
            new.execute("UPDATE event_log SET identity = ?", (events.new_identity(),))
            new.commit()
        fsync.sync(partial)
        if database.exists():
            _replace_content(database, partial, aside)
        else:
            _place(partial, database)
        fsync.sync(database.parent)
    finally:
        partial.unlink(missing_ok=True)


def _place(partial: Path, database: Path) -> None:
    try:
        database.hardlink_to(partial)
    except FileExistsError as error:  # A service has just made an empty one.
        raise DatabaseInUse from error


def _replace_content(database: Path, partial: Path, aside: Path) -> None:
    """Raises: DatabaseInUse."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as held:
        try:
            held.execute("PRAGMA locking_mode=EXCLUSIVE")
            held.execute("BEGIN EXCLUSIVE")
            held.execute("COMMIT")  # The lock stays, until the connection is closed.
        except sqlite3.OperationalError as error:
            raise DatabaseInUse from error
        _copy(held, aside)
        held.execute("PRAGMA journal_mode=DELETE")  # Its log goes into the file, and a copy may have pages of another size.
        with closing(sqlite3.connect(partial)) as new:
            new.backup(held)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
        fsync.sync(partial)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def _check(connection: sqlite3.Connection, file: Path) -> None:
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        connection.execute("SELECT identity FROM event_log").fetchone()
    except sqlite3.DatabaseError as error:
        raise UnusableBackup(f"{file} is no database of this service: {error}.") from error
    if found != "ok":
        raise UnusableBackup(f"{file} is damaged: {found}")
