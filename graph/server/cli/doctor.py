"""Command `doctor`: checks each dependency and setting, with advice where something is wrong."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console
from rich.markup import escape

from graph.server.cli.terminal import load_settings
from graph.server.pages.explorer import BUNDLE
from graph.server.settings import Settings
from persistence import server_checks
from persistence.kit.blobs.by_url import open_blobs
from persistence.kit.column_types import utc_now

CLOCK_APART = timedelta(seconds=2)  # Tokens allow for 5 between machines.
FREE_BYTES = 2**30
BEFORE_US = datetime(2026, 11, 1, tzinfo=UTC)  # A clock that shows an earlier day is wrong.


class CheckStatus(Enum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    status: CheckStatus
    what: str
    advice: str = ""


def good(what: str) -> Finding:
    return Finding(CheckStatus.GOOD, what)


def warning(what: str, advice: str) -> Finding:
    return Finding(CheckStatus.WARNING, what, advice)


def bad(what: str, advice: str) -> Finding:
    return Finding(CheckStatus.BAD, what, advice)


Check = Callable[[Settings], Awaitable[Finding]]


async def examine(settings: Settings) -> AsyncGenerator[tuple[str, Finding]]:
    """Each thing and how it is, one after the other."""
    for about, (check, advice) in CHECKS.items():
        try:
            yield about, await check(settings)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong is what we were asked for
            reason = str(error).strip().split("\n", 1)[0]
            yield about, bad(f"{type(error).__name__}: {reason}", advice)


async def mode(settings: Settings) -> Finding:
    if settings.debug:
        return warning("development mode: introspection, wide scopes at sign-up", "Set DEBUG=false before strangers can reach it.")
    return good("production mode")


async def secret(settings: Settings) -> Finding:
    if not settings.secret_key:
        return warning("the built-in development key, which everybody knows", "Set SECRET_KEY: `openssl rand -hex 32` makes one.")
    return good(f"{len(settings.signing_key)} bytes, {len(settings.older_keys)} former keys accepted")


async def database(settings: Settings) -> Finding:
    found = await server_checks.of_database(settings.database_url, settings.pool)
    name = settings.database_url.split(":", 1)[0]
    if found.revision != found.newest_revision:
        reported = f"{name} {found.version}, at migration {found.revision or 'none'} instead of {found.newest_revision}"
        return bad(reported, "Run scripts/migrate; `serve` does so when it starts.")
    if abs(found.clock_ahead) > CLOCK_APART:
        return bad(f"its clock is {found.clock_ahead.total_seconds():+.1f} s apart from this machine's", "Run NTP on both machines.")
    room = f", {found.connections} connections" if found.connections else ""
    return good(f"{name} {found.version}, at migration {found.revision}, can be written to{room}")


async def replica(settings: Settings) -> Finding:
    if settings.database_replica_url is None:
        return good("none: all reads go to the database")
    found = await server_checks.of_replica(settings.database_replica_url, settings.pool)
    return good(f"answers, {found.total_seconds():.1f} s behind")


async def redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return good("none: one process only, with its own limits and cache")
    found = await server_checks.of_redis(settings.redis_url)
    if abs(found.clock_ahead) > CLOCK_APART:
        return bad(f"its clock is {found.clock_ahead.total_seconds():+.1f} s apart from this machine's", "Run NTP on both machines.")
    if found.evicts:
        return warning("drops keys when its memory is full, limits among them", "Set maxmemory-policy to volatile-ttl.")
    return good(f"Redis {found.version} answers")


async def files(settings: Settings) -> Finding:
    blobs, key = open_blobs(settings.files_url), f"doctor-{secrets.token_hex(8)}"

    async def content() -> AsyncGenerator[bytes]:
        yield b"Storegraph was here."

    await blobs.write(key, content())
    await blobs.delete(key)
    where = urlsplit(settings.files_url)
    if where.scheme == "file" and (free := shutil.disk_usage(Path(unquote(where.path))).free) < FREE_BYTES:
        return warning(
            f"can be written to, but only {free // 2**20} MiB are free", "Make room, or move FILES_URL to a larger disk or a bucket."
        )
    return good(f"{where.scheme}:// can be written to")


async def clock(_settings: Settings) -> Finding:
    if utc_now() < BEFORE_US:
        return bad(f"it is {utc_now():%Y-%m-%d} here, before this version was made", "Set the clock: tokens depend on it.")
    return good(f"{utc_now():%Y-%m-%d %H:%M:%S} UTC")


async def explorer(_settings: Settings) -> Finding:
    if not (BUNDLE / "index.html").exists():
        return warning("the explorer is not bundled", "Run scripts/explorer, which needs Node.js with npm; everything else works without.")
    return good("bundled")


async def python(_settings: Settings) -> Finding:
    return good(f"Python {sys.version.split()[0]}")


CHECKS: dict[str, tuple[Check, str]] = {
    "Python": (python, ""),
    "Mode": (mode, ""),
    "Secret": (secret, ""),
    "Clock": (clock, ""),
    "Database": (database, "Is DATABASE_URL right, the server up, and may this user create tables there?"),
    "Replica": (replica, "Is DATABASE_REPLICA_URL right, and the server up? Without it, reads go to the database."),
    "Redis": (redis, "Is REDIS_URL right, and the server up? Without Redis, limits and cache are each process's own."),
    "Files": (files, "Does FILES_URL name a folder or bucket that this user may write to?"),
    "Explorer": (explorer, ""),
}

SIGNS = {CheckStatus.GOOD: "[green]good   [/]", CheckStatus.WARNING: "[yellow]warning[/]", CheckStatus.BAD: "[red]bad    [/]"}


def doctor() -> None:
    """Check settings, clock, database, Redis and file storage, with advice for each problem. Exit code 1 if there is one."""
    if asyncio.run(_examined(load_settings())):
        raise typer.Exit(1)


async def _examined(settings: Settings) -> bool:
    """Whether something is bad."""
    console, statuses = Console(highlight=False, soft_wrap=True), set[CheckStatus]()
    async with aclosing(examine(settings)) as findings:
        async for about, finding in findings:
            statuses.add(finding.status)
            console.print(f"{SIGNS[finding.status]}  {about:<9} {escape(finding.what)}")
            if finding.advice:
                console.print(f"{'':<20}{escape(finding.advice)}")
    return CheckStatus.BAD in statuses
