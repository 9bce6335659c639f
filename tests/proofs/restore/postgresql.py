"""PostgreSQL with pgBackRest and pg_receivewal, by the commands of docs/operations.md.

They are Debian's packages, as is the server: pgBackRest knows no newer ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from persistence.schema import upgrade
from tests.conftest import settings_for
from tests.proofs.page import block
from tests.support.servers.databases import Postgres, Server, create_database

if TYPE_CHECKING:
    from graph.server.settings import Settings

PAGE, TITLE = "docs/operations.md", "Any second back: PostgreSQL"
PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/bin"))
USER = "postgres" if os.geteuid() == 0 else None


def missing() -> list[str]:
    """Debian packages that the drill needs and this machine lacks."""
    found = {"pgbackrest": shutil.which("pgbackrest"), "postgresql": (PROGRAMS / "pg_receivewal").exists()}
    return [package for package, is_there in found.items() if not is_there]


class ArchivedPostgres(Postgres):
    def __init__(self) -> None:
        Server.__init__(self)
        if USER:
            shutil.chown(self.folder, USER, USER)
        self._data, self._programs, self._user = self.folder / "data", PROGRAMS, USER
        self._receiver: subprocess.Popen[bytes] | None = None
        self._places = {"/data/postgresql": str(self._data), "/backups": str(self.folder)}
        self._environment = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(self.folder), "PGHOST": "127.0.0.1"} | {
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGBACKREST_CONFIG": str(self.folder / "pgbackrest.conf"),
        }
        self._settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), "port": str(self.port)}
        self._make()

    def _make(self) -> None:
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres")
        configuration = block(PAGE, TITLE, "ini", places=self._places)
        configuration += f"pg1-port={self.port}\npg1-socket-path={self.folder}\n[global]\nlog-path={self.folder}\nlock-path={self.folder}\n"
        (self.folder / "pgbackrest.conf").write_text(configuration)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(block(PAGE, TITLE, "ini", 1))

    def start(self) -> None:
        os.environ["PGBACKREST_CONFIG"] = self._environment["PGBACKREST_CONFIG"]  # For the archiver, which is the server's child.
        super().start()

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.folder, env=self._environment, user=USER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def back_up(self) -> None:
        """Start to receive its log, and make the first base backup."""
        prepare, receive = block(PAGE, TITLE, "console"), block(PAGE, TITLE, "console", 1, {"/backups": str(self.folder)})
        (self.folder / "wal").mkdir()
        if USER:
            shutil.chown(self.folder / "wal", USER)
        self._run("sh", "-euc", prepare)
        self._receiver = subprocess.Popen(
            receive.split(), cwd=self.folder, env=self._environment, user=USER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end_receiver(self) -> None:
        if self._receiver:
            self._receiver.kill()
            self._receiver.wait(10)

    def restore(self, moment: float | None) -> None:
        places = {"/backups": str(self.folder)}
        if moment is not None:
            places["2026-11-24 10:15:42.5+00"] = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S.%f}+00"
        self._data.mkdir(mode=0o700)
        if USER:
            shutil.chown(self._data, USER)
        self._run("sh", "-euc", block(PAGE, TITLE, "console", 2 if moment is None else 3, places))
        self.start()

    def reset_log(self, database: str) -> None:
        """After the server has recovered."""
        deadline = time.monotonic() + 60
        while True:
            with suppress(AssertionError):
                self._run("sh", "-euc", block(PAGE, TITLE, "console", 4, {"DATABASE": database}))
                return
            assert time.monotonic() < deadline, "the server did not recover"
            time.sleep(0.2)

    def lose(self) -> None:
        self.kill()
        self.end_receiver()
        shutil.rmtree(self._data)

    def remove(self) -> None:
        self.end_receiver()
        if self._data.exists():
            super().remove()


class PgBackRest:
    """The `Backups` of the drill."""

    def __init__(self, settings: Settings, postgres: ArchivedPostgres) -> None:
        self.settings, self._postgres = settings, postgres

    def start(self) -> None:
        self._postgres.back_up()

    def stop(self) -> None:
        self._postgres.end_receiver()

    def destroy(self) -> None:
        self._postgres.lose()

    def restore(self, moment: float | None) -> None:
        self._postgres.restore(moment)
        self._postgres.reset_log("storegraph")


@asynccontextmanager
async def archived(folder: Path, *, s3: bool = False) -> AsyncGenerator[PgBackRest]:
    if missing():
        raise SystemExit(f"This drill needs Debian packages: apt-get install {' '.join(missing())}")
    with ArchivedPostgres.own() as postgres:
        url = await create_database(postgres.url, "storegraph")
        await upgrade(url)
        yield PgBackRest(await settings_for("sqlite", folder, database_url=url), postgres)
