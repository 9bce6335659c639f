"""The watermark of the event log: up to which id it is final, since no event with a smaller id can appear any more.

Ids are not drawn in commit order: a reader that has seen 11 may see 10 appear later. On PostgreSQL an id is therefore released only when every
transaction that may hold a smaller one has ended. A transaction gets its number before it draws its first event id (the id's default in the table
sees to that). So: read the newest visible id and then draw a transaction number. Whoever holds a smaller id drew it before, and has a smaller
number; once all transactions below the drawn number have ended, the id is final. The number has to be drawn: the `xmax` of a snapshot is no
bound, since it only follows the newest transaction that has *ended*.

SQLite writes one transaction at a time, so there every visible id is final.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.kit.events import log as events

log = structlog.get_logger(__name__)

MARKS = 64  # Kept while delivery is held back; then only the newest moves on, and delivery catches up in larger steps.
WARN_SECONDS = 5.0  # Held back for longer than this is worth a line in the log, and again each time that it doubles.


class LogReset(Exception):
    """The log has become shorter: a backup or a replica took the database's place, and what was delivered may never have happened."""


class Watermark(Protocol):
    async def final(self, session: AsyncSession) -> int | None:
        """The newest final id; None as long as that cannot be said. Raises: LogReset, once."""
        ...

    @property
    def held_back_seconds(self) -> float:
        """How long the oldest event that is visible and not final has been so."""
        ...


class SerialWatermark:
    held_back_seconds = 0.0

    def __init__(self) -> None:
        self._final = 0

    async def final(self, session: AsyncSession) -> int | None:
        known, self._final = self._final, await events.newest(session)
        if self._final < known:
            raise LogReset
        return self._final


@dataclass(frozen=True)
class _Mark:
    event_id: int
    number: int  # Final when all transactions below this one have ended.
    noted_at: float


_NEWEST = text(
    "SELECT newest, CASE WHEN newest <> :known THEN pg_current_xact_id()::text::bigint END"
    " FROM (SELECT coalesce(max(id), 0) AS newest FROM events) AS log"
)
_OLDEST_OPEN = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_CULPRIT = text(
    "SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)::float AS seconds"
    " FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY age(backend_xid) DESC LIMIT 1"
)


class ConcurrentWatermark:
    def __init__(self) -> None:
        self._final: int | None = None
        self._marks: deque[_Mark] = deque()
        self._warn_at = WARN_SECONDS

    @property
    def held_back_seconds(self) -> float:
        return time.monotonic() - self._marks[0].noted_at if self._marks else 0.0

    async def final(self, session: AsyncSession) -> int | None:
        known = self._marks[-1].event_id if self._marks else self._final
        newest, number = (await session.execute(_NEWEST, {"known": -1 if known is None else known})).one()
        if known is not None and newest < known:
            self._final = None
            self._marks.clear()
            raise LogReset
        if number is not None:
            if len(self._marks) == MARKS:
                self._marks.pop()
            self._marks.append(_Mark(newest, number, time.monotonic()))
        if self._marks:
            await self._release(session)
        return self._final

    async def _release(self, session: AsyncSession) -> None:
        oldest_open = (await session.execute(_OLDEST_OPEN)).scalar_one()
        while self._marks and self._marks[0].number <= oldest_open:
            self._final = self._marks.popleft().event_id
        if not self._marks:
            self._warn_at = WARN_SECONDS
        elif self.held_back_seconds > self._warn_at:
            self._warn_at = self.held_back_seconds * 2
            culprit = (await session.execute(_CULPRIT)).mappings().first()
            log.warning("a long transaction holds back events", held_back_seconds=self.held_back_seconds, **(culprit or {}))
