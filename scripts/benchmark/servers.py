"""Who takes part: each a server process of its own on a port of its own, and what it takes of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.clients import node
from tests.support.servers.databases import free_port, wait_until_listening

ROOT = Path(__file__).parents[2]
RIVALS = Path(__file__).parent / "rivals"
GO_SOURCES = Path(
    "/usr/share/gocode"
)  # Where Debian's packages golang-github-graph-gophers-graphql-go-dev and golang-github-jackc-pgx-v4-dev are.

PRODUCT = "Storegraph"
CACHED = "Storegraph, response cache on"
REST = "FastAPI REST"
STOCK = "stock Strawberry"
NODE = "Mercurius JIT"
PLANNING = "PostGraphile 5"
COMPILED = "Go, pgx"
BARE = "bare asyncpg"
STATIC = "static bytes"
PSQL = "psql"


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return psutil.Process(self.pid).memory_info().rss

    def forget_peak(self) -> None:
        """Source: proc(5), /proc/pid/clear_refs."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def peak(self) -> int:
        """The most resident bytes since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@dataclass(frozen=True)
class Place:
    """Where a server runs."""

    database_url: str
    folder: Path
    secret: str

    @property
    def plain_url(self) -> str:
        return self.database_url.replace("+asyncpg", "")


@contextmanager
def product(place: Place, *, cache: bool = False, limits: bool = True, name: str = PRODUCT) -> Generator[Server]:
    """As it is run in production, except that budgets never run out and each operation is not logged, as no rival does either."""
    settings = {
        "SECRET_KEY": place.secret,
        "DATABASE_URL": place.database_url,
        "FILES_URL": (place.folder / "files").as_uri(),
        "BUDGET_POINTS": "1000000000000",
        "BUDGET_POINTS_PER_SECOND": "1000000000",
        "MAX_UPLOAD_BYTES": str(2**30),
        "CONNECTIONS_PER_CALLER": "100000",
        "LOG_LEVEL": "WARNING",
        "RESPONSE_CACHE_ENABLED": str(cache).lower(),
        "RATE_LIMITS_ENABLED": str(limits).lower(),
    }
    port = free_port()
    with _started(name, [sys.executable, "-m", "graph", "serve", "--port", str(port)], port, settings) as started:
        yield started


@contextmanager
def python(name: str, module: str, place: Place) -> Generator[Server]:
    port = free_port()
    program = [sys.executable, "-m", "uvicorn", f"scripts.benchmark.rivals.{module}:app", "--port", str(port), "--log-level", "warning"]
    with _started(name, program, port, _rival(place)) as started:
        yield started


@contextmanager
def javascript(name: str, rival: str, place: Place) -> Generator[Server]:
    folder = node.install(RIVALS / rival)
    port = free_port()
    with _started(name, ["node", str(folder / "server.mjs")], port, _rival(place) | {"PORT": str(port)}) as started:
        yield started


@contextmanager
def compiled(place: Place) -> Generator[Server]:
    """On one processor, as the others."""
    program, port = place.folder / "go-rival", free_port()
    built = {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOCACHE": str(place.folder / "go-cache")}
    build = ["go", "build", "-o", str(program), str(RIVALS / "go" / "main.go")]
    subprocess.run(build, env=os.environ | built, check=True)
    with _started(COMPILED, [str(program)], port, _rival(place) | {"PORT": str(port), "GOMAXPROCS": "1"}) as started:
        yield started


def _rival(place: Place) -> dict[str, str]:
    return {"DATABASE_URL": place.database_url, "PLAIN_DATABASE_URL": place.plain_url, "FILES_FOLDER": str(place.folder)}


@contextmanager
def _started(name: str, program: list[str], port: int, variables: Mapping[str, str]) -> Generator[Server]:
    stored = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
    popen = subprocess.Popen(program, cwd=ROOT, env={**stored, **variables}, stdout=subprocess.DEVNULL)
    try:
        wait_until_listening(popen, port, seconds=60)
        yield Server(name, port, popen.pid)
    finally:
        popen.terminate()
        try:
            popen.wait(20)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
