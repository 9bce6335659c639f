"""Connections: short reads, consistent snapshots, and one transaction for each change.

A session is never shared by two tasks: `AsyncSession` allows one statement at a time, and GraphQL resolves sibling fields together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import structlog
from sqlalchemy import MetaData, QueuePool, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from persistence.kit import raw
from persistence.kit.errors import Busy

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, ExceptionContext

    from persistence.kit.raw import RawReads, Watch

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Batch = Callable[[AsyncSession, Sequence[K]], Awaitable[Mapping[K, V]]]

DRIVERS = ("sqlite+aiosqlite", "postgresql+asyncpg")
SQLITE_READERS = 4  # Threads; reads are short and SQLite answers them from the page cache.
STREAMS = 4  # At once, in one process; each may last as long as its reader is slow.
STREAM_WAIT_SECONDS = 5.0
SQLITE_BUSY_SECONDS = 10  # How long a writer waits for one in another process, such as an import on the command line.


class Base(DeclarativeBase):
    """Tables. Constraint names are fixed, so that a migration can drop what an earlier one made."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@dataclass(frozen=True)
class Change:
    """What a transaction did, in a word such as `item.updated`, and to which row."""

    kind: str
    subject_id: int


Listener = Callable[[Sequence[Change]], Awaitable[None]]


@dataclass
class UnitOfWork:
    """One transaction and what it changed."""

    session: AsyncSession
    changes: list[Change] = field(default_factory=list[Change])


@dataclass(frozen=True)
class PoolUse:
    """Connections of one pool: at work, waiting for work, and how many there may be."""

    busy: int
    idle: int
    most: int


@dataclass(frozen=True)
class PoolSize:
    """Bounds of the PostgreSQL pool of one process; `size + overflow` times the processes must stay below max_connections."""

    size: int = 10
    overflow: int = 10
    wait_seconds: float = 10
    recycle_seconds: int = 1800
    statement_timeout_ms: int = 30_000


class Database:
    def __init__(
        self, writer: AsyncEngine, reader: AsyncEngine, streamer: AsyncEngine, raw: RawReads, write_turn: AbstractAsyncContextManager[Any]
    ) -> None:
        self.dialect = writer.dialect.name
        self._writer, self._reader, self._streamer, self._write_turn = writer, reader, streamer, write_turn
        self._listeners: list[Listener] = []
        self.raw: RawReads = raw
        self._writing = async_sessionmaker(writer, expire_on_commit=False)
        self._reading = _reads(reader)
        self._latest = self._reading if self.dialect == "sqlite" else _reads(writer)
        self._streaming = async_sessionmaker(streamer, expire_on_commit=False)

    @classmethod
    def connect(cls, url: str, *, replica_url: str | None = None, pool: PoolSize | None = None) -> Database:
        """Engines for `sqlite+aiosqlite:///file` or `postgresql+asyncpg://…`; nothing is opened before the first use."""
        target = make_url(url)
        if target.get_backend_name() == "sqlite":
            reader, streamer = _sqlite(target, readers=SQLITE_READERS), _sqlite(target, readers=STREAMS, wait_seconds=STREAM_WAIT_SECONDS)
            return cls(_sqlite(target, readers=None), reader, streamer, raw.connect(url), asyncio.Lock())
        source, size = make_url(replica_url) if replica_url else target, pool or PoolSize()
        writer = _postgresql(target, size)
        streamer = _postgresql(source, replace(size, size=1, overflow=STREAMS - 1, wait_seconds=STREAM_WAIT_SECONDS))
        return cls(writer, _postgresql(source, size) if replica_url else writer, streamer, raw.connect(replica_url or url), nullcontext())

    @property
    def engines(self) -> tuple[AsyncEngine, ...]:
        return (self._writer, *(() if self._writer is self._reader else (self._reader,)), self._streamer)

    def pools(self) -> dict[str, PoolUse]:
        """How far each pool is used, by its purpose."""
        pools = [("write", self._writer), ("read", self._reader), ("stream", self._streamer)]
        return {name: _use(cast("QueuePool", engine.pool)) for name, engine in pools if name == "write" or engine is not self._writer}

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session for a few short statements, each its own transaction: no BEGIN and ROLLBACK on the wire."""
        return _connected(self._reading)

    def reading_latest(self) -> AbstractAsyncContextManager[AsyncSession]:
        """The same, but never from a replica, which may be seconds behind: for what decides who may do what."""
        return _connected(self._latest)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncSession]:
        """A session whose statements all see the database of one instant, for streams longer than a page. Raises: Busy.

        It has connections of its own: a slow reader of a stream keeps one for minutes, and must not keep it from a page.
        """
        async with self._streaming() as session:
            options = {} if self.dialect == "sqlite" else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            try:
                await _to_its_end(session.connection(execution_options=options))
            except PoolTimeout as error:
                raise Busy from error
            await session.execute(text("BEGIN" if self.dialect == "sqlite" else "SET LOCAL statement_timeout = 0"))
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[UnitOfWork]:
        """One change: committed at the end of the block, rolled back on an exception; listeners hear of it after the commit."""
        async with self._write_turn, self._writing.begin() as session:
            await _to_its_end(session.connection())
            work = UnitOfWork(session)
            yield work
        if work.changes:
            await self._tell(work.changes)

    def watch(self, watch: Watch) -> None:
        """Call `watch` before each statement, and what it returns after it."""
        for engine in self.engines:
            _watch(engine.sync_engine, watch)
        self.raw = raw.WatchedReads(self.raw, watch)

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each commit that changed something, before the caller goes on."""
        self._listeners.append(listener)

    async def _tell(self, changes: Sequence[Change]) -> None:
        for listener in self._listeners:
            try:
                await listener(changes)
            except Exception:  # The change is durable: whoever made it must hear of that, not of a listener's trouble.
                log.exception("a listener failed after a commit")

    async def close(self) -> None:
        await self.raw.close()
        for engine in self.engines:
            await engine.dispose()


