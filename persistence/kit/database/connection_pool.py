"""A small pool of PostgreSQL connections for single statements.

asyncpg's own pool does more: it wraps each connection, and resets and shields it when it comes back, which takes as long as a small query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import asyncpg

from persistence.kit.database.hosts import is_current

PooledConnection = Any  # asyncpg.Connection, which is generic for type checkers alone.

CLOSE_SECONDS = 2.0  # Then a connection is dropped without a farewell.
CLOSING = 64  # At once, in one process, each with a second connection that asks the server to stop its statement; the rest is dropped.


class ConnectionPool:
    def __init__(
        self, connect: Callable[[], Awaitable[PooledConnection]], most: int, *, recycle_seconds: float, wait_seconds: float
    ) -> None:
        self._connect, self._recycle_seconds, self._wait_seconds = connect, recycle_seconds, wait_seconds
        self._slots, self._most = asyncio.Semaphore(most), most
        self._idle: list[tuple[PooledConnection, float]] = []
        self._used = 0

    @property
    def use(self) -> tuple[int, int, int]:
        """How many are at work, idle, and allowed."""
        return self._used, len(self._idle), self._most

    def connection(self) -> _Lease:
        """A connection for nobody else meanwhile. Where a statement was left before its end, it is not used again. Raises: TimeoutError."""
        return _Lease(self)

    async def acquire(self) -> tuple[PooledConnection, float]:
        """A connection, and since when it is open. Raises: TimeoutError."""
        if self._slots.locked():
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        else:
            await self._slots.acquire()
        self._used += 1
        try:
            return self._idle_connection() or (await self._connect(), time.monotonic())
        except BaseException:
            self._give_up_slot()
            raise

    def release(self, link: PooledConnection, since: float, error: type[BaseException] | None) -> None:
        """`error` is what the statement ended with."""
        if error is None or (issubclass(error, asyncpg.PostgresError) and not issubclass(error, asyncpg.ReadOnlySQLTransactionError)):
            self._idle.append((link, since))  # An error of the server's is its word on the statement, which ended with it.
        else:  # It is under way still, or the server was the primary and is a standby now.
            close_in_background(link)
        self._give_up_slot()

    def _give_up_slot(self) -> None:
        self._used -= 1
        self._slots.release()

    def _idle_connection(self) -> tuple[PooledConnection, float] | None:
        oldest = time.monotonic() - self._recycle_seconds
        while self._idle:
            link, since = self._idle.pop()
            if since > oldest and not link.is_closed() and is_current(link):
                return link, since
            close_in_background(link)
        return None

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for link, _ in idle:
            close_in_background(link)
        await closed()


class _Lease:
    """A class of its own: a generator as context manager takes three times as long, which is a twentieth of a small query."""

    __slots__ = ("_link", "_pool", "_since")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def __aenter__(self) -> PooledConnection:
        self._link, self._since = await self._pool.acquire()
        return self._link

    async def __aexit__(self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        self._pool.release(self._link, self._since, kind)


def close_in_background(link: PooledConnection) -> None:
    """Close a connection beside all else: it first stops the statement that may still run, and a server that hangs answers neither."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # Found by the garbage collector.
        link.terminate()
        return
    if len(_closing) >= CLOSING:
        link.terminate()
        return
    task = loop.create_task(link.close(timeout=CLOSE_SECONDS))
    _closing.add(task)
    task.add_done_callback(_forget)


async def closed() -> None:
    """Wait for the connections that are being closed."""
    await asyncio.gather(*_of_this_loop(), return_exceptions=True)


_closing: set[asyncio.Task[None]] = set()


def _of_this_loop() -> list[asyncio.Task[None]]:
    loop = asyncio.get_running_loop()
    return [task for task in _closing if task.get_loop() is loop]


def _forget(task: asyncio.Task[None]) -> None:
    _closing.discard(task)
    if not task.cancelled():
        task.exception()  # Seen: what is wrong with a connection that is given up concerns nobody.
