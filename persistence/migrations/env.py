"""Alembic's entry: which tables there are, and how a migration runs on each database."""

from __future__ import annotations

import asyncio
import pkgutil
from importlib import import_module
from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, event, pool, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import persistence
from persistence.kit import column_types
from persistence.kit.database import hosts
from persistence.kit.database.database import Base
from persistence.kit.database.engines import UNPREPARED
from persistence.schema import MIGRATION_LOCK

TURN_SECONDS = 300  # How long a process waits while another one migrates.


def load_tables() -> None:
    for module in pkgutil.walk_packages(persistence.__path__, "persistence."):
        if ".migrations" not in module.name:
            import_module(module.name)


def included(_thing: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    """Search indexes are made by hand: SQLite's are virtual tables with shadows, PostgreSQL's are on an expression."""
    return not (kind in {"table", "index"} and name is not None and "_search" in name)


def connected(url: str) -> AsyncEngine:
    if not url.startswith("sqlite"):
        return create_async_engine(url, poolclass=pool.NullPool, connect_args=UNPREPARED | {"async_creator_fn": hosts.connect})
    # The driver would begin by itself, and only before a change of rows: tables would be made outside any transaction.
    engine = create_async_engine(url, poolclass=pool.NullPool, connect_args={"isolation_level": None, "timeout": TURN_SECONDS})

    @event.listens_for(engine.sync_engine, "begin")
    def take_turn(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def named(kind: str, item: Any, rendering: Any) -> str | Literal[False]:
    """Our own types under their own names, in a migration that is written from the tables."""
    name = next((name for name, type_ in vars(column_types).items() if type_ is item), None) if kind == "type" else None
    if name is None and type(item).__module__ == column_types.__name__:
        name = f"{type(item).__name__}()"
    if name is None:
        return False
    rendering.imports.add(f"from {column_types.__name__} import {name.removesuffix('()')}")
    return name


def migrate(connection: Connection) -> None:
    """All or nothing, and one process at a time: what is found to do is found after the turn has come."""
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=sqlite,
        include_object=included,
        render_item=named,
        transaction_per_migration=False,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if not sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        context.run_migrations()


async def main() -> None:
    engine = connected(str(context.config.get_main_option("sqlalchemy.url")))
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


load_tables()
asyncio.run(main())