def _reads(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)


def _watch(engine: Engine, watch: Watch) -> None:
    @event.listens_for(engine, "before_cursor_execute")
    def begin(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        context.watched = watch(statement)

    @event.listens_for(engine, "after_cursor_execute")
    def end(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        context.watched()

    @event.listens_for(engine, "handle_error")
    def fail(error: ExceptionContext) -> None:
        if (watched := getattr(error.execution_context, "watched", None)) is not None:
            watched()


def _use(pool: QueuePool) -> PoolUse:
    return PoolUse(pool.checkedout(), pool.checkedin(), pool.size() + max(pool._max_overflow, 0))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- there is no other way to the limit


@asynccontextmanager
async def _connected(sessions: async_sessionmaker[AsyncSession]) -> AsyncGenerator[AsyncSession]:
    async with sessions() as session:
        await _to_its_end(session.connection())
        yield session


async def _to_its_end(checkout: Awaitable[object]) -> None:
    """Await a checkout even if the caller is cancelled meanwhile: a connection that is lost half-way never returns to its pool."""
    task = asyncio.ensure_future(checkout)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def driver(url: str) -> str | None:
    """The dialect and driver that a URL names, or None if it is no database URL."""
    try:
        return make_url(url).drivername
    except ArgumentError:
        return None


def _sqlite(url: URL, *, readers: int | None, wait_seconds: float = SQLITE_BUSY_SECONDS * 3) -> AsyncEngine:
    """The writer (readers None) is one connection, whose transactions take the write lock at once instead of failing half-way."""
    engine = create_async_engine(
        url,
        pool_size=readers or 1,
        max_overflow=0,
        pool_timeout=wait_seconds,
        hide_parameters=True,
        connect_args={"isolation_level": None, "timeout": SQLITE_BUSY_SECONDS},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        # FULL syncs the log at every commit: an acknowledged write survives loss of power, not only of the process.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "mmap_size=268435456"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute(f"PRAGMA query_only={'ON' if readers else 'OFF'}")
        cursor.close()

    if readers is None:

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL, pool: PoolSize) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool.size,
        max_overflow=pool.overflow,
        pool_timeout=pool.wait_seconds,
        pool_recycle=pool.recycle_seconds,
        pool_use_lifo=True,
        hide_parameters=True,  # An error's text goes to the log, and parameters hold names, addresses and password hashes.
        connect_args={"server_settings": {"timezone": "UTC", "statement_timeout": str(pool.statement_timeout_ms)}},
    )
