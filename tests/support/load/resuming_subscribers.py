"""Clients that are cut off and come back, as clients should be written: each goes on after the last cursor that it has."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

import websockets
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.support.clients.websocket_subscriber import PROTOCOL

EVENTS = """
subscription ($after: String!, $items: [ID!]) {
  itemEvents(after: $after, itemIds: $items) {
    __typename
    ... on ItemUpdated { cursor occurredAt itemId fields }
    ... on ItemPurchased { cursor occurredAt itemId quantity }
    ... on ItemRestocked { cursor occurredAt itemId quantity }
    ... on ItemAdjusted { cursor occurredAt itemId delta }
    ... on Gap { cursor reason }
  }
}
"""


@dataclass
class Subscriber:
    """`items` is its filter; `cut_after` the mean number of messages after which it drops its own connection."""

    url: str
    after: str
    items: list[str] | None = None
    cut_after: int | None = None
    heard: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    refusals: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self.may_read.set()

    async def listen(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._listen_once()
            except InvalidHandshake:  # The proxy, or a process that ends, knows nobody who could take it.
                await asyncio.sleep(random.uniform(0.05, 0.2))
            except (WebSocketException, OSError):
                await asyncio.sleep(random.uniform(0, 0.05))

    async def _listen_once(self) -> None:
        cut = random.randint(1, self.cut_after * 2) if self.cut_after else None
        async with websockets.connect(self.url, subprotocols=[PROTOCOL], compression=None) as socket:
            await socket.send(json.dumps({"type": "connection_init"}))
            variables = {"after": self.after, "items": self.items}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": EVENTS, "variables": variables}}))
            self.connections += 1
            async for text in socket:
                await self.may_read.wait()
                if not self._take(json.loads(text)):
                    await asyncio.sleep(random.uniform(0.1, 0.5))
                    return
                if cut is not None:
                    cut -= 1
                    if cut == 0:
                        socket.transport.abort()
                        return

    def _take(self, message: dict[str, Any]) -> bool:
        """Whether the stream goes on. If not, or if an event could not be told, it is to be asked for again after the last one that came whole."""
        if message["type"] == "ping":
            self.after = message["payload"]["cursor"]  # Where to go on, from a process that ends.
        elif message["type"] == "next" and "errors" not in message["payload"]:
            event = message["payload"]["data"]["itemEvents"]
            self.heard.append(event)
            self.after = event.get("cursor", self.after)
        elif message["type"] != "connection_ack":
            self.refusals.append(message)
            return False
        return True
