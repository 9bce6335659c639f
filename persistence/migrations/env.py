"""Alembic's entry: which tables there are, and how a migration runs on each database."""

from __future__ import annotations

import asyncio
import os
import pkgutil
from importlib import import_module
from typing import Any

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

import persistence
from persistence.kit.database import Base

MIGRATION_LOCK = 7_310_544_211  # Any number: the same in all processes that start at once.


def load_tables() -> None:
    for module in pkgutil.walk_packages(persistence.__path__, "persistence."):
        if ".migrations" not in module.name:
            import_module(module.name)


def included(_thing: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    """Search indexes are made by hand: SQLite's are virtual tables with shadows, PostgreSQL's are on an expression."""
    return not (kind in {"table", "index"} and name is not None and "_search" in name)


def migrate(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=sqlite,
        include_object=included,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        if not sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        context.run_migrations()


async def main() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or os.environ["DATABASE_URL"]
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


load_tables()
asyncio.run(main())
