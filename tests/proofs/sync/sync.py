"""Catalogue sync under load: a file of many rows again and again, while buyers buy, an operator corrects stock, and another client is timed.

The same file twice must change nothing the second time. Start, and adjustments, less what was sold, must be the end of each item.
`scripts/prove sync` runs 120,000 rows and four processes on both databases; tests/proofs/sync/test_sync.py runs a short form.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from sqlalchemy import func, select

from graph.kit.auth import Scope
from persistence.items.table import Item
from persistence.kit.database.database import Database
from persistence.kit.events.log import Event
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.servers.processes import serving
from tests.support.service import running

if TYPE_CHECKING:
    from graph.server.settings import Settings

STOCK = 50
BUYERS = 8
HOT_ITEMS = 20
CHANGED_EVERY = 50  # 2 % of the rows.
PROBE_SECONDS = 0.02
HEADER = b"externalId,name,description,price,tags\n"
PURCHASE = "mutation ($id: ID!) { purchaseItem(itemId: $id) { __typename } }"
ADJUST = (
    "mutation ($rows: [InventoryAdjustmentInput!]!) { adjustInventory(adjustments: $rows, onError: SKIP_INVALID) "
    "{ ... on AdjustInventory { results { __typename } } } }"
)
PROBE = "query ($id: ID!) { item(id: $id) { name price inventory } }"


@dataclass
class Outcome:
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    sums: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    events_of_repeat: int = -1
    probe_p99_ms: float = 0.0
    memory_growth_mb: float = 0.0
    """Of the server processes together, from the end of the second run to the end of the third."""
    bought: int = 0
    faults: list[str] = field(default_factory=list[str])


def content(rows: int, edition: int) -> bytes:
    """The file as it is at an edition: from one to the next 2 % of its prices change."""
    return HEADER + b"".join(
        b"E-%d,Item %d of the catalogue,Some words that say what number %d is for.,%d.%02d,red;number %d\n"
        % (number, number, number, 1 + number % 90, edition if number % CHANGED_EVERY == 0 else 0, number % 100)
        for number in range(rows)
    )


@dataclass
class Shop:
    """The service and who talks to it."""

    http: httpx.AsyncClient
    ids: list[str]
    enough: bool = False
    answers: Counter[str] = field(default_factory=Counter[str])
    probes: list[float] = field(default_factory=list[float])

    async def ask(self, query: str, variables: dict[str, Any]) -> Any:
        answer = (await self.http.post("/graphql", json={"query": query, "variables": variables})).json()
        if "errors" in answer:
            self.answers[answer["errors"][0]["extensions"]["code"]] += 1
            return None
        return answer["data"]

    async def sync(self, file: bytes) -> dict[str, int]:
        headers = {"Content-Type": "text/csv"}
        answer = await self.http.post("/api/v2/import/items?match=external-id", content=file, headers=headers)
        return json.loads(answer.text.splitlines()[-1])

    async def buy(self) -> None:
        while not self.enough:
            if data := await self.ask(PURCHASE, {"id": random.choice(self.ids)}):
                self.answers[data["purchaseItem"]["__typename"]] += 1
            await asyncio.sleep(PROBE_SECONDS)

    async def adjust(self) -> None:
        while not self.enough:
            rows = [{"itemId": id_, "delta": random.randint(-3, 4)} for id_ in random.sample(self.ids, len(self.ids) // 2)]
            if data := await self.ask(ADJUST, {"rows": rows}):
                self.answers.update(row["__typename"] for row in data["adjustInventory"]["results"])
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self) -> None:
        while not self.enough:
            began = time.perf_counter()
            await self.ask(PROBE, {"id": random.choice(self.ids)})
            self.probes.append(time.perf_counter() - began)
            await asyncio.sleep(PROBE_SECONDS)


async def prove(backend: str, folder: Path, *, rows: int, workers: int) -> Outcome:
    settings = await settings_for(
        backend, folder, max_upload_bytes=2**30, redis_url=databases.redis()
    )  # What several processes need, also on SQLite.
    async with running(settings) as service:
        token = await service.sign_in(*Scope)
    outcome = Outcome()
    arguments = ("--workers", str(workers)) if workers > 1 else ()
    with serving(settings, folder, *arguments) as process:
        server = psutil.Process(process.popen.pid)
        async with httpx.AsyncClient(base_url=process.url, timeout=600, headers={"Authorization": f"Bearer {token}"}) as http:
            shop = Shop(http, [])
            await timed(shop, outcome, "create", content(rows, 0))
            await timed(shop, outcome, "change 2 %", content(rows, 1))
            shop.ids = await prepare(shop, min(rows, HOT_ITEMS))
            memory, events = private_memory(server), await newest(settings)
            probing = asyncio.create_task(shop.probe())
            await timed(shop, outcome, "the same again", content(rows, 1))
            outcome.memory_growth_mb = (private_memory(server) - memory) / 2**20
            outcome.events_of_repeat = await newest(settings) - events
            outcome.probe_p99_ms = quantiles(shop.probes, n=100)[98] * 1000 if len(shop.probes) > 1 else 0.0
            crowd = [probing, asyncio.create_task(shop.adjust()), *(asyncio.create_task(shop.buy()) for _ in range(BUYERS))]
            await timed(shop, outcome, "change 2 % among buyers", content(rows, 2))
            shop.enough = True
            await asyncio.gather(*crowd)
    outcome.bought = shop.answers["Purchase"]
    outcome.faults = [*faults(outcome, shop, rows), *await wrong_books(settings)]
    return outcome


async def timed(shop: Shop, outcome: Outcome, name: str, file: bytes) -> None:
    began = time.perf_counter()
    outcome.sums[name] = await shop.sync(file)
    outcome.seconds[name] = round(time.perf_counter() - began, 1)


async def prepare(shop: Shop, count: int) -> list[str]:
    """The ids of some items, which are in stock from now on."""
    found = [
        (await shop.ask("query ($id: String!) { itemByExternalId(externalId: $id) { id } }", {"id": f"E-{number}"}))["itemByExternalId"][
            "id"
        ]
        for number in range(count)
    ]
    await shop.ask(ADJUST, {"rows": [{"itemId": id_, "delta": STOCK} for id_ in found]})
    return found


def private_memory(server: psutil.Process) -> int:
    """Without the pages of mapped files, such as those of a SQLite database: they are the system's cache, which takes them back."""
    found = [process.memory_info() for process in (server, *server.children(recursive=True))]
    return sum(each.rss - each.shared for each in found)


