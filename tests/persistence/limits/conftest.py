"""The Redis of limits that are shared. On a machine that is busy with other tests it answers late, and is not away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from persistence.kit.redis import circuit_breaker
from tests.persistence.limits.test_token_bucket import connected, emptied
from tests.support.servers import databases

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis


@pytest.fixture
async def redis(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Redis]:
    monkeypatch.setattr(circuit_breaker, "TIMEOUT_SECONDS", 60)
    async with connected(databases.redis()) as client:
        yield client
        await emptied(client)
