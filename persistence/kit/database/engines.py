"""SQLAlchemy engines for SQLite and PostgreSQL: their pools, and how each connection is set up."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.util import await_only

from persistence.kit.database import hosts
from persistence.kit.database.connection_pool import close_in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection, ExceptionContext

DRIVERS = ("sqlite+aiosqlite", "postgresql+asyncpg")
SQLITE_WRITER_KILOBYTES = 32_768  # Of pages, taken as they are needed: what a large import changes must else be written again and again.
# As much as SQLite maps: pages beyond are read one by one, which took 1.4 times as long to search a million items.
MAPPED_BYTES = 2**31 - 2**16
WAL_RETRY_SECONDS = 0.01
COMMAND_WAIT_SECONDS = 30.0
READ_ONLY = "25006"
SLACK_SECONDS = 1.0  # The server's own limit on a statement is to be met first: its answer leaves the connection in order.


@dataclass(frozen=True)
class PoolSize:
    """Of one process on PostgreSQL: `size + overflow` times the processes must stay below max_connections."""

    size: int = 10
    overflow: int = 10
    wait_seconds: float = 5
    """For a connection; on SQLite for the turn to write, and again for a writer in another process."""
    recycle_seconds: int = 1800
    statement_timeout_ms: int = 10_000
    """0 leaves it to the server."""
    statement_cache: bool = True
    """False behind a pooler that shares server connections and does not follow prepared statements."""
    connect_seconds: float = 3
    read_seconds: float | None = 2
    """Of a short read, all its statements together; None for programs that nobody waits for."""

    @property
    def command_seconds(self) -> float | None:
        """How long a statement may stay unanswered, by a server that hangs or a network that swallows packets."""
        return self.statement_timeout_ms / 1000 + SLACK_SECONDS if self.statement_timeout_ms else None

    @property
    def of_reads(self) -> PoolSize:
        """The same, for connections that are for short reads alone."""
        if self.read_seconds is None or not self.statement_timeout_ms:
            return self
        return replace(self, statement_timeout_ms=min(self.statement_timeout_ms, round(self.read_seconds * 1000)))

    @property
    def for_commands(self) -> PoolSize:
        """The same, for programs on the command line: their reads may take long, and they let the service go first."""
        return replace(self, read_seconds=None, wait_seconds=max(self.wait_seconds, COMMAND_WAIT_SECONDS))

    @property
    def session_settings(self) -> dict[str, str]:
        # To compile a plan that is used once takes 30 ms and more; its statements take one.
        settings = {"timezone": "UTC", "jit": "off"}
        if self.statement_timeout_ms:
            settings["statement_timeout"] = str(self.statement_timeout_ms)
        if self.statement_cache:
            # A plan for any words at all, which would be made after five uses, fits neither common nor rare ones.
            settings["plan_cache_mode"] = "force_custom_plan"
        return settings


# Each statement is parsed anew under no name, so that none is left behind on a server connection that the next transaction may not get.
UNPREPARED: dict[str, Any] = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}


TABLES = "tables"  # By this a connection knows the set in which the tables that its transaction writes to are noted.


def sqlite_file(url: str) -> str | None:
    """The file that a URL names, or None if it names another kind of database."""
    target = make_url(url)
    return target.database if target.get_backend_name() == "sqlite" else None


def driver(url: str) -> str | None:
    """The dialect and driver that a URL names, or None if it is no database URL."""
    try:
        return make_url(url).drivername
    except ArgumentError:
        return None


def file_of(url: str) -> Path | None:
    """The file of a SQLite database; None for any other."""
    target = make_url(url)
    return Path(target.database) if target.get_backend_name() == "sqlite" and target.database else None


def below(folder: Path, url: str) -> str:
    """The URL with a relative path to SQLite's file taken from `folder`."""
    file = file_of(url)
    if file is None or file.is_absolute() or not folder.name or str(file).startswith((":", "file:")):
        return url
    return make_url(url).set(database=str(folder / file)).render_as_string(hide_password=False)


