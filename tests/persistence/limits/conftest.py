"""For limits that are shared: a Redis of a machine that is busy with other tests answers late, and is not away."""

from __future__ import annotations

import pytest

from persistence.kit.redis import circuit_breaker


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "TIMEOUT_SECONDS", 60)
