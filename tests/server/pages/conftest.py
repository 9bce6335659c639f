"""A browser for the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.clients import browser

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of the run's browser."""
    with browser.running(tmp_path_factory.mktemp("chromium")) as address:
        yield address
