"""W5: many subscribers of one document, and what a burst of events costs for each that is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from scripts.benchmark import load
from scripts.benchmark.rounds import Pace
from scripts.benchmark.servers import PRODUCT, Server

FIELDS = "id name description price tags inventory inStock createdAt"
RIVALS = f"subscription {{ itemEvents {{ cursor item {{ {FIELDS} }} }} }}"
OURS = f"subscription {{ itemEvents {{ ... on ItemCreated {{ cursor item {{ {FIELDS} }} }} }} }}"
CREATE = "mutation ($inputs: [CreateItemInput!]!) { bulkCreateItems(inputs: $inputs) { ... on BulkCreateItems { created } } }"
BURST = "mutation ($count: Int!) { burst(count: $count) }"

HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
UNMASKED = b"\0\0\0\0"  # A mask that changes nothing.


def frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    return head + UNMASKED + payload


class Subscriber(asyncio.Protocol):
    """A socket that counts what it hears; `heard` keeps the messages themselves, where they are wanted."""

    def __init__(self, document: str, reported: Callable[[], None], received: list[bytes] | None) -> None:
        self._document, self._reported, self.received = document, reported, received
        self._buffer, self._open = bytearray(), False
        self.count = 0
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._buffer.startswith(b"HTTP/1.1 101"):
                self.acknowledged.set_exception(load.Broken(self._buffer[:300].decode(errors="replace")))
                return
            self._open = True
            del self._buffer[: end + 4]
            self.transport.write(frame(TEXT, b'{"type":"connection_init"}'))
        self._frames()

    def _frames(self) -> None:
        start, buffer = 0, self._buffer
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1] & 127, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(buffer[start + 2 : start + head], "big")
            end = start + head + size
            if len(buffer) < end:
                break
            self._frame(buffer[start] & 15, bytes(buffer[start + head : end]))
            start = end
        del buffer[:start]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(frame(PONG, payload))
        elif opcode == TEXT and b'"next"' in payload[:60]:
            self.count += 1
            if self.received is not None:
                self.received.append(payload)
            self._reported()
        elif opcode == TEXT and b"connection_ack" in payload:
            subscribe = {"id": "1", "type": "subscribe", "payload": {"query": self._document}}
            self.transport.write(frame(TEXT, orjson.dumps(subscribe)))
            self.acknowledged.set_result(None)
        elif opcode == TEXT and b'"next"' in payload:
            raise load.Broken(f"a message in an unexpected form: {payload[:200]!r}")


@dataclass(frozen=True)
class Delivery:
    cpu_us: float
    per_second: float
    socket_kb: float
    growth_mb: float
    """Resident memory after the burst, above that before it."""


async def delivered(who: Server, pace: Pace, token: str) -> Delivery:
    """Raises: Broken, unless every subscriber hears every event once."""
    room = _Room(who, token)
    empty = who.memory
    await room.fill(pace.sockets)
    await room.burst(1)
    full, cpu, loop = who.memory, who.cpu_seconds, asyncio.get_running_loop()
    began = loop.time()
    await room.burst(pace.events)
    seconds, cpu = loop.time() - began, who.cpu_seconds - cpu
    await asyncio.sleep(1)
    deliveries = pace.sockets * pace.events
    found = Delivery(cpu / deliveries * 1e6, deliveries / seconds, (full - empty) / pace.sockets / 1000, (who.memory - full) / 2**20)
    room.leave()
    return found


class _Room:
    def __init__(self, who: Server, token: str) -> None:
        self._who, self._token, self._expected = who, token, 0
        self._subscribers: list[Subscriber] = []
        self._received: list[bytes] = []
        self._all = asyncio.Event()
        self._missing = 0

    async def fill(self, sockets: int) -> None:
        loop = asyncio.get_running_loop()
        document = OURS if self._who.name == PRODUCT else RIVALS
        for number in range(sockets):
            received = None if number else self._received
            _, one = await loop.create_connection(
                lambda received=received: Subscriber(document, self._reported, received), "127.0.0.1", self._who.port
            )
            await one.acknowledged
            self._subscribers.append(one)
        # Nothing tells that a subscription has begun; every server has read its message long before.
        await asyncio.sleep(1)

    async def burst(self, events: int) -> None:
        self._missing = events * len(self._subscribers)
        self._received.clear()
        self._all.clear()
        before = [one.count for one in self._subscribers]
        await load.once(self._who.port, self._trigger(events))
        async with asyncio.timeout(300):
            await self._all.wait()
        if {one.count - was for one, was in zip(self._subscribers, before, strict=True)} != {events}:
            raise load.Broken(f"{self._who.name} did not deliver each event to each subscriber once")
        cursors = [orjson.loads(message)["payload"]["data"]["itemEvents"]["cursor"] for message in self._received]
        if len(set(cursors)) != events:
            raise load.Broken(f"{self._who.name} delivered an event twice")

    def _trigger(self, events: int) -> bytes:
        if self._who.name != PRODUCT:
            return load.post("/graphql", orjson.dumps({"query": BURST, "variables": {"count": events}}))
        item = {
            "name": "Kettle",
            "description": "Boils a litre in two minutes.",
            "price": "19.90",
            "tags": ["kitchen", "new"],
            "inventory": 3,
        }
        body = orjson.dumps({"query": CREATE, "variables": {"inputs": [item] * events}})
        return load.post("/graphql", body, Authorization=f"Bearer {self._token}")

    def _reported(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._all.set()

    def leave(self) -> None:
        for one in self._subscribers:
            one.transport.close()
