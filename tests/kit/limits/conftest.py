"""A service with a budget of 1,000 points that does not refill."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.conftest import settings_for
from tests.support.budgets import SMALL, restored
from tests.support.service import Service, running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    settings = await settings_for(request.param, tmp_path_factory.mktemp(f"limits_{request.param}"), **SMALL)
    async with running(settings) as service:
        yield service


@pytest.fixture
async def limited(small: Service) -> AsyncGenerator[Service]:
    """A service with a budget of 1,000 points that is full and does not refill."""
    await restored(small)
    yield small
    await restored(small)
    await small.empty()
