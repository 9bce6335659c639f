"""The check of migrations names what the tables have and no migration makes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Integer, Table

from persistence.kit.database.database import Base
from scripts.checks.migrations import missing


def test_says_what_no_migration_makes(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'migrated.db'}"
    assert missing(url) is None
    cups = Table("cups", Base.metadata, Column("id", Integer, primary_key=True))
    try:
        assert "'cups'" in (missing(url) or "")
    finally:
        Base.metadata.remove(cups)
