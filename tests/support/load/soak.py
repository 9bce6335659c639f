"""The event log under everything at once: writers whose transactions commit out of order or not at all, subscribers whose sockets are cut.

`scripts/soak` runs it long, tests/persistence/events/test_soak.py short.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

from graph.kit.global_ids import global_id
from persistence.items import table as items
from persistence.items.table import Item, ItemValues
from persistence.kit.database.database import Database
from persistence.kit.events import log as events
from persistence.kit.events.log import Event
from tests.conftest import settings_for
from tests.support.load import rolling_restart
from tests.support.load.resuming_subscribers import Subscriber
from tests.support.servers.nginx import deployed
from tests.support.servers.processes import serving

ITEMS = 40
HEARS_EVERYTHING = 16  # Each so many-th subscriber; the others hear two items.
MOST_AT_ONCE = 20  # Events of one transaction.
ROLLED_BACK = 0.05  # Of the transactions.
QUIET_SECONDS = 120.0  # Nobody heard anything for so long: what is missing is lost.


@dataclass(frozen=True)
class Plan:
    events: int = 100_000
    writers: int = 8
    subscribers: int = 50
    cut_after: int = 2_000
    pause_seconds: float = 0.05  # The longest between a transaction's events and its commit.


@dataclass
class Outcome:
    events: int
    late_commits: int
    """Transactions that committed after one with larger ids."""
    connections: int
    delivered: int
    seconds: float
    lost: int = 0
    repeated: int = 0
    foreign: int = 0
    disordered: int = 0
    refused: list[Any] = field(default_factory=list[Any])

    @property
    def faults(self) -> tuple[int, int, int, int, list[Any]]:
        return self.lost, self.repeated, self.foreign, self.disordered, self.refused[:3]


class Soak:
    def __init__(self, database: Database, plan: Plan) -> None:
        self._database, self._plan = database, plan
        self._ids: list[int] = []
        self._left = plan.events
        self._newest_committed = self._late = 0

    async def run(self, url: str) -> Outcome:
        began = time.monotonic()
        start = await self._prepare()
        subscribers = [self._subscriber(url, number, start) for number in range(self._plan.subscribers)]
        listening = [asyncio.create_task(subscriber.listen()) for subscriber in subscribers]
        await asyncio.gather(*(self._write() for _ in range(self._plan.writers)))
        expected = await self._expected()
        await _quiet(subscribers, sum(len(_filtered(expected, subscriber)) for subscriber in subscribers))
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        return self._compared(expected, subscribers, time.monotonic() - began)

    async def _prepare(self) -> str:
        async with self._database.transaction() as work:
            self._ids = [(await items.create(work, ItemValues(f"Item {number}", Decimal(1)), owner_id=None)).id for number in range(ITEMS)]
        async with self._database.reading() as session:
            identity = await events.identity(session)
            return events.cursor(identity, await events.newest(session))

    def _subscriber(self, url: str, number: int, start: str) -> Subscriber:
        some = None if number % HEARS_EVERYTHING == 0 else [str(global_id("Item", id_)) for id_ in random.sample(self._ids, 2)]
        return Subscriber(url, start, some, cut_after=max(10, self._plan.cut_after // (20 if some else 1)))

    async def _write(self) -> None:
        while self._left > 0:
            count = min(self._left, random.randint(1, MOST_AT_ONCE))
            self._left -= count
            if random.random() < ROLLED_BACK:
                await self._change(count, keep=False)
            await self._change(count, keep=True)

    async def _change(self, count: int, *, keep: bool) -> None:
        """Each event says the how-manieth change of its item it tells of."""
        newest = 0
        try:
            async with self._database.transaction() as work:
                # Locked in one order, so that writers wait for each other in no circle.
                for id_ in sorted(random.sample(self._ids, count)):
                    statement = update(Item).where(Item.id == id_).values(version=Item.version + 1).returning(Item.version)
                    version = await work.session.scalar(statement, execution_options={"synchronize_session": False})
                    await events.record(work, "item.updated", id_, {"fields": [str(version)]})
                newest = await work.session.scalar(select(func.max(Event.id))) or 0
                if self._database.dialect != "sqlite":  # There the others would only wait.
                    await asyncio.sleep(random.uniform(0, self._plan.pause_seconds))
                if not keep:
                    raise _RolledBack  # noqa: TRY301 -- is what a failure looks like
        except _RolledBack:
            return
        self._late += newest < self._newest_committed
        self._newest_committed = max(newest, self._newest_committed)

    async def _expected(self) -> list[dict[str, Any]]:
        async with self._database.reading() as session:
            identity = await events.identity(session)
            rows = await session.execute(
                select(Event.id, Event.subject_id, Event.data).where(Event.kind == "item.updated").order_by(Event.id)
            )
            return [
                {"__typename": "ItemUpdated", "cursor": events.cursor(identity, id_), "itemId": global_id("Item", item), **data}
                for id_, item, data in rows
            ]

    def _compared(self, expected: list[dict[str, Any]], subscribers: list[Subscriber], seconds: float) -> Outcome:
        connections, delivered = (sum(each) for each in zip(*((s.connections, len(s.heard)) for s in subscribers), strict=True))
        outcome = Outcome(len(expected), self._late, connections, delivered, seconds)
        for subscriber in subscribers:
            wanted = Counter(event["cursor"] for event in _filtered(expected, subscriber))
            heard = Counter(event["cursor"] for event in subscriber.heard)
            outcome.lost += (wanted - heard).total()
            outcome.repeated += sum(count - 1 for count in heard.values())
            outcome.foreign += len(heard.keys() - wanted.keys())
            outcome.disordered += _disordered(subscriber.heard)
            outcome.refused += subscriber.refusals
        return outcome


class _RolledBack(Exception):
    pass


def _filtered(expected: list[dict[str, Any]], subscriber: Subscriber) -> list[dict[str, Any]]:
    return [event for event in expected if subscriber.items is None or event["itemId"] in subscriber.items]


def _disordered(heard: list[dict[str, Any]]) -> int:
    """Events that came after a later one of their item, and events out of the log's own order."""
    latest: dict[str, int] = {}
    faults, before = 0, 0
    for event in heard:
        number, place = int(event["fields"][0]), events.parse(event["cursor"])[1]
        faults += number <= latest.get(event["itemId"], 0) or place <= before
        latest[event["itemId"]], before = number, place
    return faults


