"""Node.js and its packages, for the clients that people use in JavaScript and for the browser.

Packages are installed under build/, beside copies of the scripts that import them: among the sources, every search would go through them.
"""

from __future__ import annotations

import asyncio
import fcntl
import filecmp
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.servers.databases import unavailable

BUILD = Path(__file__).parents[3] / "build"
CLIENTS = Path(__file__).parents[2] / "clients"
PACKAGES = BUILD / CLIENTS.name  # What the clients' scripts, and the JavaScript of the documentation, import.


async def run(*command: str, **environment: str) -> str:
    """What a command beside the clients' packages said; the empty string, if it succeeded."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PACKAGES, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 200)
    except TimeoutError:
        process.kill()
        return f"{command} did not end"
    return said.decode() if process.returncode else ""


def program() -> str:
    """Node's path; without it, and npm, the test is skipped."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        unavailable("Node", "there is no node and npm")
    return found


def install(source: Path) -> Path:
    """The scripts of a folder beside the packages that its package-lock.json names, in a folder of the same name under build/."""
    folder = BUILD / source.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        # Tests run in several processes, and npm takes away what another has brought.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in filter(Path.is_file, source.iterdir()):
            copy = folder / file.name
            if not copy.exists() or not filecmp.cmp(file, copy, shallow=False):
                shutil.copy2(file, copy)
        mark, wanted = folder / "node_modules" / ".installed.lock", (source / "package-lock.json").read_bytes()
        if not mark.exists() or mark.read_bytes() != wanted:
            subprocess.run(["npm", "ci", "--no-progress", "--loglevel=error"], cwd=folder, check=True)
            mark.write_bytes(wanted)
    return folder
