"""`scripts/test --fast`: as many tests as fit into a minute, the most valuable first.

It takes tests on SQLite that start no processes or servers of their own, and begins none after its time is over; `scripts/test` runs all.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

SECONDS = 35  # From the first test on, after which none begins. To collect them takes some ten seconds on two cores, and the last one and the end a few.
FIRST = (
    "item_mutations",
    "purchases",
    "users",
    "item_listing",
    "tokens",
    "validation",
    "http",
    "websocket",
    "sse",
    "planner",
    "access",
    "budget",
)
# A module that uses one of these, or a test with that fixture, is left out: it starts programs, or sends a great many inputs.
SLOW_MODULES = {
    "subprocess",
    "tests.support.servers.processes",
    "tests.support.servers.databases",
    "tests.support.clients.node",
    "tests.support.servers.nginx",
    "tests.support.load.soak",
    "tests.support.fuzz.invariants",
}
SLOW_FIXTURES = {"node"}

_ends = pytest.StashKey[float]()
_left = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    fast = [item for item in items if _is_fast(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _is_fast(item)])
    items[:] = sorted(fast, key=_place)


def _is_fast(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    parameters: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    origins = {getattr(value, "__module__", getattr(value, "__name__", None)) for value in vars(item.module).values()}
    return "postgresql" not in parameters.values() and SLOW_MODULES.isdisjoint(origins) and SLOW_FIXTURES.isdisjoint(item.fixturenames)


def _place(item: pytest.Item) -> int:
    name = item.path.stem.removeprefix("test_")
    return FIRST.index(name) if name in FIRST else len(FIRST)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    stash = item.config.stash
    if time.monotonic() < stash.setdefault(_ends, time.monotonic() + SECONDS):
        return None
    stash[_left] = stash.get(_left, 0) + 1
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    # With several processes each has a count of its own, which this one hands to the process that reports.
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left"] = session.config.stash.get(_left, 0)


def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_left] = node.config.stash.get(_left, 0) + getattr(node, "workeroutput", {}).get("left", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left := config.stash.get(_left, 0):
        terminalreporter.write_line(f"{left} more tests did not fit into {SECONDS} s; ./scripts/test runs them.")
