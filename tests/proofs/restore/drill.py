"""Any second back: a database is destroyed at a random moment under load, and restored to its last second, or to any before.

The commands are those of docs/operations.md. Checked are purchases (each acknowledged one until a second before the moment is there, none that began
after it), the stock beside them, what a retry after the restore does, and that every subscriber is told of the other history.

`scripts/prove restore` runs it on both databases; tests/proofs/restore/test_restore.py runs the short form.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
from sqlalchemy import select

from graph.kit.global_ids import row_id
from persistence.items.table import Item
from persistence.kit.database.database import Database
from persistence.purchases.table import Purchase
from tests.support.endpoints import until
from tests.support.load.resuming_subscribers import Subscriber
from tests.support.load.retrying_clients import PURCHASE, STOCK
from tests.support.servers.databases import free_port
from tests.support.servers.processes import serving
from tests.support.service import running

if TYPE_CHECKING:
    from graph.server.settings import Settings

LOSS_SECONDS = 1.0
BUYERS = 4
PURCHASES_BEFORE = 30  # The least before the time runs in which the database breaks: on a busy machine a second may see none.


class Backups(Protocol):
    """A database with continuous backups, and how an operator brings it back."""

    settings: Settings

    def start(self) -> None:
        """Start to back up."""
        ...

    def stop(self) -> None:
        """Stop to back up: a fault, planted."""
        ...

    def destroy(self) -> None:
        """The machine is lost: its programs are killed, and everything is deleted but the backup."""
        ...

    def restore(self, moment: float | None) -> None:
        """To the last second, or to a moment of the Unix clock."""
        ...


@dataclass
class Buying:
    """A purchase as its client knows it."""

    key: str
    began: float
    id: int
    acknowledged: float


@dataclass
class Outcome:
    moment: str
    purchases: int
    restored: int
    loss_seconds: float
    """From the oldest lost acknowledgement to the moment."""
    from_the_future: int
    sold_and_stock: tuple[int, int]
    told: int
    """Subscribers that got a Gap."""
    subscribers: int
    repeated: int
    restore_seconds: float

    @property
    def faults(self) -> list[str]:
        sold, gone = self.sold_and_stock
        found = {
            f"{self.loss_seconds:.2f} s of acknowledged purchases are lost": self.loss_seconds > LOSS_SECONDS,
            f"{self.from_the_future} purchases began after the moment": bool(self.from_the_future),
            f"{sold} purchases, but {gone} units are gone from the stock": sold != gone,
            f"{self.subscribers - self.told} subscribers were not told": self.told < self.subscribers,
            f"{self.repeated} retries bought again": bool(self.repeated),
        }
        return [fault for fault, is_so in found.items() if is_so]


@dataclass
class Load:
    """Clients that buy until they are stopped, and remember when each purchase began and was acknowledged."""

    url: str
    token: str
    item: str
    bought: list[Buying] = field(default_factory=list[Buying])

    async def buy(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=10, headers={"Authorization": f"Bearer {self.token}"}) as http:
            turn = 0
            while True:
                began, key = time.time(), f"{number}, {turn}"
                self.bought.append(Buying(key, began, await self.purchase(http, key), time.time()))
                turn += 1
                await asyncio.sleep(0.01)

    async def purchase(self, http: httpx.AsyncClient, key: str) -> int:
        answer = await http.post("/graphql", json={"query": PURCHASE, "variables": {"item": self.item, "key": key}})
        return row_id("Purchase", answer.json()["data"]["purchaseItem"]["id"]) or 0


@dataclass
class Drill:
    backups: Backups
    folder: Path
    seconds: float = 6.0
    before: float | None = None
    """To restore to so many seconds before the break; None restores the last second."""
    spoiled_at: float = float("inf")
    """For a planted fault: what happens after so many seconds is not backed up."""

    async def run(self) -> Outcome:
        async with running(self.backups.settings) as service:
            token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
        port = free_port()
        load = Load(f"http://127.0.0.1:{port}", token, item)
        crowd = [Subscriber(f"ws://127.0.0.1:{port}/graphql", "", None if number % 2 else [item]) for number in range(4)]
        listening = [asyncio.create_task(subscriber.listen()) for subscriber in crowd]
        self.backups.start()
        try:
            broken_at = await self._break(port, load, crowd)
            moment = None if self.before is None else broken_at - self.before
            began = time.monotonic()
            await asyncio.to_thread(self.backups.restore, moment)
            seconds = time.monotonic() - began
            kept, stock = await self._kept(item)
            told, repeated = await self._after(port, load, crowd, kept)
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
        until_then = broken_at if moment is None else moment
        lost = [buying.acknowledged for buying in load.bought if buying.id not in kept and buying.acknowledged <= until_then]
        return Outcome(
            moment="last second" if moment is None else f"{self.before:.2f} s before",
            purchases=len(load.bought),
            restored=len(kept),
            loss_seconds=max((until_then - at for at in lost), default=0.0),
            from_the_future=sum(buying.id in kept and buying.began > until_then for buying in load.bought),
            sold_and_stock=(len(kept), STOCK - stock),
            told=told,
            subscribers=len(crowd),
            repeated=repeated,
            restore_seconds=seconds,
        )

    async def _break(self, port: int, load: Load, crowd: list[Subscriber]) -> float:
        """The Unix time of the break."""
        with serving(self.backups.settings, self.folder, port=port, LOG_LEVEL="ERROR") as process:
            buyers = [asyncio.create_task(load.buy(number)) for number in range(BUYERS)]
            await until(lambda: len(load.bought) >= PURCHASES_BEFORE)
            await asyncio.sleep(min(self.seconds, self.spoiled_at))
            if self.seconds > self.spoiled_at:
                self.backups.stop()
                await asyncio.sleep(self.seconds - self.spoiled_at)
            await until(lambda: all(subscriber.heard for subscriber in crowd))
            process.kill()
            broken_at = time.time()
            await asyncio.to_thread(self.backups.destroy)
            for buyer in buyers:
                buyer.cancel()
            await asyncio.gather(*buyers, return_exceptions=True)
        return broken_at

    async def _kept(self, item: str) -> tuple[set[int], int]:
        database = Database.connect(self.backups.settings.database_url)
        try:
            async with database.reading() as session:
                kept = set((await session.scalars(select(Purchase.id))).all())
                stock = await session.scalar(select(Item.inventory).where(Item.id == row_id("Item", item)))
            return kept, stock or 0
        finally:
            await database.close()

    async def _after(self, port: int, load: Load, crowd: list[Subscriber], kept: set[int]) -> tuple[int, int]:
        """Subscribers that were told, and purchases that a retry made again though they are there."""
        with serving(self.backups.settings, self.folder, port=port, LOG_LEVEL="ERROR"):
            headers = {"Authorization": f"Bearer {load.token}"}
            async with httpx.AsyncClient(base_url=load.url, timeout=30, headers=headers) as http:
                repeated = 0
                for buying in [buying for buying in load.bought if buying.id in kept][-20:]:
                    repeated += await load.purchase(http, buying.key) != buying.id
                await load.purchase(http, "after the restore")
                deadline = time.monotonic() + 10
                while time.monotonic() < deadline and not all(map(_was_told, crowd)):  # noqa: ASYNC110 -- a subscriber has no bell
                    await asyncio.sleep(0.05)
            return sum(map(_was_told, crowd)), repeated


def _was_told(subscriber: Subscriber) -> bool:
    return any(event["__typename"] == "Gap" for event in subscriber.heard)


async def drilled(engine: str, folder: Path, **options: Any) -> Outcome:
    from tests.proofs.restore.postgresql import archived
    from tests.proofs.restore.sqlite import replicated

    async with (archived if engine == "postgresql" else replicated)(folder, s3=engine == "sqlite-s3") as backups:
        return await Drill(backups, folder, **options).run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove restore", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "sqlite-s3", "postgresql"), action="append", help="all of them without it")
    parser.add_argument("--rounds", type=int, default=3, help="for each: one to the last second, the others to a second before")
    parser.add_argument("--seconds", type=float, default=15.0, help="the longest load before a break")
    arguments = parser.parse_args()
    faults: list[str] = []
    for engine in arguments.engine or ("sqlite", "sqlite-s3", "postgresql"):
        for number in range(arguments.rounds):
            with tempfile.TemporaryDirectory(prefix="storegraph-restore-") as folder:
                seconds = random.uniform(4, arguments.seconds)
                outcome = asyncio.run(
                    drilled(engine, Path(folder), seconds=seconds, before=random.uniform(0.5, seconds - 2) if number else None)
                )
            print(engine, outcome, *outcome.faults, sep="\n  ", flush=True)  # noqa: T201
            faults += outcome.faults
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
