"""The service as processes of its own, started by its own command line, for tests that stop, kill or replace them."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graph.server.settings import Settings
from tests.support.servers.databases import free_port, wait_until_listening
from tests.support.servers.reaper import ends_with_us

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "graph"]


@dataclass
class Process:
    """Its workers, if it has any, end with it; a killed one gets no chance to say goodbye."""

    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def stop(self, *, seconds: float = 30) -> int:
        """Ask it to end, wait for that, and tell its exit code."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait(10)


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a process these settings."""
    changed: dict[str, str | int | list[str] | None] = settings.model_dump(mode="json", exclude_unset=True)
    given = {name.upper(): value for name, value in changed.items() if value is not None}
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in given.items()}


def _environment(settings: Settings) -> dict[str, str]:
    known = {name.upper() for name in Settings.model_fields}
    outer = {name: value for name, value in os.environ.items() if name not in known}
    return {**outer, "PYTHONPATH": str(ROOT), **environment_of(settings)}


def run(settings: Settings, folder: Path, *arguments: str, program: Sequence[str] = PROGRAM) -> subprocess.CompletedProcess[str]:
    """`python -m graph`, run in `folder` to its end."""
    environment = _environment(settings)
    return subprocess.run([*program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def serving(
    settings: Settings, folder: Path, *arguments: str, port: int | None = None, program: Sequence[str] = PROGRAM, **variables: str
) -> Generator[Process]:
    """`python -m graph serve`, run in `folder`, listening by the time the block begins."""
    port = port or free_port()
    command = [*program, "serve", "--port", str(port), *arguments]
    environment = _environment(settings) | variables
    log = folder / f"{port}.log"
    ends_with_us(folder)
    with log.open("wb") as output:
        popen = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    process = Process(port, popen, log)
    try:
        wait_until_listening(popen, port, seconds=180)
        yield process
    finally:
        if popen.poll() is None:
            process.stop()
