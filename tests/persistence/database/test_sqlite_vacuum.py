"""A SQLite file that is rewritten …"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from persistence.kit import sqlite_vacuum
from persistence.kit.sqlite_vacuum import FileInUse, empty_log, rewrite

SECRET = "quetzalcoatl"


def make(file: Path) -> None:
    """A table with a search index, from which rows were deleted."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE VIRTUAL TABLE people_search USING fts5(name, content='people', content_rowid='id')")
        for number in range(1, 400):
            connection.execute("INSERT INTO people VALUES (?, ?)", (number, SECRET if number % 7 == 0 else f"name {number}"))
        connection.execute("INSERT INTO people_search(people_search) VALUES ('rebuild')")
        gone = "SELECT 'delete', id, name FROM people WHERE name = ?"
        connection.execute(f"INSERT INTO people_search(people_search, rowid, name) {gone}", (SECRET,))
        connection.execute("DELETE FROM people WHERE name = ?", (SECRET,))


def found(file: Path) -> bool:
    paths = [file.with_name(file.name + suffix) for suffix in ("", "-wal")]
    return any(SECRET.encode() in path.read_bytes() for path in paths if path.exists())


def clean(file: Path) -> None:
    rewrite(str(file), ["people_search"])
    empty_log(str(file))


def count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM people").fetchone()[0]


def test_has_nothing_left_of_deleted_rows(tmp_path: Path) -> None:
    file = tmp_path / "people.db"
    make(file)
    assert found(file)
    with closing(sqlite3.connect(file)) as open_meanwhile:
        assert count(open_meanwhile) == 342
        clean(file)
        assert not found(file)
        assert count(open_meanwhile) == 342
        assert open_meanwhile.execute("SELECT rowid FROM people_search WHERE people_search MATCH '42 OR 41'").fetchall() == [(41,)]


def test_waits_for_no_reader_of_a_former_state_but_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_vacuum, "WAIT_SECONDS", 0.01)
    file = tmp_path / "people.db"
    make(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert count(reader) == 342
        with pytest.raises(FileInUse):
            clean(file)
        assert count(reader) == 342
        reader.execute("COMMIT")
        empty_log(str(file))
    assert not found(file)
