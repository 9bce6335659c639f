"""Commands `backup` and `restore`."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from graph.server.cli.terminal import STANDARD, Force, fail, load_settings, new_file, progress, readable_file, stored_input
from graph.server.settings import Settings
from persistence.kit import backups
from persistence.kit.column_types import utc_now
from persistence.kit.database.engines import file_of
from persistence.schema import upgrade

POSTGRESQL_BACKUP = "PostgreSQL has its own tool, which works while the service runs: pg_dump --format=custom --file={file} DATABASE"
POSTGRESQL_RESTORE = """PostgreSQL has its own tool; stop the service first:
  pg_restore --clean --if-exists --dbname=DATABASE {file}
  psql DATABASE -c "UPDATE event_log SET identity = substr(md5(random()::text), 1, 8)"
The second line tells subscribers that what came after the backup is another history."""


def backup(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="File to write; it appears once it is complete. -: standard output.")],
    force: Force = False,
) -> None:
    """Write a consistent snapshot of the SQLite database, also while the service runs. Uploaded files are not in it: copy FILES_URL afterwards."""
    database = _database(load_settings(), POSTGRESQL_BACKUP.format(file=file))
    with new_file(file, force=force) as copy:
        try:
            with progress("Percent", 100) as report:
                backups.back_up(database, copy, lambda done, total: report(100 * done // max(total, 1)))
        except (backups.UnusableBackup, sqlite3.Error) as error:
            fail(f"Nothing was written: {error}")
        size = copy.stat().st_size
    typer.echo(f"{file}: {size:,} bytes, whole and checked.", err=file == STANDARD)


def restore(
    file: Annotated[Path, typer.Argument(parser=readable_file, metavar="FILE", help="File that `backup` wrote. -: standard input.")],
) -> None:
    """Replace the SQLite database by a backup. Stop the service first; the former database is kept beside it."""
    settings = load_settings()
    database = _database(settings, POSTGRESQL_RESTORE.format(file=file))
    aside = database.with_name(f"{database.name}.before-{utc_now():%Y%m%dT%H%M%S.%f}")  # Two within a second keep both.
    try:
        with stored_input(file) as path:
            backups.restore(path, database, aside=aside)
    except backups.DatabaseInUse:
        fail("Nothing was changed: the database is open. Stop the service, and whatever else uses it.")
    except (OSError, backups.UnusableBackup, sqlite3.Error) as error:
        fail(f"Nothing was changed: {error}")
    asyncio.run(upgrade(settings.database_url))
    typer.echo(f"{database} is as it was when {file} was written." + (f" What it was before is {aside}." if aside.exists() else ""))


def _database(settings: Settings, otherwise: str) -> Path:
    file = file_of(settings.database_url)
    if file is None:
        fail(otherwise, 2)
    return file
