"""The check of migrations names what the tables have and no migration makes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Integer, Table, Text

from persistence.kit.database.database import Base
from persistence.kit.finding.near_words import spellings_table
from scripts.checks.migrations import missing


def test_says_what_no_migration_makes(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'migrated.db'}"
    assert missing(url) is None
    cups = Table("cups", Base.metadata, Column("id", Integer, primary_key=True), Column("search_words", Text))
    spelled = spellings_table("cups")
    try:
        said = missing(url) or ""
        assert all(
            part in said for part in ("Table('cups'", "Table('cups_spellings'", "('add_word_index', 'cups')", "('add_spellings', 'cups')")
        )
    finally:
        Base.metadata.remove(cups)
        Base.metadata.remove(spelled)
