"""Settings for commands that run on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graph.server.settings import Settings
from tests.conftest import settings_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return await settings_for(request.param, tmp_path)
