from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.conftest import settings_for
from tests.support.planner.shop import Shop, filled
from tests.support.service import running

PATIENT = {"database_pool_wait_seconds": 60, "database_statement_timeout_ms": 60_000}  # A long run has the lowest priority of the machine.


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Shop]:
    async with running(await settings_for(request.param, tmp_path_factory.mktemp("planner"), **PATIENT)) as service:
        yield await filled(service)
