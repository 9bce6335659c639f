"""`serve` …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.conftest import settings_for
from tests.support.processes import run

if TYPE_CHECKING:
    from pathlib import Path


async def test_refuses_several_workers_without_redis(tmp_path: Path) -> None:
    settings = await settings_for("sqlite", tmp_path)
    done = await asyncio.to_thread(run, settings, tmp_path, "serve", "--port", "0", "--workers", "2")
    assert (done.returncode, done.stderr) == (
        2,
        "More than one worker needs REDIS_URL: without it, echoes and limits end at each process, and events come late.\n",
    )
