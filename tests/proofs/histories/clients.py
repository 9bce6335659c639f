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

CACHED_READ = "query ($id: ID!) { item(id: $id) { version description } }"
READ = "query ($id: ID!) { item(id: $id) { version description } rateLimit { remaining } }"  # Whose second field is never cached.
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
PATIENCE_SECONDS = 2.0  # Then the connection is given up, and the operation sent again, perhaps while the first attempt runs on.
STUCK_SECONDS = 60.0  # No fault lasts as long: an operation that nobody answers for that time is a fault of the service.
JSON = {"Content-Type": "application/json"}
REPEATED = 0.05  # Of the answered operations are sent once more.


@dataclass
class History:
    operations: list[Operation] = field(default_factory=list[Operation])
    answers: list[Answer] = field(default_factory=list[Answer])
    bought: set[str] = field(default_factory=set[str])
    """Keys of purchases that were made."""
    attempts: int = 0
    lost: int = 0
    """Attempts without an answer."""


class OperationFailedError(Exception):
    """An operation that the service refused for no reason, or did not answer at all. What it did is not known, so the history ends with it."""


class Client:
    """`addresses` are asked for each attempt: processes come and go."""

    def __init__(self, number: int, addresses: Callable[[], list[str]], token: str, history: History) -> None:
        self._number, self._addresses, self._history, self._turn = number, addresses, history, 0
        self._known: dict[str, int] = {}
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS))
        self._token = {"Authorization": f"Bearer {token}"}

    async def close(self) -> None:
        await self._http.close()

    async def work(self, registers: list[str], shops: list[str]) -> None:
        """One operation. Raises: OperationFailedError."""
        self._turn += 1
        kind, register = random.random(), random.choice(registers)
        if kind < 0.6:
            await self._read(register)
        elif kind < 0.8 and register in self._known:
            await self._edit(register)
        else:
            await self._buy(random.choice(shops))

    async def _read(self, item: str) -> None:
        cached, began = random.random() < 0.5, time.monotonic()
        found = (await self._answer(CACHED_READ if cached else READ, {"id": item}, signed=not cached))["item"]
        self._known[item] = found["version"]
        self._history.operations.append(Read(item, began, time.monotonic(), found["version"], found["description"], cached=cached))

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
        variables = {"id": item, "key": key}
        bought = (await self._answer(BUY, variables))["purchaseItem"]
        if bought["__typename"] == "Purchase":
            self._history.bought.add(key)
            self._history.answers.append(Answer(key, bought["id"]))
            await self._repeat(key, BUY, variables, lambda data: data["purchaseItem"]["id"])

    async def _repeat(self, key: str, document: str, variables: dict[str, Any], answer: Callable[[dict[str, Any]], Any]) -> None:
        if random.random() < REPEATED:
            self._history.answers.append(Answer(key, answer(await self._answer(document, variables))))

    async def _answer(self, document: str, variables: dict[str, Any], *, signed: bool = True) -> dict[str, Any]:
        request = {"data": orjson.dumps({"query": document, "variables": variables}), "headers": JSON | (self._token if signed else {})}
        told: Any = None
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                while told is None or "errors" in told:
                    told = await self._attempt(request) or told
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