async def newest(settings: Settings) -> int:
    """How many events there are."""
    database = Database.connect(settings.database_url)
    try:
        async with database.reading() as session:
            return await session.scalar(select(func.count()).select_from(Event).where(Event.kind.like("item.%"))) or 0
    finally:
        await database.close()


def faults(outcome: Outcome, shop: Shop, rows: int) -> list[str]:
    again, found = outcome.sums["the same again"], list[str]()
    if again.get("unchanged") != rows or outcome.events_of_repeat:
        found.append(f"the same file again: {again}, {outcome.events_of_repeat} events")
    found += [f"{count} answers were {name}" for name, count in shop.answers.items() if name.isupper()]
    return found


async def wrong_books(settings: Settings) -> list[str]:
    """Items whose stock is not what their events make of 0, or was below 0 on the way."""
    database, stock, below = Database.connect(settings.database_url), Counter[int](), set[int]()
    try:
        async with database.reading() as session:
            changes = select(Event).where(Event.kind.in_(["item.adjusted", "item.purchased"])).order_by(Event.id)
            for event in await session.scalars(changes):
                stock[event.subject_id] += event.data.get("delta", 0) - event.data.get("quantity", 0)
                below |= {event.subject_id} if stock[event.subject_id] < 0 else set()
            found = (await session.execute(select(Item.id, Item.inventory).where(Item.id.in_(stock)))).all()
    finally:
        await database.close()
    wrong = {id_: (inventory, stock[id_]) for id_, inventory in found if inventory != stock[id_]}
    return [*([f"stocks that are not what their events say: {wrong}"] if wrong else []), *([f"below 0: {below}"] if below else [])]


async def main(rows: int, backends: list[str]) -> bool:
    good = True
    for backend in backends:
        with tempfile.TemporaryDirectory() as folder:
            outcome = await prove(backend, Path(folder), rows=rows, workers=4)
        good = good and not outcome.faults
        sys.stdout.write(f"{backend}: {json.dumps(vars(outcome), indent=2)}\n")
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/prove sync", description=__doc__)
    parser.add_argument("--rows", type=int, default=120_000)
    parser.add_argument("--on", choices=["sqlite", "postgresql"], action="append")
    chosen = parser.parse_args()
    raise SystemExit(0 if asyncio.run(main(chosen.rows, chosen.on or ["sqlite", "postgresql"])) else 1)
