from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.conftest import settings_for
from tests.support.planner.shop import Shop, filled
from tests.support.service import running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Shop]:
    async with running(await settings_for(request.param, tmp_path_factory.mktemp("planner"))) as service:
        yield await filled(service)
