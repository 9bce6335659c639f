"""Node, for the clients that people use in JavaScript."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from pathlib import Path

from tests.support.servers import unavailable

CLIENTS = Path(__file__).parents[1] / "clients"


async def run(*command: str, **environment: str) -> str:
    """What a command in the clients' folder said; the empty string, if it succeeded."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=CLIENTS, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 200)
    except TimeoutError:
        process.kill()
        return f"{command} did not end"
    return said.decode() if process.returncode else ""


async def installed() -> str:
    """Node's path, with the locked packages installed."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        unavailable("Node", "there is no node and npm")
    with (CLIENTS / "package-lock.json").open("rb") as locked:
        # Tests run in several processes, and npm takes away what another has brought.
        await asyncio.to_thread(fcntl.flock, locked, fcntl.LOCK_EX)
        mark, lock = CLIENTS / "node_modules" / ".installed.lock", locked.read()
        if not mark.exists() or mark.read_bytes() != lock:
            assert (said := await run("npm", "ci", "--no-progress")) == "", said
            mark.write_bytes(lock)
    return found
