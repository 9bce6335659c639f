"""What the commands share: loading settings, opening an up-to-date database, progress, and exit codes.

Exit codes: 0 done; 1 refused, or a problem was found; 2 the command or a setting is wrong; 130 interrupted.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import MAXYEAR, MINYEAR, UTC, datetime, time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from graph.server import settings
from graph.server.telemetry import logs
from persistence.kit import fsync
from persistence.kit.cache.table_versions import publishing_versions
from persistence.kit.database.database import Database
from persistence.kit.parsing import values as parsing
from persistence.kit.transient_errors import is_transient
from persistence.schema import DatabaseUnreachable, upgrade

console = Console(stderr=True)  # What is asked for goes to standard output, so that it can be piped; everything else here.
STANDARD = Path("-")  # In the place of a file: standard input, or standard output.
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


class Commands(TyperGroup):
    """The command line as a whole: whichever command meets a database that is away says so in a sentence."""

    def invoke(self, ctx: typer.Context) -> object:  # pyright: ignore[reportIncompatibleMethodOverride] -- Typer vendors Click's class
        try:
            with logs.on_standard_error():
                return super().invoke(ctx)
        except DatabaseUnreachable as error:
            fail(f"The database cannot be used: {error}\nscripts/storegraph doctor looks at it more closely.")
        except Exception as error:
            if not is_transient(error):
                raise
            fail(f"The database or Redis went away: {first_line(error)}\nscripts/storegraph doctor looks at both more closely.")


def fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0] or type(error).__name__


def plural(count: int, noun: str) -> str:
    """`1 item`, `1,000 items`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def load_settings() -> settings.Settings:
    try:
        return settings.load()
    except settings.BadSettings as error:
        fail(f"Storegraph cannot start:\n{error}", 2)


def whole_number(least: int = 1, most: int = parsing.WHOLE_MAX) -> Callable[[object], int]:
    """Reads a number of the command line as the API reads one: typer alone takes `1_0` and `+10` for 10."""

    def read(supplied: object) -> int:
        try:
            return parsing.whole_between(supplied, least, most)
        except parsing.BadValue as error:
            raise typer.BadParameter(str(error)) from error

    return read


def readable_file(text: str) -> Path:
    """A file to read, or `-`; typer alone takes no `-` for one that must exist."""
    path = Path(text)
    try:
        if path != STANDARD and not path.exists():
            raise typer.BadParameter(f"file {text!r} does not exist")
        if path.is_dir():
            raise typer.BadParameter(f"{text!r} is a folder")
    except OSError as error:  # Of a name that is too long, or a folder that may not be searched.
        raise typer.BadParameter(f"file {text!r} cannot be read: {error.strerror}") from error
    return path


def day(text: str) -> datetime:
    """Reads a day of the command line, in UTC: typer alone takes `2026-1-1` and digits of any script."""
    try:
        found = parsing.day(text)
    except parsing.BadValue as error:
        raise typer.BadParameter(str(error)) from error
    if not MINYEAR < found.year < MAXYEAR:
        raise typer.BadParameter("must leave room for a year before and after it")
    return datetime.combine(found, time(), UTC)


@asynccontextmanager
async def open_database(chosen: settings.Settings) -> AsyncGenerator[Database]:
    """The service's database, brought up to date."""
    await upgrade(chosen.database_url)
    database = Database.connect(chosen.database_url, pool=chosen.pool.for_commands)
    try:
        async with publishing_versions(database, chosen.redis_url, chosen.database_url):
            yield database
    finally:
        await database.close()


@contextmanager
def new_file(path: Path, *, force: bool) -> Generator[Path]:
    """Where to write what `path` is to hold: it gets its name when it is whole and on the disk. Without `force` no file is replaced.

    A pipe or a device, such as /dev/stdout, is written to as it is; for `-`, what is whole is copied to standard output.
    """
    if path == STANDARD:
        with tempfile.TemporaryDirectory() as folder:
            yield (place := Path(folder) / "file")
            with place.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".storegraph-{os.getpid()}.partial")
    try:
        if target.exists() and not target.is_file():
            yield target
            return
        if not target.parent.is_dir():
            fail(f"There is no folder {path.parent} for {path.name}.")
        _refuse_replacing(path, force=force)
        yield partial
        fsync.sync(partial)
        _refuse_replacing(path, force=force)
        partial.replace(target)
        fsync.sync(target.parent)
    except OSError as error:
        if is_transient(error):
            raise
        fail(f"{path} cannot be written: {error.strerror or error}")
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def stored_input(path: Path) -> Generator[Path]:
    """The file to read; for `-`, what comes through standard input is stored first."""
    if path != STANDARD:
        yield path
        return
    with tempfile.NamedTemporaryFile() as stored:
        shutil.copyfileobj(sys.stdin.buffer, stored)
        stored.flush()
        yield Path(stored.name)


def _refuse_replacing(path: Path, *, force: bool) -> None:
    if not force and path.exists():
        fail(f"There is a file {path} already: give another name, or --force to replace it.")


@contextmanager
def progress(doing: str, total: int | None) -> Generator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; call what you get with how much is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(doing, total=total)
        yield lambda done: bars.update(task, completed=done)
