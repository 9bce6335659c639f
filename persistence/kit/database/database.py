"""The database: short reads, consistent snapshots, and one transaction for each change.

A session is never shared by two tasks: `AsyncSession` allows one statement at a time, and GraphQL resolves sibling fields together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import structlog
from sqlalchemy import MetaData, QueuePool, event, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase

from persistence.kit import sqlite_vacuum
from persistence.kit.database.commits import Change, committing
from persistence.kit.database.engines import TABLES, PoolSize, note_tables, postgresql, reads, sqlite, sqlite_file
from persistence.kit.database.executors.asyncpg_executor import AsyncpgExecutor
from persistence.kit.database.executors.sqlite_executor import SqliteExecutor
from persistence.kit.database.executors.statement_executor import InstrumentedExecutor, StatementExecutor, StatementHook
from persistence.kit.database.executors.write_executor import WRITE_CONNECTIONS, WriteExecutor
from persistence.kit.database.replica import LocalPositions, Positions, Replica
from persistence.kit.database.write_lock import WriteLock
from persistence.kit.errors import Busy
from persistence.kit.tasks.detached import DetachedTasks

if TYPE_CHECKING:
    from sqlalchemy import Engine, ExceptionContext
    from sqlalchemy.engine import Dialect


log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Batch = Callable[[AsyncSession, Sequence[K]], Awaitable[Mapping[K, V]]]

SQLITE_READERS = 4  # Threads; reads are short and SQLite answers them from the page cache.
STREAMS = 4  # At once, in one process; each may last as long as its reader is slow.
STREAM_WAIT_SECONDS = 5.0
CLOSE_SECONDS = 5.0  # For commits and checkouts whose callers have left.


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


Listener = Callable[[Sequence[Change]], Awaitable[None]]
TableListener = Callable[[Collection[str]], Awaitable[None]]


@dataclass
class UnitOfWork:
    """One transaction and what it changed: changes for event listeners, and the tables that its statements wrote to."""

    session: AsyncSession
    changes: list[Change] = field(default_factory=list[Change])
    tables: set[str] = field(default_factory=set[str])


@dataclass(frozen=True)
class PoolUse:
    """Connections of one pool: at work, waiting for work, and how many there may be."""

    busy: int
    idle: int
    most: int


class Database:
    def __init__(
        self,
        writer: AsyncEngine,
        reader: AsyncEngine,
        streamer: AsyncEngine,
        raw: StatementExecutor,
        *,
        file: str | None = None,
        write_turn: WriteLock | None = None,
        replica: Replica | None = None,
        single_writes: StatementExecutor | None = None,
        read_seconds: float | None = None,
    ) -> None:
        self.dialect = writer.dialect.name
        self._writer, self._reader, self._streamer, self._replica = writer, reader, streamer, replica
        self._file, self._write_lock, self._read_seconds = file, write_turn, read_seconds
        self._detached = DetachedTasks()
        self._listeners: list[Listener] = []
        self._table_listeners: list[TableListener] = []
        note_tables(writer)
        self._executor: StatementExecutor = raw
        self.write_executor = (
            WriteExecutor(single_writes, self._notify_tables, self._after_commit, self._detached) if single_writes else None
        )
        self._writing = async_sessionmaker(writer, expire_on_commit=False)
        self._latest = reads(reader)

    @classmethod
    def connect(
        cls, url: str, *, replica_url: str | None = None, pool: PoolSize | None = None, positions: Positions | None = None
    ) -> Database:
        """Engines for `sqlite+aiosqlite:///file` or `postgresql+asyncpg://…`; nothing is opened before the first use."""
        size = pool or PoolSize()
        if url.startswith("sqlite"):
            streamer = sqlite(url, readers=STREAMS, wait_seconds=STREAM_WAIT_SECONDS, mapped=False)
            reader, writer = (sqlite(url, readers=readers, wait_seconds=size.wait_seconds) for readers in (SQLITE_READERS, None))
            rows, turn = SqliteExecutor(url, read_seconds=size.read_seconds), WriteLock(size.wait_seconds)
            return cls(writer, reader, streamer, rows, file=sqlite_file(url), write_turn=turn, read_seconds=size.read_seconds)
        replica = Replica(*_postgresql_reads(replica_url, size), positions or LocalPositions()) if replica_url else None
        writer, streamer, rows = _postgresql_reads(url, size)
        return cls(
            writer,
            writer,
            streamer,
            rows,
            replica=replica,
            single_writes=AsyncpgExecutor(url, size, connections=WRITE_CONNECTIONS, readonly=False),
            read_seconds=size.read_seconds,
        )

    @property
    def engines(self) -> tuple[AsyncEngine, ...]:
        reader = () if self._writer is self._reader else (self._reader,)
        return (self._writer, *reader, self._streamer, *((self._replica.reader, self._replica.streamer) if self._replica else ()))

    def pools(self) -> dict[str, PoolUse]:
        """How far each pool is used, by its purpose."""
        pools = {"write": self._writer, "stream": self._streamer}
        if self._reader is not self._writer:
            pools["read"] = self._reader
        if self._replica:
            pools |= {"replica_read": self._replica.reader, "replica_stream": self._replica.streamer}
        direct = {"direct_read": self._executor.use} | ({"direct_write": self.write_executor.use} if self.write_executor else {})
        if self._replica:
            direct["replica_direct_read"] = self._replica.raw.use
        return {name: _use(cast("QueuePool", engine.pool)) for name, engine in pools.items()} | {
            name: PoolUse(*use) for name, use in direct.items()
        }

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session for a few short statements, each its own transaction: no BEGIN and ROLLBACK on the wire. Raises: TimeoutError."""
        return self._reading_somewhere(self._replica) if self._replica else self._reading(self._latest)

    @asynccontextmanager
    async def _reading_somewhere(self, replica: Replica) -> AsyncGenerator[AsyncSession]:
        async with self._reading(replica.reading if await replica.may_answer() else self._latest) as session:
            yield session

    @asynccontextmanager
    async def _reading(self, sessions: async_sessionmaker[AsyncSession]) -> AsyncGenerator[AsyncSession]:
        session = sessions()
        await self._check_out(session)
        async with session, asyncio.timeout(self._read_seconds):
            yield session

    async def _check_out(self, session: AsyncSession, **options: Any) -> None:
        """Take a connection from the pool. A caller that is cancelled meanwhile leaves at once, and the connection goes back when it comes."""
        try:
            await self._detached.run(session.connection(execution_options=options), abandoned=session.close)
        except Exception:
            await session.close()
            raise

    def reading_latest(self) -> AbstractAsyncContextManager[AsyncSession]:
        """The same, but never from a replica, which may be seconds behind: for what decides who may do what."""
        return self._reading(self._latest)

    async def executor(self) -> StatementExecutor:
        """Where a hot read goes now. Reads of several callers may only be put together if they go to the same place."""
        return self._replica.raw if self._replica and await self._replica.may_answer() else self._executor

    @property
    def executor_dialect(self) -> Dialect:
        return self._executor.dialect

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncSession]:
        """A session whose statements all see the database of one instant, for streams longer than a page. Raises: Busy.

        It has connections of its own: a slow reader of a stream keeps one for minutes, and must not keep it from a page.
        """
        replica = self._replica if self._replica and await self._replica.may_answer() else None
        session = AsyncSession(replica.streamer if replica else self._streamer, expire_on_commit=False)
        options = {} if self.dialect == "sqlite" else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        try:
            await self._check_out(session, **options)
        except PoolTimeout as error:
            raise Busy from error
        async with session:
            await session.execute(text("BEGIN" if self.dialect == "sqlite" else "SET LOCAL statement_timeout = 0"))
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[UnitOfWork]:
        """One change: committed at the end of the block, rolled back on an exception; listeners hear of it after the commit.

        Cancelled before its block ends, it is rolled back; cancelled later, its commit goes on to its end: nothing cuts that in two. Either way a
        caller that is cancelled leaves at once, also where the database hangs. Raises: TimeoutError, and what the database raises.
        """
        work = await self._begin()
        try:
            yield work
        except asyncio.CancelledError:
            self._detached.start(self._end(work))
            raise
        except BaseException:
            await self._detached.run(self._end(work))
            raise
        await self._detached.run(self._commit(work))

    async def _begin(self) -> UnitOfWork:
        work = UnitOfWork(self._writing())
        if self._write_lock:
            await self._write_lock.take()
        try:
            await self._detached.run(work.session.connection(), abandoned=partial(self._end, work))
        except Exception:
            await self._end(work)
            raise
        (await work.session.connection()).info[TABLES] = work.tables
        return work

    async def _end(self, work: UnitOfWork) -> None:
        """Give the connection back, which rolls back what is not committed."""
        try:
            await work.session.close()
        finally:
            if self._write_lock:
                self._write_lock.give_back()

    async def _commit(self, work: UnitOfWork) -> None:
        try:
            with committing() as commit:
                try:
                    await work.session.commit()
                finally:
                    commit.changed = bool(work.tables)
                    await self._end(work)
        finally:
            if work.tables:  # Whether a commit that fails has taken effect, nobody knows.
                await self._notify_tables(work.tables)
        await self._after_commit(work.changes)

    async def _notify_tables(self, tables: Collection[str]) -> None:
        for listener in self._table_listeners:
            await listener(tables)

    async def _after_commit(self, changes: Sequence[Change]) -> None:
        if self._replica:
            await self._note_position(self._replica)
        if changes:
            await self._notify(changes)

    async def _note_position(self, replica: Replica) -> None:
        try:
            async with self.reading_latest() as session:
                await replica.note_write(session)
        except Exception:  # The change is durable, and whoever made it reads from the primary from now on.
            log.exception("the watermark of the event log could not be read after a commit")

    async def rewrite_file(self, *search_indexes: str) -> None:
        """On SQLite: leave nothing of deleted rows in the file, as `empty_log` does in its log. Raises: TimeoutError, sqlite3.Error."""
        if self._file is None or self._write_lock is None:
            return
        await self._write_lock.take()
        await self._detached.run(self._rewrite(self._file, search_indexes, self._write_lock))

    async def empty_log(self) -> None:
        """Raises: FileInUse, sqlite3.Error."""
        if self._file is not None:
            await asyncio.to_thread(sqlite_vacuum.empty_log, self._file)

    async def _rewrite(self, file: str, search_indexes: Sequence[str], lock: WriteLock) -> None:
        try:
            await asyncio.to_thread(sqlite_vacuum.rewrite, file, search_indexes)
        finally:
            lock.give_back()

    def watch(self, watch: StatementHook) -> None:
        """Call `watch` before each statement, and what it returns after it."""
        for engine in self.engines:
            _watch(engine.sync_engine, watch)
        self._executor = InstrumentedExecutor(self._executor, watch)
        if self.write_executor:
            self.write_executor.watch(watch)
        if self._replica:
            self._replica.raw = InstrumentedExecutor(self._replica.raw, watch)

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each commit that changed something, before the caller goes on."""
        self._listeners.append(listener)

    def listen_to_tables(self, listener: TableListener) -> None:
        """Call `listener`, which never fails, after each commit with the tables that it wrote to: before anybody else can hear of the change."""
        self._table_listeners.append(listener)

    async def _notify(self, changes: Sequence[Change]) -> None:
        for listener in self._listeners:
            try:
                await listener(changes)
            except Exception:  # The change is durable: whoever made it must hear of that, not of a listener's trouble.
                log.exception("a commit listener failed")

    async def close(self) -> None:
        await self._detached.close(CLOSE_SECONDS)
        await self._executor.close()
        if self.write_executor:
            await self.write_executor.close()
        if self._replica:
            await self._replica.close()
        for engine in self.engines:
            await engine.dispose()


def _postgresql_reads(url: str, size: PoolSize) -> tuple[AsyncEngine, AsyncEngine, StatementExecutor]:
    streamer = postgresql(url, replace(size, size=1, overflow=STREAMS - 1, wait_seconds=STREAM_WAIT_SECONDS))
    return postgresql(url, size), streamer, AsyncpgExecutor(url, size)


def _watch(engine: Engine, watch: StatementHook) -> None:
    @event.listens_for(engine, "before_cursor_execute")
    def begin(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        context.watched = watch(statement)

    @event.listens_for(engine, "after_cursor_execute")
    def end(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        if (watched := getattr(context, "watched", None)) is not None:  # None of a statement that was under way when watching began.
            watched()

    @event.listens_for(engine, "handle_error")
    def fail(error: ExceptionContext) -> None:
        if (watched := getattr(error.execution_context, "watched", None)) is not None:
            watched()


def _use(pool: QueuePool) -> PoolUse:
    return PoolUse(pool.checkedout(), pool.checkedin(), pool.size() + max(pool._max_overflow, 0))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- there is no other way to the limit
