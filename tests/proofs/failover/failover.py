"""Failover: the primary of three PostgreSQL nodes is killed or frozen, again and again, under edits, purchases and subscribers through two processes.

With synchronous replication nothing that was acknowledged may be lost, nothing happen twice, no event be missed; and each process must write again
within seconds, without a restart. With asynchronous replication acknowledged writes may be lost, but every subscriber who was told of one is told of the
loss. `scripts/prove failover` runs it; tests/proofs/failover/test_failover.py runs two failovers where the packages are.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import select

from persistence.kit.database.database import Database
from persistence.kit.events import log as events
from persistence.kit.events.log import Event
from persistence.schema import upgrade
from tests.conftest import settings_for
from tests.proofs.failover.cluster import Cluster, Node, cluster
from tests.proofs.histories.checker import key_faults, register_faults, stale_reads, stream_faults
from tests.proofs.histories.clients import BUY, Client, History, Roamer
from tests.proofs.histories.histories import STOCK, TOLD, effects, newest_events
from tests.support.servers.processes import PROGRAM, Process, serving
from tests.support.service import running

if TYPE_CHECKING:
    from graph.server.settings import Settings

PROCESSES = 2
CLIENTS = 8
BACK_SECONDS = 15.0
CALM_SECONDS = 2.0  # Of work before a failover, and after it.
LOST_SECONDS = 1.0  # Of work that no standby has, with asynchronous replication, when the primary is killed.
WITHOUT_RESET = [sys.executable, "-m", "tests.proofs.failover.without_reset"]


@dataclass
class Outcome:
    failovers: int
    back_seconds: list[float]
    """Until both processes had written again."""
    operations: int
    unanswered: int
    purchases: int
    events: int
    lost: int
    """Acknowledged writes; with asynchronous replication they are no fault."""
    told_of_losses: int
    """Gaps that subscribers got."""
    faults: list[str] = field(default_factory=list[str])


class Failover:
    def __init__(self, settings: Settings, made: Cluster, folder: Path, program: Sequence[str]) -> None:
        self._settings, self._cluster, self._folder, self._program = settings, made, folder, program
        self._processes: list[Process] = []
        self._token, self._shop = "", ""
        self.history, self.back = History(), list[float]()

    def addresses(self) -> list[str]:
        return [process.url for process in self._processes]

    async def run(self, failovers: int, subscribers: int) -> Outcome:
        async with running(self._settings) as service:
            self._token, self._shop = await service.sign_in(), await service.make_item("Shop", inventory=STOCK)
            registers = [await service.make_item(f"Register {number}") for number in range(4)]
            async with service.database.reading() as session:
                start = events.cursor(await events.identity(session), await events.newest(session))
        with ExitStack() as stack:
            for _ in range(PROCESSES):
                self._processes.append(stack.enter_context(serving(self._settings, self._folder, program=self._program, LOG_LEVEL="ERROR")))
            crowd = await self._work(failovers, subscribers, registers, start)
        return await self._checked(crowd, registers, start, failovers)

    async def _work(self, failovers: int, subscribers: int, registers: list[str], start: str) -> list[Roamer]:
        crowd = [Roamer("", start, None, addresses=self.addresses) for _ in range(subscribers)]
        listening = [asyncio.create_task(subscriber.listen()) for subscriber in crowd]
        clients = [Client(number, self.addresses, self._token, self.history) for number in range(CLIENTS)]
        stop = asyncio.Event()
        working = [asyncio.create_task(_until(stop, client, registers, [self._shop])) for client in clients]
        for number in range(failovers):
            await asyncio.sleep(CALM_SECONDS)
            await self._fail_over(number)
        await asyncio.sleep(CALM_SECONDS)
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*working)
        await asyncio.gather(*(client.close() for client in clients))
        await newest_events(self._settings, crowd)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        return crowd

    async def _fail_over(self, number: int) -> None:
        frozen = bool(number % 2)
        attack = self._cluster.freeze_primary if frozen else self._cluster.kill_primary
        node = await (asyncio.to_thread(attack) if frozen or self._cluster.synchronous else self._lose())
        began = time.monotonic()
        await asyncio.gather(*(self._writes(address, f"probe {number} {place}") for place, address in enumerate(self.addresses())))
        self.back.append(round(time.monotonic() - began, 1))
        if frozen:
            node.signal(signal.SIGCONT)
        print(f"{number}: {node.name} {'frozen' if frozen else 'killed'}, written again after {self.back[-1]} s", flush=True)  # noqa: T201
        await asyncio.to_thread(self._cluster.is_whole)

    async def _lose(self) -> Node:
        """The primary dies with what it acknowledged in the last second."""
        held = await asyncio.to_thread(self._cluster.hold_standbys)
        await asyncio.sleep(LOST_SECONDS)
        node = await asyncio.to_thread(self._cluster.kill_primary)
        self._cluster.give_up_receivers(held)
        return node

    async def _writes(self, address: str, key: str) -> None:
        """Until the process has made a purchase."""
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(base_url=address, timeout=30, headers=headers) as http, asyncio.timeout(120):
            while True:
                answer = (await http.post("/graphql", json={"query": BUY, "variables": {"id": self._shop, "key": key}})).json()
                if "errors" not in answer:
                    self.history.bought.add(key)
                    self.history.taken[key] = 1
                    return
                await asyncio.sleep(0.1)

    async def _checked(self, crowd: list[Roamer], registers: list[str], start: str, failovers: int) -> Outcome:
        history, log = self.history, await _log(self._settings, events.parse(start)[1])
        by_key, purchases, sold = await effects(self._settings, [self._shop])
        lost = {key for key in history.taken.keys() | {answer.key for answer in history.answers} if not by_key.get(key)}
        told = [event for subscriber in crowd for event in subscriber.heard if event["__typename"] == "Gap"]
        faults = [f"key {key} has {count} effects" for key, count in by_key.items() if count > 1]
        if self._cluster.synchronous:
            faults += register_faults(history.operations, dict.fromkeys(registers, (1, None))) + key_faults(history.answers, by_key)
            faults += [fault for _, fault in stale_reads(history.operations)]
            faults += [f"{key} is lost" for key in lost] + [f"a subscriber was told of a loss: {event}" for event in told]
        elif not lost:
            faults.append("no write was lost, so that it was not shown that subscribers are told of it")
        for number, subscriber in enumerate(crowd):
            faults += [f"subscriber {number}: {fault}" for fault in untold(subscriber.heard, log)]
        left, taken = len(history.bought - lost), sum(units for key, units in history.taken.items() if key not in lost)
        if (purchases, sold) != (left, taken):
            faults.append(f"{left} purchases should be left, {purchases} are there; {taken} units should be gone, and {sold} are")
        faults += [f"a process wrote again only after {seconds} s" for seconds in self.back if seconds > BACK_SECONDS]
        return Outcome(failovers, self.back, len(history), history.lost, purchases, len(log), len(lost), len(told), faults)


async def _log(settings: Settings, after: int) -> dict[int, datetime]:
    """The events that are there, each with its time: one that took the id of a lost one has another."""
    database = Database.connect(settings.database_url, pool=settings.pool.for_commands)
    try:
        async with database.reading() as session:
            found = await session.execute(
                select(Event.id, Event.occurred_at).where(Event.kind.in_(TOLD), Event.id > after).order_by(Event.id)
            )
            return {id_: occurred_at for id_, occurred_at in found}  # noqa: C416 -- a row is no pair to a type checker
    finally:
        await database.close()


def untold(heard: Sequence[Mapping[str, Any]], log: Mapping[int, datetime]) -> list[str]:
    """What was heard after the last gap must be the log, without holes: whatever was lost before is told by that gap."""
    after, last = 0, list[tuple[int, datetime]]()
    for event in heard:
        id_ = events.parse(event["cursor"])[1]
        if event["__typename"] == "Gap":
            after, last = id_, []
        else:
            last.append((id_, datetime.fromisoformat(event["occurredAt"])))
    faults = stream_faults([id_ for id_, _ in last], [id_ for id_ in log if id_ > after])
    return faults + [f"event {id_} is another than was told" for id_, at in last if log.get(id_, at) != at]


async def _until(stop: asyncio.Event, client: Client, registers: list[str], shops: list[str]) -> None:
    while not stop.is_set():
        await client.work(registers, shops)


async def run(
    folder: Path, *, failovers: int, subscribers: int, synchronous: bool = True, program: Sequence[str] = PROGRAM, **options: Any
) -> Outcome:
    with cluster(synchronous=synchronous) as made:
        await upgrade(made.url)
        settings = await settings_for("postgresql", folder, connections_per_caller=10_000, **options)
        urls = {"database_url": made.url, "database_replica_url": made.replica_url}
        return await Failover(settings.model_copy(update=urls), made, folder, program).run(failovers, subscribers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove failover", description=__doc__)
    parser.add_argument("--failovers", type=int, default=20)
    parser.add_argument("--subscribers", type=int, default=50)
    parser.add_argument("--asynchronous", action="store_true", help="losses are no faults then, but subscribers must be told of them")
    parser.add_argument("--without-reset", action="store_true", help="a fault, planted: nobody is told of a loss, and the run has to fail")
    arguments = parser.parse_args()
    options: dict[str, Any] = {"program": WITHOUT_RESET} if arguments.without_reset else {}
    options |= {"failovers": arguments.failovers, "subscribers": arguments.subscribers}
    with tempfile.TemporaryDirectory(prefix="storegraph-failover-") as folder:
        outcome = asyncio.run(run(Path(folder), synchronous=not arguments.asynchronous, **options))
    faults, outcome.faults = outcome.faults, outcome.faults[:20]
    print(outcome, f"{len(faults)} faults")  # noqa: T201
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
