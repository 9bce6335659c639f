"""Clients that repeat each operation, with its key, until it is answered, at whichever process there is, and write down what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests.proofs.histories.checker import Answer, Edit, Operation, Read
from tests.support.load.resuming_subscribers import Subscriber

READ_AT_ONCE = (
    4  # Items in one document, each of them a read of its own: a request costs its sender and the proxies as much as the service.
)
_FIELDS = " ".join(f"i{place}: item(id: $i{place}) {{ version description }}" for place in range(READ_AT_ONCE))
_VARIABLES = ", ".join(f"$i{place}: ID!" for place in range(READ_AT_ONCE))
CACHED_READ = f"query ({_VARIABLES}) {{ {_FIELDS} }}"
READ = f"query ({_VARIABLES}) {{ {_FIELDS} rateLimit {{ remaining }} }}"  # Whose last field is never cached.
EDIT = """
mutation ($id: ID!, $value: String!, $expected: Int!, $key: String!) {
  updateItem(id: $id, input: {description: $value}, expectedVersion: $expected, idempotencyKey: $key) {
    __typename ... on Item { version } ... on VersionConflict { currentVersion }
  }
}
"""
BUY = """
mutation ($id: ID!, $key: String!) {
  purchaseItem(itemId: $id, idempotencyKey: $key) { __typename ... on Purchase { id } ... on OutOfStock { available } }
}
"""
CANCEL = """
mutation ($id: ID!, $key: String!) {
  cancelPurchase(id: $id, idempotencyKey: $key) { __typename ... on Purchase { id status } }
}
"""
ADJUST = """
mutation ($id: ID!, $delta: Int!, $key: String!) {
  adjustInventory(adjustments: [{itemId: $id, delta: $delta}], idempotencyKey: $key) {
    __typename ... on AdjustInventory { results { __typename ... on InventoryAdjusted { delta } } }
  }
}
"""
PATIENCE_SECONDS = 3.0  # Then the connection is given up, and the operation sent again, perhaps while the first attempt runs on.
MORE_PATIENCE = 1.5  # With each attempt, as clients should: where a machine is busy, they would only add to its work.
MOST_PATIENCE_SECONDS = 10.0
STUCK_SECONDS = 120.0  # No fault lasts as long: an operation that nobody answers for that time is a fault of the service.
JSON = {"Content-Type": "application/json"}
REPEATED = 0.05  # Of the answered operations are sent once more.


@dataclass
class History:
    operations: list[Operation] = field(default_factory=list[Operation])
    answers: list[Answer] = field(default_factory=list[Answer])
    bought: set[str] = field(default_factory=set[str])
    """Keys of purchases that were made."""
    taken: dict[str, int] = field(default_factory=dict[str, int])
    """Units that left the stock, by key: of purchases, of those that were cancelled, and of adjustments."""
    attempts: int = 0
    lost: int = 0
    """Attempts without an answer."""

    def __len__(self) -> int:
        """Operations that were answered."""
        return len(self.operations) + len(self.taken)


class OperationFailedError(Exception):
    """An operation that the service refused for no reason, or did not answer at all. What it did is not known, so the history ends with it."""


class Client:
    """`addresses` are asked for each attempt: processes come and go."""

    def __init__(self, number: int, addresses: Callable[[], list[str]], token: str, history: History) -> None:
        self._number, self._addresses, self._history, self._turn = number, addresses, history, 0
        self._known, self._purchases = dict[str, int](), list[str]()
        self._http = aiohttp.ClientSession()
        self._token = {"Authorization": f"Bearer {token}"}

    async def close(self) -> None:
        await self._http.close()

    async def work(self, registers: list[str], shops: list[str]) -> None:
        """One operation. Raises: OperationFailedError."""
        self._turn += 1
        kind, register, shop = random.random(), random.choice(registers), random.choice(shops)
        if kind < 0.5:
            await self._read(random.sample(registers, READ_AT_ONCE))
        elif kind < 0.7 and register in self._known:
            await self._edit(register)
        elif kind < 0.8 and self._purchases:
            await self._cancel()
        elif kind < 0.85:
            await self._adjust(shop)
        else:
            await self._buy(shop)

    async def _read(self, items: list[str]) -> None:
        cached, began = random.random() < 0.5, time.monotonic()
        variables = {f"i{place}": item for place, item in enumerate(items)}
        answer, ended = await self._answer(CACHED_READ if cached else READ, variables, signed=not cached), time.monotonic()
        for place, item in enumerate(items):
            found = answer[f"i{place}"]
            self._known[item] = found["version"]
            self._history.operations.append(Read(item, began, ended, found["version"], found["description"], cached=cached))

    async def _edit(self, item: str) -> None:
        key, expected = f"edit {self._number} {self._turn}", self._known[item]
        began, variables = time.monotonic(), {"id": item, "value": key, "expected": expected, "key": key}
        told = (await self._answer(EDIT, variables))["updateItem"]
        refused = told["__typename"] == "VersionConflict"
        version = told["currentVersion"] if refused else told["version"]
        self._history.operations.append(Edit(item, began, time.monotonic(), expected, version, key, refused=refused))
        self._known[item] = version
        if not refused:
            self._history.answers.append(Answer(key, version))
            await self._repeat(key, EDIT, variables, lambda data: data["updateItem"]["version"])

    async def _buy(self, item: str) -> None:
        key = f"buy {self._number} {self._turn}"
        bought = await self._write(key, BUY, {"id": item, "key": key})
        if bought["__typename"] == "Purchase":
            self._history.bought.add(key)
            self._history.taken[key] = 1
            self._purchases.append(bought["id"])

    async def _cancel(self) -> None:
        key, purchase = f"cancel {self._number} {self._turn}", self._purchases.pop(random.randrange(len(self._purchases)))
        cancelled = await self._write(key, CANCEL, {"id": purchase, "key": key})
        if cancelled["__typename"] == "Purchase":
            self._history.taken[key] = -1

    async def _adjust(self, item: str) -> None:
        key, delta = f"adjust {self._number} {self._turn}", random.randint(1, 9)
        adjusted = await self._write(key, ADJUST, {"id": item, "delta": delta, "key": key})
        if adjusted["results"][0]["__typename"] == "InventoryAdjusted":
            self._history.taken[key] = -delta

    async def _write(self, key: str, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Of one field; what it answers, whatever that is, it has to answer again. Only an answer that says so is kept as an effect."""
        [answer] = (await self._answer(document, variables)).values()
        if answer["__typename"] in {"Purchase", "AdjustInventory"}:
            self._history.answers.append(Answer(key, orjson.dumps(answer)))
            await self._repeat(key, document, variables, lambda data: orjson.dumps(next(iter(data.values()))))
        return answer

    async def _repeat(self, key: str, document: str, variables: dict[str, Any], answer: Callable[[dict[str, Any]], Any]) -> None:
        if random.random() < REPEATED:
            self._history.answers.append(Answer(key, answer(await self._answer(document, variables))))

    async def _answer(self, document: str, variables: dict[str, Any], *, signed: bool = True) -> dict[str, Any]:
        request = {"data": orjson.dumps({"query": document, "variables": variables}), "headers": JSON | (self._token if signed else {})}
        told: Any = None
        patience = PATIENCE_SECONDS
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                while told is None or "errors" in told:
                    told = await self._attempt(request | {"timeout": aiohttp.ClientTimeout(total=patience)}) or told
                    patience = min(MOST_PATIENCE_SECONDS, patience * MORE_PATIENCE)
        except TimeoutError:
            raise OperationFailedError(f"not answered in {STUCK_SECONDS:.0f} s, at last {told}: {document} {variables}") from None
        return told["data"]

    async def _attempt(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """What was answered, if anything was; a refusal after a moment, as it is to be repeated."""
        self._history.attempts += 1
        try:
            async with self._http.post(f"{random.choice(self._addresses())}/graphql", **request) as response:
                told: dict[str, Any] = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, ValueError):
            self._history.lost += 1
            await asyncio.sleep(random.uniform(0.01, 0.1))
            return None
        if "errors" in told:
            if {error["extensions"]["code"] for error in told["errors"]} != {"SERVICE_UNAVAILABLE"}:
                raise OperationFailedError(f"{told}: {request['data'].decode()}")
            await asyncio.sleep(random.uniform(0.01, 0.1))
        return told


@dataclass
class Roamer(Subscriber):
    """A subscriber that comes back to whichever process there is."""

    addresses: Callable[[], list[str]] = list

    async def _listen_once(self) -> None:
        self.url = random.choice(self.addresses()).replace("http", "ws", 1) + "/graphql"
        await super()._listen_once()
