"""Three PostgreSQL nodes under Patroni, with etcd, on this machine: Debian's packages, without their services.

As an operator would configure them, but for the times: they are short, so that a failover takes seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from tests.proofs.restore.postgresql import PROGRAMS, USER
from tests.support.servers.databases import free_port
from tests.support.servers.reaper import ends_with_us

NODES = 3
LAG_BYTES = 2**20
LOG_LINES = 40
TTL_SECONDS = 6  # Of the leader's key: how long a frozen primary stays the leader.


def missing() -> list[str]:
    """Debian packages that the proof needs and this machine lacks."""
    found = {"patroni": shutil.which("patroni"), "etcd-server": shutil.which("etcd"), "postgresql": (PROGRAMS / "initdb").exists()}
    return [package for package, is_there in found.items() if not is_there]


@dataclass
class Node:
    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    patroni: subprocess.Popen[bytes] | None = None

    @property
    def postgres(self) -> psutil.Process | None:
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            return psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0]))
        return None

    def family(self) -> list[psutil.Process]:
        """The server's processes, and with them Patroni: a machine that hangs hangs whole."""
        found: list[psutil.Process] = []
        if self.patroni and self.patroni.poll() is None:
            found.append(psutil.Process(self.patroni.pid))
        if postgres := self.postgres:
            with suppress(psutil.NoSuchProcess):
                found += [postgres, *postgres.children(recursive=True)]
        return found

    def signal(self, number: signal.Signals) -> None:
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Cluster:
    def __init__(self, *, synchronous: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="storegraph-failover-"))
        ends_with_us(self.folder)
        self._own(self.folder)
        self.synchronous, self._etcd_port = synchronous, free_port()
        self._programs: list[subprocess.Popen[bytes]] = []
        self.nodes = [Node(f"node{number}", self.folder / f"node{number}") for number in range(NODES)]

    @property
    def url(self) -> str:
        """Of the primary, whichever it is."""
        hosts = "&".join(f"host=127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql+asyncpg://postgres:secret@/postgres?{hosts}&target_session_attrs=primary"

    @property
    def replica_url(self) -> str:
        return self.url.replace("=primary", "=prefer-standby")

    def start(self) -> None:
        self._start_etcd()
        for node in self.nodes:
            node.folder.mkdir()
            self._own(node.folder)
            self.start_node(node)
            if node is self.nodes[0]:
                self.primary(seconds=60)
        self._wait_for(lambda: len(self._members("replica", "sync_standby")) == NODES - 1, "the standbys do not stream")
        if self.synchronous:
            self._wait_for(lambda: bool(self._members("sync_standby")), "no standby is synchronous")

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, free_port()))
        arguments = ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        more = ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}", "--log-level", "error", "--enable-v2"]
        self._programs.append(self._run(["etcd", "--data-dir", str(self.folder / "etcd"), *arguments, *more], self.folder / "etcd.log"))

    def start_node(self, node: Node) -> None:
        configuration = node.folder / "patroni.yml"
        configuration.write_text(yaml.safe_dump(self._configuration(node)))
        self._own(configuration)
        node.patroni = self._run(["patroni", str(configuration)], node.folder / "patroni.log")

    def _configuration(self, node: Node) -> dict[str, object]:
        user = {"username": "postgres", "password": "secret"}
        settings = {"synchronous_commit": "on", "wal_keep_size": "128MB", "max_connections": 200, "wal_log_hints": "on"}
        dcs = {
            "ttl": TTL_SECONDS,
            "loop_wait": 1,
            "retry_timeout": 2,
            "primary_start_timeout": 0,  # A primary that died is not waited for.
            "maximum_lag_on_failover": 2**30,
            "synchronous_mode": self.synchronous,
            "synchronous_mode_strict": self.synchronous,  # Else a primary that has lost its standby acknowledges what it alone has.
            "postgresql": {"use_pg_rewind": True, "parameters": settings},
        }
        return {
            "scope": "storegraph",
            "name": node.name,
            "restapi": {"listen": f"127.0.0.1:{node.api}", "connect_address": f"127.0.0.1:{node.api}"},
            # Not its third version: Patroni 3.0 keeps a copy of etcd's keys there, which stays old after a freeze, and then names no standby as synchronous.
            "etcd": {"host": f"127.0.0.1:{self._etcd_port}"},
            "bootstrap": {"dcs": dcs, "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
            "postgresql": {
                "listen": f"127.0.0.1:{node.port}",
                "connect_address": f"127.0.0.1:{node.port}",
                "data_dir": str(node.folder / "data"),
                "bin_dir": str(PROGRAMS),
                "pgpass": str(node.folder / "pgpass"),
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 md5", "host replication all 127.0.0.1/32 md5"],
                "authentication": {"superuser": user, "replication": user | {"username": "replicator"}, "rewind": user},
                "parameters": {"unix_socket_directories": str(node.folder)},
            },
        }

    def _run(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "ETCD_UNSUPPORTED_ARCH": ""}
        with log.open("ab") as output:
            return subprocess.Popen(command, cwd=self.folder, user=USER, env=environment, stdout=output, stderr=output)

    def _own(self, path: Path) -> None:
        if USER:
            shutil.chown(path, USER)

    def _members(self, *roles: str) -> list[str]:
        return [each["name"] for each in self._listed() if each["role"] in roles and each["state"] in {"running", "streaming"}]

    def _listed(self) -> list[dict[str, Any]]:
        """As the primary lists them: the others' view of the cluster may be old."""
        leader = next((node for node in self.nodes if self._leads(node)), None)
        with suppress(httpx.HTTPError, KeyError, ValueError):
            return httpx.get(f"http://127.0.0.1:{leader.api}/cluster", timeout=1).json()["members"] if leader else []
        return []

    def _follow(self) -> bool:
        """Whether each standby has the primary's history, and nearly all of it: one that is behind, or still believes to lead, could not take its place."""
        members = self._listed()
        behind = [each.get("lag", 0) for each in members]
        return len({each.get("timeline") for each in members}) == 1 and all(isinstance(lag, int) and lag <= LAG_BYTES for lag in behind)

    def _leads(self, node: Node) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{node.api}/leader", timeout=1).status_code == 200
        return False

    def primary(self, *, seconds: float = 30) -> Node:
        found: list[str] = []

        def leads() -> bool:
            found[:] = self._members("leader")
            return bool(found)

        self._wait_for(leads, "there is no primary", seconds=seconds)
        return next(node for node in self.nodes if node.name == found[0])

    def is_whole(self, *, seconds: float = 60) -> None:
        """Wait until every node is a member again, and one is synchronous where that is asked for."""
        self._wait_for(
            lambda: len(self._members("leader", "replica", "sync_standby")) == NODES, "a node did not come back", seconds=seconds
        )
        self._wait_for(self._follow, "a standby does not catch up", seconds=seconds)
        if self.synchronous:
            self._wait_for(lambda: bool(self._members("sync_standby")), "no standby is synchronous", seconds=seconds)

    def kill_primary(self) -> Node:
        """The server dies; Patroni beside it lives, and brings it back as a standby."""
        node = self.primary()
        if postgres := node.postgres:
            for process in [postgres, *postgres.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        return node

    def hold_standbys(self) -> list[psutil.Process]:
        """What is written from now on reaches no standby: their receivers stand still. Pausing the replay would not do, as they would still receive."""
        found = list[psutil.Process]()
        for postgres in filter(None, (node.postgres for node in self.nodes)):
            found += [process for process in postgres.children() if "walreceiver" in " ".join(process.cmdline())]
        for process in found:
            process.send_signal(signal.SIGSTOP)
        return found

    def give_up_receivers(self, held: Sequence[psutil.Process]) -> None:
        """End those that stood still, before they read on: what the primary had sent them meanwhile is in no log of theirs."""
        for process in held:
            for number in (signal.SIGTERM, signal.SIGCONT):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def freeze_primary(self) -> Node:
        """The machine hangs: its connections stay open and nothing answers."""
        node = self.primary()
        node.signal(signal.SIGSTOP)
        return node

    def _wait_for(self, condition: object, fault: str, *, seconds: float = 60) -> None:
        assert callable(condition)
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{fault}:\n{self._told()}"
            time.sleep(0.2)

    def _told(self) -> str:
        """The last that each node said: the logs go with the folder."""
        lines = [(node.name, (node.folder / "patroni.log").read_text(errors="replace").splitlines()[-LOG_LINES:]) for node in self.nodes]
        return "\n".join(f"{name}: {line}" for name, told in lines for line in told)

    def remove(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGKILL)
        for program in self._programs:
            program.kill()
            program.wait(10)
        for node in self.nodes:
            if node.patroni:
                node.patroni.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def cluster(*, synchronous: bool) -> Generator[Cluster]:
    if missing():
        raise SystemExit(f"This proof needs Debian packages: apt-get install {' '.join(missing())}")
    made = Cluster(synchronous=synchronous)
    try:
        made.start()
        yield made
    finally:
        made.remove()
