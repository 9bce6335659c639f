"""`scripts/test --on DATE`: the tests that depend on the date, under libfaketime, which shows this process and its servers another day."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

# What expires, what is added up by days, what is named by them or told in local time: words of its names, by file. Files on a disk the kernel dates.
DATED = {
    "commands": ("clock", "days", "draws", "finds_everything", "interrupted", "same_item", "seeds"),
    "conditional_requests": ("date", "modified"),
    "deprecations": ("",),
    "exports": ("instant", "plain_numbers", "reads_back", "same_bytes"),
    "idempotency": ("after_a_day",),
    "import_export": ("step",),
    "jobs": ("",),
    "logins": ("",),
    "purchase_listing": ("",),
    "refresh_tokens": ("thirty_days", "ten_minutes"),
    "sales": ("",),
    "tokens": ("half_an_hour", "clocks", "former_key", "forgotten"),
    "values": ("instant", "day", "time"),
}


def _sleep(seconds: float) -> None:
    """As time.sleep, which waits for a moment of the monotonic clock; libfaketime 0.9.10 refuses that where this clock is the real one."""
    select.select([], [], [], seconds)


if "FAKETIME" in os.environ:
    time.sleep = _sleep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--dated", action="store_true", help="only tests that depend on the date")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """To import all files takes longer than many of these tests do."""
    name = collection_path.stem.removeprefix("test_")
    others = collection_path.match("test_*.py") and name not in DATED
    return True if others and config.getoption("--dated") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--dated"):
        return
    missing = {(file, word) for file, words in DATED.items() for word in words}
    for item in list(items):
        file = item.path.stem.removeprefix("test_")
        found = {(file, word) for word in DATED[file] if word in item.name}
        missing -= found
        if not found:
            items.remove(item)
    if missing:
        raise pytest.UsageError(f"tests/support/fake_date.py names what there is no more: {', '.join(map(' '.join, sorted(missing)))}")