async def _quiet(subscribers: list[Subscriber], expected: int) -> None:
    """Until all is delivered, or nothing is delivered any more."""
    before, deadline = -1, 0.0
    while (delivered := sum(len(subscriber.heard) for subscriber in subscribers)) < expected:
        if delivered != before:
            before, deadline = delivered, time.monotonic() + QUIET_SECONDS
        elif time.monotonic() > deadline:
            return
        await asyncio.sleep(0.05)


async def soak(backend: str, folder: Path, plan: Plan) -> Outcome:
    """Against a server process of its own."""
    settings = await settings_for(backend, folder, connections_per_caller=10_000)
    database = Database.connect(settings.database_url)
    try:
        with serving(settings, folder, LOG_LEVEL="WARNING") as process:
            return await Soak(database, plan).run(process.url.replace("http", "ws") + "/graphql")
    finally:
        await database.close()


async def _rolling(folder: Path) -> rolling_restart.Outcome:
    async with deployed(folder) as deployment:
        return await rolling_restart.rolled(deployment, subscribers=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("sqlite", "postgresql"), action="append", help="which database; both without it")
    parser.add_argument("--events", type=int, default=Plan.events)
    parser.add_argument("--subscribers", type=int, default=Plan.subscribers)
    parser.add_argument(
        "--rolling", action="store_true", help="restart two processes behind nginx under load instead, before 200 subscribers"
    )
    arguments = parser.parse_args()
    if arguments.rolling:
        with tempfile.TemporaryDirectory(prefix="storegraph-rolling-") as folder:
            print(asyncio.run(_rolling(Path(folder))))  # noqa: T201
        return
    for backend in arguments.backend or ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory(prefix="storegraph-soak-") as folder:
            plan = Plan(events=arguments.events, subscribers=arguments.subscribers)
            print(backend, asyncio.run(soak(backend, Path(folder), plan)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
