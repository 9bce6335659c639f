"""Clients that never read, or never finish what they write, of every kind, at a server process of its own: what they take, and when they are gone.

`scripts/slow-clients` runs it with 2,000 of them and the real deadlines, tests/server/asgi/test_slow_clients.py with some hundred and short ones.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psutil

from graph.kit.global_ids import global_id
from persistence.items import table as items
from persistence.items.table import ItemValues
from tests.conftest import settings_for
from tests.support.endpoints import until
from tests.support.servers.processes import PROGRAM, Process, serving
from tests.support.service import Service, running

MODULE = "tests.support.load.slow_clients"
IMPATIENT = [PROGRAM[0], "-m", "tests.support.servers.short_deadlines"]
ROWS, LINE = 300, "x" * 9_000
FILE_BYTES = 16 * 2**20
EACH_ADDRESS, ADDRESSES = 100, 40  # As many connections as the service grants to a network, and to a user.
ARRIVAL_SECONDS = 12.0  # In which all clients have come, and been answered as far as they will be.
VICTIM_SECONDS = 0.03
LOOKS = 10  # Turns from one look at the server's connections to the next: to list 2,000 takes a while.
FIRST_ANSWERS = 10  # Of a process that has just begun, and of caches that are empty.
QUIET_ANSWERS = 50  # From which it is known how fast the service is when nobody else is there.
UNEXPECTED = re.compile(
    r"Traceback|Exception in ASGI|was destroyed|internal error|unexpected error|\"level\": ?\"(?:error|critical)\"", re.IGNORECASE
)


@dataclass(frozen=True)
class Target:
    """What the clients ask for: every answer is larger than the buffers on its way."""

    port: int
    token: str
    cursor: str
    tokens: tuple[str, ...] = ()
    """One for each address."""

    def of(self, number: int) -> Target:
        """For the client of this number, which is signed in as others of its address are."""
        return replace(self, token=self.tokens[number // EACH_ADDRESS])

    @property
    def authorization(self) -> str:
        return f"Authorization: Bearer {self.token}\r\n"

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: here\r\n{self.authorization}\r\n".encode()

    def post(self, query: str, *fields: str, **variables: Any) -> bytes:
        body = json.dumps({"query": query, "variables": variables}).encode()
        more = "".join(f"{line}\r\n" for line in fields)
        head = f"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        return head.encode() + body

    @property
    def handshake(self) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            "GET /graphql HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        ).encode()

    @property
    def history(self) -> dict[str, Any]:
        query = "subscription ($after: String) { itemEvents(after: $after) { ... on ItemCreated { item { description } } } }"
        return {"query": query, "variables": {"after": self.cursor}}


def frame(payload: bytes | str, opcode: int = 1, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeroes."""
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size) if size < 65_536 else struct.pack("!BQ", 0xFF, size)
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + data


def message(**fields: Any) -> bytes:
    return frame(json.dumps(fields))


INIT = message(type="connection_init")
PAGE = "{ items(first: 100) { nodes { name description } } }"


def upload_of(target: Target) -> bytes:
    part = '--b\r\nContent-Disposition: form-data; name="file"; filename="slow.txt"\r\n\r\nsome'
    fields = f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n{target.authorization}"
    return f"POST /api/v2/files/upload HTTP/1.1\r\nHost: here\r\n{fields}\r\n{part}".encode()


# What each kind sends, part by part, with a moment in between. None of them reads a byte.
KINDS: dict[str, Callable[[Target], Iterator[bytes]]] = {
    "silence": lambda _: iter([b""]),
    "half a head": lambda _: iter([b"POST /graphql HTTP/1.1\r\nHost: here\r\nX-Slow: "]),
    "half a body": lambda target: iter([target.post(PAGE)[:-5]]),
    "half an upload": lambda target: iter([upload_of(target)]),
    "answers": lambda target: (target.post(PAGE) for _ in range(20)),
    "a pipeline": lambda target: (target.get("/live") * 2_000 for _ in range(4)),
    "an event stream": lambda target: iter(
        [target.post(target.history["query"], "Accept: text/event-stream", **target.history["variables"])]
    ),
    "exports": lambda target: iter([target.get("/api/v2/stream/items.csv")]),
    "downloads": lambda target: iter([target.get("/api/v2/files/download/large.bin")]),
    "a handshake": lambda target: iter([target.handshake]),
    "a subscription": lambda target: iter([target.handshake, INIT, message(type="subscribe", id="1", payload=target.history)]),
    "pings": lambda target: iter([target.handshake, INIT, *(message(type="ping", payload={"a": "x" * 8_000}) * 10 for _ in range(200))]),
    "pings of the transport": lambda target: iter([target.handshake, INIT, *(frame(b"x" * 125, 9) * 50 for _ in range(200))]),
}


