"""What the state machines of Hypothesis share: a migrated database for each sequence of steps, and how many steps there are."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine

from persistence.kit.database.database import Database
from persistence.kit.database.engines import PoolSize
from persistence.schema import upgrade

BOUNDED = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SHORTER = settings(BOUNDED, max_examples=6)  # Where each step is several transactions.
UNSHRUNK = settings(
    BOUNDED, phases=[Phase.generate], report_multiple_bugs=False
)  # That one is found is enough; the shortest way to it takes a minute.


@cache
def _template() -> Path:
    """A migrated database, made once."""
    file = Path(tempfile.mkdtemp(prefix="storegraph-models-")) / "template.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{file}"))
    return file


class OnDatabase(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="storegraph-models-"))
        shutil.copy2(_template(), self.folder / "model.db")
        self.runner = asyncio.Runner()
        patient = PoolSize().for_commands  # How quick this machine is, is no part of the model.
        self.database = Database.connect(f"sqlite+aiosqlite:///{self.folder / 'model.db'}", pool=patient)

    def teardown(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()
        shutil.rmtree(self.folder)


def run(machine: type[RuleBasedStateMachine], how: settings) -> None:
    test: Any = machine.TestCase
    test.settings = how
    test("runTest").runTest()
