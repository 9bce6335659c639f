"""The scripts of a checkout …"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EXPLORER = "graph/server/pages/explorer"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of its own with the scripts, the explorer's sources and two tests, beside the environment of this one."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", checkout / "scripts", ignore=shutil.ignore_patterns("benchmark", "__pycache__"))
    shutil.copytree(ROOT / EXPLORER, checkout / EXPLORER)
    shutil.copy2(ROOT / "requirements-dev.lock", checkout)
    (checkout / ".venv").symlink_to((ROOT / ".venv").resolve())
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_one.py").write_text("def test_passes() -> None:\n    assert True\n")
    (checkout / "scripts" / "system-packages").write_text("#!/bin/sh\ntouch installed\n")
    return checkout


def run(checkout: Path, *command: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    program = checkout / command[0]
    environment = {"PATH": path, "HOME": str(checkout)}
    return subprocess.run([program, *command[1:]], env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_run_a_file_of_tests_without_installing_packages_of_the_system(checkout: Path) -> None:
    done = run(checkout, "scripts/test", "-q", "tests/test_one.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert not (checkout / "installed").exists()


def test_say_how_tests_are_run(checkout: Path) -> None:
    told = run(checkout, "scripts/test", "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert {"scripts/test --fast", "scripts/test --on DATE"} <= {line.strip().partition(" [")[0] for line in told.stdout.splitlines()}


@pytest.mark.parametrize("day", [(), ("no day",)])
def test_refuse_a_day_that_is_none(checkout: Path, day: tuple[str, ...]) -> None:
    refused = run(checkout, "scripts/test", "--on", *day)
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert refused.stderr.count("\n") == 1


@pytest.fixture
def without_node(tmp_path: Path) -> str:
    """A PATH with the programs that the script needs, and no npm."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "cat", "cksum"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    return str(programs)


def test_say_what_the_explorer_needs_where_it_is_missing(checkout: Path, without_node: str) -> None:
    refused = run(checkout, "scripts/explorer", path=without_node)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("The explorer needs Node.js 18 or newer, with npm.")
    assert not (checkout / "build").exists()


def test_do_not_bundle_the_explorer_again_while_its_sources_are_the_same(checkout: Path, without_node: str) -> None:
    sources = subprocess.run(
        "cat build.js package-lock.json src/*.* src/*/* | cksum",
        shell=True,
        cwd=checkout / EXPLORER,
        capture_output=True,
        check=True,
    )
    bundle = checkout / "build" / "explorer" / "dist"
    bundle.mkdir(parents=True)
    (bundle / "sources").write_bytes(sources.stdout)
    same = run(checkout, "scripts/explorer", path=without_node)
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "")
    (checkout / EXPLORER / "src" / "panels" / "status-bar.jsx").write_text("changed")
    assert run(checkout, "scripts/explorer", path=without_node).returncode == 1