@dataclass
class Client:
    """One connection that is written to and never read from."""

    kind: str
    parts: Iterator[bytes]
    socket: socket.socket
    rest: bytes = b""

    def write(self) -> None:
        """As much as the server takes now."""
        with suppress(BlockingIOError, OSError):
            self.rest = self.rest or next(self.parts, b"")
            while self.rest:
                self.rest = self.rest[self.socket.send(self.rest) :]


@dataclass
class Outcome:
    clients: int
    grown_bytes: int
    """Of the server's resident memory, at the most."""
    kept_bytes: int
    """The same when all clients were gone."""
    gone_seconds: float
    left: Counter[str]
    """Clients whose connections the server still has, by their kind."""
    quiet_p99: float
    busy_p99: float
    """While they come and while they are held."""
    held_p99: float
    """From ARRIVAL_SECONDS on: they have sent what they send, and wait for nothing."""
    lines: list[str] = field(default_factory=list[str])
    """Of the log, that no client should be able to cause."""

    def __str__(self) -> str:
        return (
            f"{self.clients} clients: {self.grown_bytes / 2**20:.0f} MB more at the most, {self.kept_bytes / 2**20:.0f} MB afterwards; "
            f"gone after {self.gone_seconds:.1f} s, left {dict(self.left) or 'none'}; "
            f"p99 of another client {self.quiet_p99 * 1e3:.0f} ms before, {self.busy_p99 * 1e3:.0f} ms meanwhile, "
            f"{self.held_p99 * 1e3:.0f} ms once all have come; {len(self.lines)} bad lines"
        )


