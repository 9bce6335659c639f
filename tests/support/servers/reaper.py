"""Ends what a run of tests or proofs has started when the run itself is killed, which gives it no time to do so.

A small process of its own waits for the end of its starter, on a pipe, and then kills whatever runs in the folders that it was told of, also what
has made itself independent, such as a PostgreSQL that Patroni started.
"""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
LOOKS, PAUSE_SECONDS = 50, 0.1  # What starts others may do so while they are killed.


def ends_with_us(folder: Path) -> None:
    """All processes that run in this folder, or below it, end with this one at the latest."""
    _tell(str(folder.resolve()))


@cache
def _tell(folder: str) -> None:
    pipe = _started().stdin
    assert pipe is not None
    pipe.write(f"{folder}\n")
    pipe.flush()


@cache
def _started() -> subprocess.Popen[str]:
    reaper = subprocess.Popen(
        [sys.executable, "-m", "tests.support.servers.reaper"], cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True, text=True
    )
    atexit.register(reaper.communicate)
    return reaper


def _running_in(folders: list[Path]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(Path(process.cwd()).is_relative_to(folder) for folder in folders):
                found.append(process)
    return found


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folders = [Path(line.rstrip("\n")) for line in sys.stdin]  # Until the starter ends.
    for _ in range(LOOKS):
        processes = _running_in(folders)
        if not processes:
            return
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
