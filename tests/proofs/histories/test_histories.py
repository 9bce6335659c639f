"""Histories of four processes that are disturbed, in the short form of `scripts/prove histories` …"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proofs.histories.histories import Plan, run

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(operations=300, clients=8, registers=3, subscribers=4, fault_seconds=0.8, pause_seconds=0.3)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_could_have_been_answered_by_one_correct_server(backend: str, tmp_path: Path) -> None:
    outcome = await run(backend, tmp_path, PLAN)
    assert outcome.faults == []
    assert outcome.operations > 0
    assert outcome.purchases > 0
    assert outcome.unanswered > 0  # Something was lost on the way, and repeated.
    assert sum(outcome.injected.values()) > 5
