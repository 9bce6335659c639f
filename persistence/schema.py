"""Runs Alembic migrations: upgrade, downgrade, and writing new revisions."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, NullPool, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from persistence.kit.database import hosts
from persistence.kit.database.database import Database
from persistence.kit.database.engines import UNPREPARED

MIGRATIONS = Path(__file__).parent / "migrations"
REACH_SECONDS = 60
MIGRATION_LOCK = 7_310_544_211  # Any number: the same in all processes that start at once.
TIDYING = {"sort": "check -q --fix", "format": "format -q"}  # Of a migration that was written from the tables.


def configuration(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.set_section_option("post_write_hooks", "hooks", ",".join(TIDYING))
    for name, words in TIDYING.items():
        for option, value in {"type": "module", "module": "ruff", "options": f"{words} REVISION_SCRIPT_FILENAME"}.items():
            config.set_section_option("post_write_hooks", f"{name}.{option}", value)
    return config


class DatabaseUnreachable(Exception):
    """No statement can be run on the database. Its text names the database and the reason."""


async def reach(url: str) -> None:
    """Open the database once, before anything else is tried on it; SQLite's file is made. Raises: DatabaseUnreachable."""
    place = make_url(url)
    is_sqlite = place.get_backend_name() == "sqlite"
    # To SQLite it is how long to wait for a lock: another process may be migrating.
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        connect_args={"timeout": REACH_SECONDS, **({} if is_sqlite else UNPREPARED | {"async_creator_fn": hosts.connect})},
    )
    try:
        if is_sqlite and place.database:
            Path(place.database).parent.mkdir(parents=True, exist_ok=True)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT count(*) FROM sqlite_master" if is_sqlite else "SELECT 1"))
    except (OSError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise DatabaseUnreachable(f"{place.render_as_string()}: {reason or type(error).__name__}") from error
    finally:
        await engine.dispose()


async def upgrade(url: str, revision: str = "head") -> None:
    """Migrate up. Processes that start at once wait for each other, and all but the first find nothing to do. Raises: DatabaseUnreachable."""
    await reach(url)
    await asyncio.to_thread(command.upgrade, configuration(url), revision)


async def downgrade(url: str, revision: str) -> None:
    await asyncio.to_thread(command.downgrade, configuration(url), revision)


async def revise(url: str, message: str) -> Path:
    """Write a migration from what the tables have and the database, which is up to date otherwise, has not. Raises: CommandError."""
    # Those that were written side by side need not stand in the order of their numbers.
    number = f"{max(int(script.revision) for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()) + 1:04}"
    paths = await asyncio.to_thread(command.revision, configuration(url), message, autogenerate=True, rev_id=number)
    assert isinstance(paths, Script)
    return Path(paths.path)


async def is_current(database: Database) -> bool:
    """Whether the database has this version's tables."""

    def revision(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with database.reading_latest() as session:
        found = await (await session.connection()).run_sync(revision)
    return found == _newest_revision()


@cache
def _newest_revision() -> str | None:
    """Read once: it takes 10 ms, and the files do not change under a running process."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()
