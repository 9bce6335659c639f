"""The asynchronous core, under a deterministic loop …"""

from __future__ import annotations

import asyncio

import pytest

from tests.proofs.simulation.loop import SimulatedLoop, simulated
from tests.proofs.simulation.simulate import SCENARIOS, run, steps

SEEDS = 60  # Of each scenario: half a second. `scripts/prove simulate` runs 10,000.
PLANTED = [
    ("feed", "draws_numbers", False),
    ("feed", "serial", True),
    ("batching", "joins_late", True),
    ("sharing", "forgets_personal", True),
    ("budget", "atomic", False),
    ("jobs", "checks_claims", False),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_keeps_its_promises_in_every_order(scenario: str) -> None:
    assert {seed: faults for seed in range(SEEDS) if (faults := run(scenario, seed))} == {}


@pytest.mark.parametrize(("scenario", "fault", "value"), PLANTED)
def test_is_found_out_when_it_has_a_fault(scenario: str, fault: str, value: bool) -> None:
    found = next(seed for seed in range(SEEDS * 5) if run(scenario, seed, **{fault: value}))
    assert run(scenario, found, **{fault: value}) == run(scenario, found, **{fault: value}) != []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_takes_the_same_steps_again_with_the_same_seed(scenario: str) -> None:
    assert steps(scenario, 1) == steps(scenario, 1)
    assert len({steps(scenario, seed) for seed in range(5)}) > 1


def test_does_not_wait_for_time_to_pass() -> None:
    async def scenario(loop: SimulatedLoop) -> list[str]:
        await asyncio.sleep(10 * 365 * 86_400)
        return [f"{loop.time():.0f}"]

    assert simulated(scenario, 1)[0] == ["315360000"]


def test_notices_what_waits_for_ever_and_what_fails_unseen() -> None:
    async def stuck(_: SimulatedLoop) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def unseen(loop: SimulatedLoop) -> list[str]:
        loop.call_soon(int, "no number")
        await asyncio.sleep(1)
        return []

    assert simulated(stuck, 1)[0] == ["somebody waits for ever"]
    (fault,) = simulated(unseen, 1)[0]
    assert "no number" in fault