def connect(port: int, number: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.bind((f"127.0.1.{number // EACH_ADDRESS + 1}", 0))
    made.setblocking(False)
    with suppress(BlockingIOError):
        made.connect(("127.0.0.1", port))
    return made


async def ask(url: str, item: str) -> None:
    """Ask for an item again and again, as any client does meanwhile, and print how many seconds each answer takes."""
    query = {"query": "query ($id: ID!) { item(id: $id) { name price } }", "variables": {"id": item}}
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        while True:
            began = time.perf_counter()
            answer = await http.post("/graphql", json=query)
            assert answer.json()["data"]["item"]["name"] == "Kettle"
            print(time.perf_counter() - began, flush=True)  # noqa: T201 -- to the process that started this one
            await asyncio.sleep(VICTIM_SECONDS)


class Victim:
    """`ask` in a process of its own: what the clients' own process does must not delay it."""

    def __init__(self, url: str, item: str) -> None:
        self._command = [sys.executable, "-m", MODULE, "--victim", url, item]
        self.seconds: list[float] = []

    @asynccontextmanager
    async def asking(self) -> AsyncGenerator[None]:
        process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        listening = asyncio.create_task(self._listen(process.stdout))
        try:
            yield
        finally:
            process.terminate()
            await process.wait()
            await listening

    async def _listen(self, lines: asyncio.StreamReader | None) -> None:
        assert lines is not None
        while line := await lines.readline():
            self.seconds.append(float(line))

    def p99(self, begin: int = 0) -> float:
        """Of the answers from this one on."""
        taken = self.seconds[begin:]
        return quantiles(taken, n=100)[98] if len(taken) > 1 else float("inf")


async def fill(service: Service) -> tuple[str, list[str], str]:
    """An item, tokens and the cursor of the log's start."""
    tokens = [await service.sign_in(username=f"slow{number}") for number in range(ADDRESSES)]
    cursor = service.services.feed.cursor(0)
    async with service.database.transaction() as work:
        made = await items.create(work, ItemValues("Kettle", Decimal(1)), owner_id=None)
        await items.create_all(work, [ItemValues(f"Item {n}", Decimal(1), LINE) for n in range(ROWS)], owner_id=None)
    upload = {"file": ("large.bin", os.urandom(FILE_BYTES), "application/octet-stream")}
    answer = await service.http.post("/api/v2/files/upload", files=upload, headers={"Authorization": f"Bearer {tokens[0]}"})
    assert answer.status_code == 201, answer.text
    return global_id("Item", made.id), tokens, cursor


@asynccontextmanager
async def served(folder: Path, program: list[str], **overrides: Any) -> AsyncGenerator[tuple[Process, Target, Victim]]:
    """With the service's own limits."""
    settings = await settings_for("sqlite", folder, rate_limits_enabled=True, **overrides)
    async with running(settings) as service:
        item, tokens, cursor = await fill(service)
    with serving(settings, folder, program=program, DEBUG="false", LOG_LEVEL="INFO") as process:
        yield process, Target(process.port, tokens[0], cursor, tuple(tokens)), Victim(process.url, item)


def open_connections(server: psutil.Process, port: int) -> int:
    return sum(each.laddr.port == port and each.status != psutil.CONN_LISTEN for each in server.net_connections("tcp"))


def left_of(clients: list[Client], server: psutil.Process, port: int) -> Counter[str]:
    peers = {tuple(each.raddr) for each in server.net_connections("tcp") if each.raddr and each.laddr.port == port}
    return Counter(client.kind for client in clients if client.socket.getsockname() in peers)


async def hold(process: Process, target: Target, victim: Victim, *, each: int, seconds: float, kinds: list[str] | None = None) -> Outcome:
    """Open `each` clients of each kind, and wait until the server has let go of all, for `seconds` at the most."""
    server = psutil.Process(process.popen.pid)
    async with victim.asking():
        await until(lambda: len(victim.seconds) >= FIRST_ANSWERS + QUIET_ANSWERS)
        del victim.seconds[:FIRST_ANSWERS]
        before, others, quiet = server.memory_info().rss, open_connections(server, target.port), victim.p99()
        victim.seconds.clear()
        asked = [kind for _ in range(each) for kind in kinds or KINDS]
        clients = [Client(kind, KINDS[kind](target.of(number)), connect(target.port, number)) for number, kind in enumerate(asked)]
        began, taken, peak, come = time.monotonic(), 0.0, before, 0
        for turn in count():
            for number, client in enumerate(clients):
                client.write()
                if number % 20 == 0:
                    await asyncio.sleep(0)
            peak = max(peak, server.memory_info().rss)
            await asyncio.sleep(0.05)
            taken = time.monotonic() - began
            come = come if taken > ARRIVAL_SECONDS else len(victim.seconds)
            if taken >= seconds or (turn % LOOKS == LOOKS - 1 and open_connections(server, target.port) <= others):
                break
        await until(lambda: len(victim.seconds) > 1)  # However long the machine let it wait.
        busy, held, left = victim.p99(), victim.p99(come), left_of(clients, server, target.port)
    for client in clients:
        client.socket.close()
    lines = [line for line in process.log.read_text().splitlines() if UNEXPECTED.search(line)]
    return Outcome(len(clients), peak - before, server.memory_info().rss - before, taken, left, quiet, busy, held, lines)


async def main() -> None:
    options = argparse.ArgumentParser(description="Clients that never read or never write, at a server of its own.")
    options.add_argument("--clients", type=int, default=2_000)
    options.add_argument("--seconds", type=float, default=120)
    options.add_argument("--short", action="store_true", help="with deadlines of a second")
    options.add_argument("--kind", action="append", choices=list(KINDS))
    options.add_argument("--victim", nargs=2, metavar=("URL", "ITEM"), help="only be another client, and print how long it waits")
    asked = options.parse_args()
    if asked.victim:
        await ask(*asked.victim)
    kinds: list[str] = asked.kind or list(KINDS)
    with tempfile.TemporaryDirectory() as folder:
        async with served(Path(folder), IMPATIENT if asked.short else PROGRAM) as (process, target, victim):
            outcome = await hold(process, target, victim, each=-(-asked.clients // len(kinds)), seconds=asked.seconds, kinds=kinds)
    print(outcome, *outcome.lines[:5], sep="\n")  # noqa: T201 -- what the script is for


if __name__ == "__main__":
    asyncio.run(main())
