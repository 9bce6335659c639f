"""A database that is destroyed under load and restored …"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proofs.restore.drill import BUYERS, drilled
from tests.proofs.restore.postgresql import missing

if TYPE_CHECKING:
    from pathlib import Path

WITH_PACKAGES = pytest.mark.skipif(bool(missing()), reason=f"needs Debian packages that no other test needs: {' '.join(missing())}")


@pytest.mark.parametrize(("engine", "before"), [("sqlite", None), ("sqlite-s3", 1.5), pytest.param("postgresql", 1.5, marks=WITH_PACKAGES)])
async def test_has_every_purchase_until_the_second_before_and_tells_subscribers(engine: str, before: float | None, tmp_path: Path) -> None:
    outcome = await drilled(engine, tmp_path, seconds=3.0, before=before)
    assert outcome.faults == []
    assert 0 < outcome.restored <= outcome.purchases + BUYERS  # The last of each may be there, and nobody was told.


async def test_is_found_to_be_older_where_the_backup_had_stopped(tmp_path: Path) -> None:
    outcome = await drilled("sqlite", tmp_path, seconds=3.5, spoiled_at=1.5)
    assert outcome.loss_seconds > 1
    assert outcome.faults == [f"{outcome.loss_seconds:.2f} s of acknowledged purchases are lost"]
