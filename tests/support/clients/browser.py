"""One headless Chromium for all tests of a run that need a browser: to start it takes longer than most of them do. Each has a profile of its own in it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.clients import node
from tests.support.servers.databases import unavailable
from tests.support.servers.reaper import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Generator

SCENARIOS = Path(__file__).parents[2] / "browser"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_SECONDS = 60
NODE_MAJOR = 20  # What playwright-core needs.


@contextmanager
def running(folder: Path) -> Generator[str]:
    """The address by which scenarios drive it; `folder` is where it has its files."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        unavailable("A browser", "there is no chromium")
    version = subprocess.run([node.program(), "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR:
        unavailable("A browser", f"driving one needs Node.js {NODE_MAJOR} or newer, and this is {version}")
    node.install(SCENARIOS)
    ends_with_us(folder)
    command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            yield f"http://127.0.0.1:{_port(folder / 'DevToolsActivePort')}"
        finally:
            browser.terminate()


def _port(told: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while not (told.exists() and (lines := told.read_text().splitlines())):
        assert time.monotonic() < deadline, "the browser does not start"
        time.sleep(0.05)
    return lines[0]


async def start(file: str, scenario: str, service_url: str, browser: str) -> asyncio.subprocess.Process:
    """A scenario of a file in tests/browser; EXPLORER_PICTURES names a folder for its screenshots."""
    return await asyncio.create_subprocess_exec(
        *("node", file, scenario, service_url, os.environ.get("EXPLORER_PICTURES", "")),
        cwd=node.BUILD / SCENARIOS.name,
        env=os.environ | {"BROWSER": browser},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """What the scenario saw."""
    seen, problem = await process.communicate()
    assert process.returncode == 0, problem.decode()
    return json.loads(seen)
