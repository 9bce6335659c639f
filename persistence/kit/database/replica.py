"""Reads from a streaming replica, except for callers whose own last change has not reached it yet.

After a commit the primary tells how far its log has come. That position is kept for the caller, in Redis for all processes; a later read of the
same caller asks how far the replica has replayed the log, and goes to the primary until that is as far. Nobody ever waits. When it is not
known who reads, or what they wrote, the primary is read: a subscription's events, background work and look-ups of tokens go there always.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from persistence.kit.database import hosts
from persistence.kit.database.engines import reads
from persistence.kit.database.executors.statement_executor import StatementExecutor
from persistence.kit.redis.circuit_breaker import CircuitBreaker

log = structlog.get_logger(__name__)

WRITERS = 50_000  # That one process remembers.
REMEMBERED_SECONDS = 600  # A replica that is further behind than this is of no use.
LOOK_SECONDS = 1.0  # How long a replica may be away before that is noticed, and how long it is left alone then.
ANSWER_SECONDS = 0.5
PREFIX = "storegraph:written:"

PRIMARY_POSITION = text("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")  # Bytes since the beginning of the log.
REPLAYED = text(hosts.REPLAYED)
UNKNOWN_POSITION = 2**62  # The position of a change that is known to have been made, and not where.


@dataclass
class ReadingCaller:
    """One operation, by the keys of its caller."""

    names: tuple[str, ...]
    needs: int | None = None
    """The position from which on a replica has all that they wrote; None until looked up."""


_reader: ContextVar[ReadingCaller | None] = ContextVar("reader", default=None)


class reading_as:  # noqa: N801 -- reads as a function; a generator would take four times as long, once for each operation
    """Reads in this block may come from a replica, if it has what these callers wrote."""

    __slots__ = ("_names", "_token")

    def __init__(self, *names: str) -> None:
        self._names = names

    def __enter__(self) -> None:
        self._token = _reader.set(ReadingCaller(self._names))

    def __exit__(self, *_: object) -> None:
        _reader.reset(self._token)


class Positions(Protocol):
    """How far the log had come when each caller last wrote."""

    async def note(self, names: Sequence[str], position: int) -> None: ...

    async def of(self, names: Sequence[str]) -> int:
        """0 for callers that have not written lately."""
        ...


class LocalPositions:
    """Of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._positions: OrderedDict[str, tuple[int, float]] = OrderedDict()  # Each with the instant of its end.

    async def note(self, names: Sequence[str], position: int) -> None:
        """A position that is known takes the place of one that is not: it is of a later change, and so behind that one in the log."""
        ends_at = self._clock() + REMEMBERED_SECONDS
        for name in names:
            known = self._position(name)
            self._positions[name] = (position if known == UNKNOWN_POSITION else max(position, known)), ends_at
            self._positions.move_to_end(name)
        while len(self._positions) > WRITERS:
            self._positions.popitem(last=False)

    async def of(self, names: Sequence[str]) -> int:
        return max(self._position(name) for name in names)

    def _position(self, name: str) -> int:
        position, ends_at = self._positions.get(name, (0, 0.0))
        return position if self._clock() < ends_at else 0


# Two changes of one caller, in two processes, may arrive in the other order. Whatever is known takes the place of what is not (NEVER).
ADVANCE = """
local kept = tonumber(redis.call('GET', KEYS[1]) or '0')
if kept < tonumber(ARGV[1]) or kept >= 4611686018427387904 then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
"""


class SharedPositions:
    """Of all processes. While Redis is away nobody knows who wrote elsewhere, so the primary is read."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis
        self._advance: Any = redis.register_script(ADVANCE)
        self._own = LocalPositions()
        self.breaker = CircuitBreaker("replica", redis)

    async def note(self, names: Sequence[str], position: int) -> None:
        await self._own.note(names, position)
        await self.breaker.call(lambda: self._note(names, position))

    async def of(self, names: Sequence[str]) -> int:
        shared = await self.breaker.call(lambda: asyncio.gather(*(self._redis.get(PREFIX + name) for name in names)))
        return UNKNOWN_POSITION if shared is None else max(await self._own.of(names), *(int(position or 0) for position in shared))

    async def _note(self, names: Sequence[str], position: int) -> None:
        await asyncio.gather(*(self._advance(keys=[PREFIX + name], args=[position, REMEMBERED_SECONDS]) for name in names))


class Replica:
    def __init__(self, reader: AsyncEngine, streamer: AsyncEngine, raw: StatementExecutor, positions: Positions) -> None:
        self.reader, self.streamer, self.raw = reader, streamer, raw
        self.reading = reads(reader)
        self._positions = positions
        self._replayed, self._looked_at, self._moves = -1, -LOOK_SECONDS, hosts.standby_moves()
        self._away = False

    async def may_answer(self) -> bool:
        reader = _reader.get()
        if reader is None:
            return False
        if reader.needs is None:
            reader.needs = await self._positions.of(reader.names)
        if self._is_outdated() or (reader.needs > self._replayed and not self._away):
            await self._look()
        return not self._away and reader.needs <= self._replayed

    async def note_write(self, primary: AsyncSession) -> None:
        """The reader of this block has changed something on the primary."""
        reader = _reader.get()
        if reader is None:
            return
        reader.needs = position = UNKNOWN_POSITION
        try:
            reader.needs = position = (await primary.execute(PRIMARY_POSITION)).scalar_one()
        finally:
            await self._positions.note(reader.names, position)

    def _is_outdated(self) -> bool:
        return time.monotonic() - self._looked_at >= LOOK_SECONDS or self._moves != hosts.standby_moves()

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self.reading() as session:
                connection = (await (await session.connection()).get_raw_connection()).driver_connection
                self._moves = hosts.standby_moves()
                self._replayed = (await session.execute(REPLAYED)).scalar_one()
                hosts.promise(connection, self._replayed)
        except Exception as error:  # noqa: BLE001 -- whatever keeps it from answering, there is the primary
            if not self._away:
                log.warning("the replica is unavailable; reading from the primary", error=repr(error))
            self._away = True
            return
        if self._away:
            log.info("the replica is available again")
        self._away = False

    async def close(self) -> None:
        await self.raw.close()
        await self.reader.dispose()
        await self.streamer.dispose()
