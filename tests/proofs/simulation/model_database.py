"""A model of PostgreSQL as the event log sees it: transactions with numbers, snapshots, and commits that are out of order.

It stands in the place of the functions of `persistence.kit.events.log` and of the two statements of the watermark.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from persistence.kit.events import log, watermark
from tests.proofs.simulation.loop import SimulatedLoop

IDENTITY = "model"


@dataclass(frozen=True)
class ModelEvent:
    id: int


class Rows:
    def __init__(self, row: tuple[Any, ...]) -> None:
        self._row = row

    def one(self) -> tuple[Any, ...]:
        return self._row

    def scalar_one(self) -> Any:
        return self._row[0]

    def mappings(self) -> Rows:
        return self

    def first(self) -> Any:
        return None


class ModelDatabase:
    dialect = "postgresql"

    def __init__(self, loop: SimulatedLoop, *, failures: float = 0.0, draws_numbers: bool = True) -> None:
        """`draws_numbers` False plants the fault against which the watermark's docstring warns."""
        self._loop, self._failures, self._draws_numbers = loop, failures, draws_numbers
        self._next_number = self._next_id = 1
        self._running: set[int] = set()
        self._ended = 0  # The newest transaction that has ended.
        self.committed: dict[int, ModelEvent] = {}
        self.pruned_through = 0
        self._listeners: list[Callable[[Sequence[Any]], Awaitable[None]]] = []

    def begin(self) -> int:
        number, self._next_number = self._next_number, self._next_number + 1
        self._running.add(number)
        return number

    def end(self, number: int) -> None:
        self._running.discard(number)
        self._ended = max(self._ended, number)

    async def write(self, count: int, *, keep: bool) -> None:
        """One transaction with so many events: numbers first, ids after them, and a commit whenever it comes."""
        await self._loop.pause()
        number, ids = self.begin(), list[int]()
        try:
            for _ in range(count):
                ids.append(self._next_id)
                self._next_id += 1
                await self._loop.pause()
            if keep:
                self.committed |= {id_: ModelEvent(id_) for id_ in ids}
        finally:
            self.end(number)
        for listener in self._listeners:
            await listener(())

    def prune(self, through: int) -> None:
        self.pruned_through = max(self.pruned_through, through)
        for id_ in [id_ for id_ in self.committed if id_ <= through]:
            del self.committed[id_]

    # -- what `Feed` uses -------------------------------------------------------------------------------------------------------------------

    def listen(self, listener: Callable[[Sequence[Any]], Awaitable[None]]) -> None:
        self._listeners.append(listener)

    @asynccontextmanager
    async def reading_latest(self) -> AsyncGenerator[ModelDatabase]:
        await self._call()
        yield self

    async def execute(self, statement: Any, values: dict[str, Any] | None = None) -> Rows:
        if statement is getattr(watermark, "_NEWEST"):  # noqa: B009
            return Rows(await self._newest_and_number((values or {})["known"]))
        await self._call()
        if statement is getattr(watermark, "_OLDEST_OPEN"):  # noqa: B009
            return Rows((min([*self._running, self._ended + 1]),))
        return Rows(())

    async def _newest_and_number(self, known: int) -> tuple[int, int | None]:
        await self._call()
        newest = max([0, *self.committed])  # The statement's snapshot; the number is drawn later.
        if newest == known:
            return newest, None
        if not self._draws_numbers:
            return newest, self._ended + 1
        await self._loop.pause(0.005)
        number = self.begin()
        try:
            await self._loop.pause(0.005)
        finally:
            self.end(number)
        return newest, number

    async def _call(self) -> None:
        await self._loop.pause(0.01)
        if self._loop.random.random() < self._failures:
            raise ConnectionResetError

    async def between(self, after: int, until: int, most: int, *, last: bool = False) -> list[ModelEvent]:
        await self._call()
        found = [self.committed[id_] for id_ in sorted(self.committed) if after < id_ <= until]
        return found[-most:] if last else found[:most]


def log_of() -> SimpleNamespace:
    """What `feed` calls of the log, answered by the model."""

    async def identity(_: ModelDatabase) -> str:
        return IDENTITY

    async def newest(database: ModelDatabase) -> int:
        await database.between(0, 0, 0)
        return max([0, *database.committed])

    async def pruned_through(database: ModelDatabase) -> int:
        await database.between(0, 0, 0)
        return database.pruned_through

    async def between(database: ModelDatabase, after: int, until: int, *, most: int) -> list[ModelEvent]:
        return await database.between(after, until, most)

    async def latest(database: ModelDatabase, after: int, until: int, *, most: int) -> list[ModelEvent]:
        found = await database.between(after, until, most, last=True)
        return [] if database.pruned_through > after else found

    return SimpleNamespace(
        identity=identity,
        newest=newest,
        pruned_through=pruned_through,
        between=between,
        latest=latest,
        cursor=log.cursor,
        parse=log.parse,
    )
