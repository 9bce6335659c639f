"""The command line as a user types it: in this process, or in one of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from graph.server.cli import cli
from graph.server.settings import Settings
from tests.support.servers.processes import ROOT, environment_of

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Done:
    code: int
    out: str
    err: str


async def run(settings: Settings, folder: Path, *arguments: str, given: bytes | None = None, **variables: str) -> Done:
    """In this process: a Python of its own takes seconds to start. What differs between the two is tested below."""
    known = dict.fromkeys((name.upper() for name in Settings.model_fields), None)
    with chdir(folder):
        environment = {**known, "COLUMNS": "150", **environment_of(settings), **variables}
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=environment, input=given)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout_bytes.decode(errors="surrogateescape"), done.stderr)


def run_apart(folder: Path, *arguments: str, **variables: str) -> Done:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "graph", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def planned(created: int = 0, updated: int = 0, unchanged: int = 0, deleted: int = 0, refused: int = 0) -> str:
    return f"Plan: {created:,} created, {updated:,} updated, {unchanged:,} unchanged, {deleted:,} deleted, {refused:,} refused.\n"


def applied(created: int = 0, updated: int = 0, unchanged: int = 0, deleted: int = 0, refused: int = 0) -> str:
    """The plan, and that it was carried out."""
    plan = planned(created, updated, unchanged, deleted, refused)
    return plan + plan.replace("Plan:", "Done:")


def imported(created: int, refused: int = 0) -> str:
    """The same of an import that matches nothing."""
    items, rows = ("item" if created == 1 else "items"), ("row" if refused == 1 else "rows")
    return planned(created, refused=refused) + f"{created:,} {items} imported, {refused:,} {rows} refused.\n"
