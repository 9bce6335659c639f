"""The deployment files …"""

import os
import shutil
import subprocess
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.servers.databases import unavailable

ROOT = Path(__file__).parents[3]
SECRETS = {"SECRET_KEY": "s" * 64, "POSTGRES_PASSWORD": "p" * 32}


@cache
def compose_program() -> tuple[str, ...]:
    if found := shutil.which("docker-compose"):
        return (found,)
    docker = shutil.which("docker") or "docker"
    if docker == "docker" or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        unavailable("docker compose", "neither `docker compose` nor `docker-compose` runs here")
    return (docker, "compose")


def compose(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in SECRETS}
    command = [*compose_program(), "config"]
    return subprocess.run(command, check=False, cwd=ROOT, env=clean | environment, capture_output=True, text=True)


def dockerfile(word: str) -> list[list[str]]:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    return [line.split()[1:] for line in lines if line.startswith(f"{word} ")]


def test_compose_to_a_whole() -> None:
    done = compose(**SECRETS)
    assert done.returncode == 0, done.stderr
    assert SECRETS["POSTGRES_PASSWORD"] in done.stdout


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_have_no_default_for_a_secret(missing: str) -> None:
    done = compose(**{name: value for name, value in SECRETS.items() if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_copy_only_what_is_there_and_let_through() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for words in dockerfile("COPY") if not words[0].startswith("--from") for source in words[:-1]]
    assert copied
    for source in copied:
        assert list(ROOT.glob(source)), source
        assert any(fnmatch(source.split("/")[0], pattern) for pattern in let_through), source


def test_run_the_service_as_nobody_special() -> None:
    assert dockerfile("USER") == [["storegraph"]]
    assert dockerfile("HEALTHCHECK")


def test_bound_what_each_container_may_take() -> None:
    """Memory, processes and connections: one that runs wild leaves the others alone."""
    services: dict[str, dict[str, Any]] = yaml.safe_load(compose(**SECRETS).stdout)["services"]
    assert sorted(services) == ["api", "migrate", "nginx", "postgres", "redis"]
    for name, service in services.items():
        assert {"mem_limit", "pids_limit"} <= {*service}, name
    assert all(services[name]["ulimits"]["nofile"] for name in ("api", "nginx"))
    commands = {name: str(service.get("command")) for name, service in services.items()}
    assert "--maxclients" in commands["redis"]
    assert "max_connections=200" in commands["postgres"]
    assert int(services["postgres"]["pids_limit"]) > 200  # A connection is a process.
    assert "limit_conn clients" in (ROOT / "scripts/deploy/nginx.conf").read_text()
