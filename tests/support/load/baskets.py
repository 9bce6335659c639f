"""Overlapping baskets from many buyers at once, some sent twice and some cancelled, and whether the stock and the totals are right afterwards.

`scripts/baskets` runs it long, tests/purchases/test_baskets.py short.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select, text

from graph.kit.auth import Scope
from graph.kit.global_ids import row_id
from graph.server.app import create_app
from persistence.items.table import Item
from persistence.purchases.table import CANCELLED, Purchase
from tests.conftest import settings_for
from tests.support.servers import databases
from tests.support.servers.processes import serving
from tests.support.service import Service

BUY = """mutation ($lines: [PurchaseLineInput!]!, $key: String!) { purchaseItems(lines: $lines, idempotencyKey: $key) {
  __typename ... on PurchaseItems { total purchases { id quantity unitPrice item { id } } } ... on OutOfStock { itemId available } } }"""
CANCEL = "mutation ($id: ID!) { cancelPurchase(id: $id) { __typename ... on Purchase { id status } } }"
MOST_LINES, MOST_UNITS = 6, 3
SENT_TWICE, TAKEN_BACK = 0.1, 0.1  # Of the baskets.
WAIT_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    baskets: int = 20_000
    items: int = 20
    stock: int = 3_000
    """Units of each item: fewer than are wanted."""
    buyers: int = 32
    processes: int = 4


@dataclass
class Outcome:
    baskets: int
    seconds: float = 0
    answers: Counter[str] = field(default_factory=Counter[str])
    cancelled: int = 0
    repeated_requests: int = 0
    """Requests that were answered with SERVICE_UNAVAILABLE and sent again."""
    deadlocks: int = 0
    faults: list[str] = field(default_factory=list[str])


class Baskets:
    def __init__(self, service: Service, plan: Plan) -> None:
        self._service, self._plan, self._outcome = service, plan, Outcome(plan.baskets)
        self._numbers = iter(range(plan.baskets))
        self._acknowledged: dict[str, dict[str, Any]] = {}
        self._items: Sequence[str] = ()

    async def run(self) -> Outcome:
        plan = self._plan
        self._items = [await self._service.make_item(f"Item {n}", price=f"{n}.95", inventory=plan.stock) for n in range(1, plan.items + 1)]
        admin = await self._service.sign_in(*Scope, username="admin")
        tokens = [await self._service.sign_in(Scope.ITEMS_READ, username=f"buyer{number}") for number in range(plan.buyers)]
        began = time.monotonic()
        await asyncio.gather(*(self._shop(token, admin) for token in tokens))
        self._outcome.seconds = round(time.monotonic() - began, 1)
        await self._compare()
        return self._outcome

    async def _shop(self, token: str, admin: str) -> None:
        async with httpx.AsyncClient(base_url=self._service.url, timeout=120) as http:
            for number in self._numbers:
                lines = [
                    {"itemId": random.choice(self._items), "quantity": random.randint(1, MOST_UNITS)}
                    for _ in range(random.randint(1, MOST_LINES))
                ]
                variables = {"lines": lines, "key": f"basket {number}"}
                answers = await self._send(http, token, BUY, variables, twice=random.random() < SENT_TWICE)
                self._note(lines, [answer["purchaseItems"] for answer in answers])
                if "purchases" in answers[0]["purchaseItems"] and random.random() < TAKEN_BACK:
                    await self._cancel(http, admin, random.choice(answers[0]["purchaseItems"]["purchases"])["id"])

    async def _cancel(self, http: httpx.AsyncClient, admin: str, purchase: str) -> None:
        answers = await self._send(http, admin, CANCEL, {"id": purchase}, twice=True)
        self._outcome.cancelled += 1
        if any(answer["cancelPurchase"] != {"__typename": "Purchase", "id": purchase, "status": "CANCELLED"} for answer in answers):
            self._outcome.faults.append(f"a cancellation was answered with {answers}")

    async def _send(self, http: httpx.AsyncClient, token: str, query: str, variables: dict[str, Any], *, twice: bool) -> list[Any]:
        return await asyncio.gather(*(self._answered(http, token, query, variables) for _ in range(1 + twice)))

    async def _answered(self, http: httpx.AsyncClient, token: str, query: str, variables: dict[str, Any]) -> Any:
        while True:
            headers = {"Authorization": f"Bearer {token}"}
            answer = (await http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)).json()
            if "errors" not in answer:
                return answer["data"]
            if [error["extensions"]["code"] for error in answer["errors"]] != ["SERVICE_UNAVAILABLE"]:
                raise AssertionError(answer)
            self._outcome.repeated_requests += 1
            await asyncio.sleep(WAIT_SECONDS)

    def _note(self, lines: list[dict[str, Any]], answers: list[dict[str, Any]]) -> None:
        """What a client is told must be what it asked for, at the right sum; two answers to a basket that was bought are one."""
        answer = answers[0]
        self._outcome.answers[answer["__typename"]] += 1
        if "purchases" not in answer:
            return
        bought = [{"itemId": each["item"]["id"], "quantity": each["quantity"]} for each in answer["purchases"]]
        total = sum((Decimal(each["unitPrice"]) * each["quantity"] for each in answer["purchases"]), Decimal(0))
        if bought != lines or Decimal(answer["total"]) != total or any(other != answer for other in answers):
            self._outcome.faults.append(f"{lines} was answered with {answers}")
        self._acknowledged |= {each["id"]: each for each in answer["purchases"]}

    async def _compare(self) -> None:
        async with self._service.database.reading_latest() as session:
            kept = {row.id: row for row in await session.scalars(select(Purchase))}
            stock = {row.id: row.inventory for row in await session.scalars(select(Item))}
            if self._service.database.dialect == "postgresql":
                deadlocks = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
                self._outcome.deadlocks = await session.scalar(deadlocks) or 0
        if kept.keys() != {row_id("Purchase", id_) for id_ in self._acknowledged}:
            self._outcome.faults.append(f"{len(kept)} purchases are kept, {len(self._acknowledged)} were acknowledged")
        sold = Counter[int]()
        for row in kept.values():
            sold[row.item_id] += 0 if row.status == CANCELLED else row.quantity
        wrong = {id_: (left, sold[id_]) for id_, left in stock.items() if left < 0 or left + sold[id_] != self._plan.stock}
        if wrong:
            self._outcome.faults.append(f"stock and sales do not add up to {self._plan.stock}: {wrong}")
        if sum(row.status == CANCELLED for row in kept.values()) != self._outcome.cancelled:
            self._outcome.faults.append("not all that was cancelled is")


@asynccontextmanager
async def _served(backend: str, folder: Path, processes: int) -> AsyncGenerator[Service]:
    settings = await settings_for(backend, folder, redis_url=databases.redis())
    with serving(settings, folder, "--workers", str(processes), LOG_LEVEL="WARNING") as process:
        app = create_app(settings)
        async with httpx.AsyncClient(base_url=process.url, timeout=120) as http:
            service = Service(process.url, settings, app.state.services, app.state.tokens, http, app)
            try:
                yield service
            finally:
                await service.database.close()


async def shop(backend: str, folder: Path, plan: Plan) -> Outcome:
    """Against a server of its own, with so many worker processes."""
    async with _served(backend, folder, plan.processes) as service:
        return await Baskets(service, plan).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("sqlite", "postgresql"), action="append", help="which database; both without it")
    parser.add_argument("--baskets", type=int, default=Plan.baskets)
    parser.add_argument("--processes", type=int, default=Plan.processes)
    arguments = parser.parse_args()
    for backend in arguments.backend or ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory(prefix="storegraph-baskets-") as folder:
            plan = Plan(baskets=arguments.baskets, processes=arguments.processes)
            print(backend, asyncio.run(shop(backend, Path(folder), plan)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
