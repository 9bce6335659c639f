"""A catalogue that is brought in step under load, in the short form of `scripts/prove sync` …"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proofs.sync.sync import prove

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 3_000


@pytest.mark.parametrize(("backend", "workers"), [("sqlite", 1), ("postgresql", 2)])
async def test_keeps_its_books(backend: str, workers: int, tmp_path: Path) -> None:
    outcome = await prove(backend, tmp_path, rows=ROWS, workers=workers)
    assert outcome.faults == []
    sums = {name: {key: count for key, count in found.items() if count and key != "outcome"} for name, found in outcome.sums.items()}
    assert sums == {
        "create": {"created": ROWS},
        "change 2 %": {"updated": ROWS // 50, "unchanged": ROWS - ROWS // 50},
        "the same again": {"unchanged": ROWS},
        "change 2 % among buyers": {"updated": ROWS // 50, "unchanged": ROWS - ROWS // 50},
    }
    assert outcome.events_of_repeat == 0
