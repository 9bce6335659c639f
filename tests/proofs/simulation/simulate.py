"""Simulation: the asynchronous core under a deterministic loop, seed after seed; a failure is repeated by its seed.

`scripts/prove simulate` runs 10,000 seeds, `--scenario feed --seed 17` one; tests/proofs/simulation/test_simulation.py runs some hundred.
"""

from __future__ import annotations

import argparse
import logging
import time
from functools import partial
from types import ModuleType

import structlog

from tests.proofs.simulation import batching, budget, feed, jobs, sharing
from tests.proofs.simulation.loop import simulated

SCENARIOS: dict[str, ModuleType] = {"feed": feed, "sharing": sharing, "batching": batching, "budget": budget, "jobs": jobs}


def run(name: str, seed: int, **planted: bool) -> list[str]:
    """The faults of one run, without the log."""
    module = SCENARIOS[name]
    return _silently(name, seed, partial(module.scenario, **planted))[0]


def steps(name: str, seed: int) -> int:
    return _silently(name, seed, SCENARIOS[name].scenario)[1]


def _silently(name: str, seed: int, scenario: partial[object]) -> tuple[list[str], int]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False)
    try:
        return simulated(scenario, seed, *SCENARIOS[name].MODULES)  # pyright: ignore[reportArgumentType]
    finally:
        structlog.configure(**before)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove simulate", description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="all of them without it")
    parser.add_argument("--seeds", type=int, default=10_000, help="together")
    parser.add_argument("--seed", type=int, help="only this one")
    arguments = parser.parse_args()
    names, failed, began = arguments.scenario or list(SCENARIOS), 0, time.monotonic()
    for number in range(arguments.seeds if arguments.seed is None else len(names)):
        name, seed = names[number % len(names)], number // len(names) if arguments.seed is None else arguments.seed
        if faults := run(name, seed):
            failed += 1
            print(f"--scenario {name} --seed {seed}:", *faults[:5], sep="\n  ", flush=True)  # noqa: T201
    print(f"{failed} failures in {time.monotonic() - began:.0f} s")  # noqa: T201
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
