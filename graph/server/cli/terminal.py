"""What the commands share: settings or a plain refusal, a database that is up to date, and how far a long command has come.

Exit codes: 0 done; 1 refused, or a problem was found; 2 the command or a setting is wrong; 130 interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from graph.server import settings
from persistence.kit.cache.table_versions import told
from persistence.kit.database.database import Database
from persistence.schema import upgrade

console = Console(stderr=True)  # What is asked for goes to standard output, so that it can be piped; everything else here.


def fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def loaded() -> settings.Settings:
    try:
        return settings.load()
    except settings.BadSettings as error:
        fail(f"Storegraph cannot start:\n{error}", 2)


@asynccontextmanager
async def opened(chosen: settings.Settings) -> AsyncGenerator[Database]:
    """The service's database, brought up to date."""
    await upgrade(chosen.database_url)
    database = Database.connect(chosen.database_url, pool=chosen.pool)
    try:
        async with told(database, chosen.redis_url, chosen.database_url):
            yield database
    finally:
        await database.close()


@contextmanager
def progress(doing: str, total: int | None) -> Generator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; call what you get with how much is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(doing, total=total)
        yield lambda done: bars.update(task, completed=done)
