"""The event log, in the short form of `scripts/soak` …"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.load.soak import Plan, soak

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(events=1_000, subscribers=10, cut_after=200)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_loses_and_repeats_nothing_and_keeps_the_order(backend: str, tmp_path: Path) -> None:
    outcome = await soak(backend, tmp_path, PLAN)
    assert outcome.faults == (0, 0, 0, 0, [])
    assert outcome.events == PLAN.events
    assert outcome.connections > PLAN.subscribers  # Sockets were cut.