def sqlite(url: str, *, readers: int | None, wait_seconds: float, mapped: bool = True) -> AsyncEngine:
    """`wait_seconds` is for a connection, and for a lock that another process holds. The writer (readers None) is one connection, whose transactions take the write lock at once instead of failing half-way.

    What is `mapped` is read a little faster, and stays in the process's memory: not for whoever reads whole tables.
    """
    engine = create_async_engine(
        url,
        pool_size=readers or 1,
        max_overflow=0,
        pool_timeout=wait_seconds,
        hide_parameters=True,
        connect_args={"isolation_level": None, "timeout": wait_seconds},
    )
    _terminate(engine, _interrupt)

    pragmas = [
        "synchronous=FULL",  # The log is synced at every commit: an acknowledged write survives loss of power, not only of the process.
        "foreign_keys=ON",
        "temp_store=MEMORY",
        f"mmap_size={MAPPED_BYTES if mapped else 0}",
        *(["query_only=ON"] if readers else [f"cache_size=-{SQLITE_WRITER_KILOBYTES}"]),
    ]

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        try:
            _configure_sqlite(connection, pragmas, wait_seconds)
        except BaseException:
            _interrupt(connection.driver_connection)  # The pool, which does not have it yet, would leave it open.
            raise

    if readers is None:

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _configure_sqlite(connection: Any, pragmas: Iterable[str], wait_seconds: float) -> None:
    cursor = connection.cursor()
    _use_write_ahead_log(cursor, monotonic() + wait_seconds)
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_write_ahead_log(cursor: Any, until: float) -> None:
    """Of connections that turn to the log at once, SQLite refuses all but one without the wait that it has for other locks."""
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or monotonic() > until:
                raise
            await_only(asyncio.sleep(WAL_RETRY_SECONDS))
        else:
            return


def postgresql(url: str, pool: PoolSize) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool.size,
        max_overflow=pool.overflow,
        pool_timeout=pool.wait_seconds,
        pool_recycle=pool.recycle_seconds,
        pool_use_lifo=True,
        hide_parameters=True,  # An error's text goes to the log, and parameters hold names, addresses and password hashes.
        connect_args={
            "async_creator_fn": hosts.connect,
            "server_settings": pool.session_settings,
            "timeout": pool.connect_seconds,
            "command_timeout": pool.command_seconds,
            **({} if pool.statement_cache else UNPREPARED),
        },
    )
    _terminate(engine, close_in_background)
    event.listen(engine.sync_engine, "checkout", _give_up_former_host)
    event.listen(engine.sync_engine, "handle_error", _give_up_what_is_silent)
    event.listen(engine.sync_engine, "handle_error", _give_up_what_only_reads)
    return engine.execution_options(unprepared=not pool.statement_cache)


def _terminate(engine: AsyncEngine, end: Callable[[Any], None]) -> None:
    """End a connection that must not be used again by `end`, which waits for nobody: SQLAlchemy's own way waits for a server that may hang."""

    def do_terminate(connection: Any) -> None:
        end(connection.driver_connection)

    setattr(engine.sync_engine.dialect, "do_terminate", do_terminate)  # noqa: B010 -- a hook of dialects; typed, it would be a method


def _interrupt(connection: Any) -> None:
    """What its thread is at comes to an end, and the connection with it."""
    with suppress(ValueError):  # It was never opened.
        connection._conn.interrupt()  # noqa: SLF001 -- its own `interrupt` is a coroutine, for no reason
    connection.stop()


def _give_up_what_is_silent(error: ExceptionContext) -> None:
    """A statement that the server did not answer in time leaves its connection in the midst of it. Others may be well."""
    if isinstance(error.original_exception, TimeoutError):
        error.is_disconnect, error.invalidate_pool_on_disconnect = True, False


def _give_up_former_host(connection: Any, _record: Any, _proxy: Any) -> None:
    if not hosts.is_current(connection.driver_connection):
        raise DisconnectionError


def _give_up_what_only_reads(error: ExceptionContext) -> None:
    """A primary that has become a standby: every connection to it must be made anew, to the host that is primary now."""
    if getattr(error.original_exception, "sqlstate", None) == READ_ONLY:
        error.is_disconnect = True


def reads(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions for short reads. Each statement is its own transaction, unless a pooler might then run it elsewhere than it was parsed."""
    unprepared = engine.sync_engine.get_execution_options().get("unprepared", False)
    return async_sessionmaker(engine if unprepared else engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)


def note_tables(engine: AsyncEngine) -> None:
    """Note which tables a transaction writes to, whatever code does it: nobody has to remember to say so."""

    @event.listens_for(engine.sync_engine, "before_execute")
    def note(connection: Connection, statement: Any, _many: Any, _parameters: Any, _options: Any) -> None:
        if getattr(statement, "is_dml", False) and TABLES in connection.info:
            connection.info[TABLES].add(statement.table.name)
