"""Clients under load, as clients should be written: each repeats a request, with its key, until it is answered, and keeps what it was told."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import select

from graph.kit.global_ids import row_id
from persistence.items.table import Item
from persistence.purchases.table import Purchase

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.service import Service

PURCHASE = (
    "mutation ($item: ID!, $key: String!) { purchaseItem(itemId: $item, idempotencyKey: $key) { __typename ... on Purchase { id } } }"
)
NAMES = "{ items(first: 1) { nodes { name } } }"
STOCK = 1_000_000
BUYERS = 6


@dataclass
class Shopping:
    """Buys units of one item, and asks in between."""

    url: str
    token: str
    item: str
    acknowledged: list[str] = field(default_factory=list[str])
    refusals: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])
    broken: int = 0
    _enough: bool = False

    async def buy(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {self.token}"}) as http:
            turn = 0
            while not self._enough:
                bought = await self._asked(http, PURCHASE, {"item": self.item, "key": f"{number}, {turn}"})
                self.acknowledged.append(bought["purchaseItem"]["id"])
                await self._asked(http, NAMES, {})
                turn += 1

    async def _asked(self, http: httpx.AsyncClient, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                answer = await http.post("/graphql", json={"query": query, "variables": variables})
            except httpx.TransportError:
                self.broken += 1
                await asyncio.sleep(0.02)
                continue
            told: dict[str, Any] = (
                answer.json() if "json" in answer.headers["content-type"] else {"errors": [{"extensions": {"code": "from the proxy"}}]}
            )
            if "errors" not in told:
                return told["data"]
            (error,) = told["errors"]
            self.refusals[answer.status_code, error["extensions"]["code"]] += 1
            await asyncio.sleep(0.02)

    async def meanwhile(self, fault: Callable[[Shopping], Any]) -> None:
        """Shop while the fault happens, and until everything is well again after it."""
        buyers = [asyncio.create_task(self.buy(number)) for number in range(BUYERS)]
        await self.goes_on()
        await fault(self)
        await self.goes_on()
        self._enough = True
        await asyncio.gather(*buyers)

    async def goes_on(self) -> None:
        """Wait until each buyer may have bought something anew."""
        enough = len(self.acknowledged) + 2 * BUYERS
        async with asyncio.timeout(90):
            while len(self.acknowledged) < enough:  # noqa: ASYNC110 -- the buyers have no bell
                await asyncio.sleep(0.01)

    async def is_kept_by(self, service: Service) -> None:
        """Each purchase once, none beside them, and the stock to match."""
        async with service.database.reading() as session:
            kept = (await session.scalars(select(Purchase.id).where(Purchase.item_id == row_id("Item", self.item)))).all()
            stock = await session.scalar(select(Item.inventory).where(Item.id == row_id("Item", self.item)))
        assert sorted(kept) == sorted(row_id("Purchase", id_) or 0 for id_ in self.acknowledged)
        assert stock == STOCK - len(kept)


@dataclass
class Uploading:
    """Uploads files, one after the other."""

    url: str
    token: str
    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    enough: bool = False

    async def upload(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            while not self.enough:
                name = f"{len(self.acknowledged)}.bin"
                content = name.encode() * 100_000
                headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": name}
                try:
                    answer = await http.post("/api/v2/files/upload", files={"file": (name, content)}, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                    continue
                assert answer.status_code in {201, 503}, answer.text
                if answer.status_code == 201:
                    self.acknowledged[name] = hashlib.sha256(content).hexdigest()
                    assert answer.json()["sha256"] == self.acknowledged[name]

    async def is_kept_by(self, service: Service) -> None:
        """Each file once and whole, and none beside them."""
        headers = {"Authorization": f"Bearer {self.token}"}
        listed = (await service.http.get("/api/v2/files/list", headers=headers)).json()["files"]
        assert {file["filename"] for file in listed} <= self.acknowledged.keys()
        assert await service.count("stored_files") == [len(self.acknowledged)]
        for name, digest in self.acknowledged.items():
            content = (await service.http.get(f"/api/v2/files/download/{name}", headers=headers)).content
            assert hashlib.sha256(content).hexdigest() == digest
