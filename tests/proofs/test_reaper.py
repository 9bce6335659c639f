"""A run of tests or proofs that is killed …"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from tests.support.endpoints import until
from tests.support.servers.reaper import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RUN = """
import subprocess, sys, time
from pathlib import Path
from tests.support.servers.reaper import ends_with_us
ends_with_us(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "600"], cwd=sys.argv[1], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


async def test_leaves_nothing_behind_that_runs_in_its_folders(tmp_path: Path) -> None:
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN, str(tmp_path), cwd=ROOT, stdout=subprocess.PIPE)
    assert run.stdout is not None
    child = psutil.Process(int(await run.stdout.readline()))
    assert runs(child)
    run.kill()
    await run.wait()
    await until(lambda: not runs(child))
