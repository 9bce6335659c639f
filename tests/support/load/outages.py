"""A service under load while what it depends on hangs: what is answered meanwhile, and how long after it goes on all is as before.

`scripts/prove outages` runs it with the service's own deadlines; tests/server/asgi/test_deadlines.py does the same with short ones, and asserts on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx
import psutil
import websockets

from tests.conftest import settings_for
from tests.support.clients.every_kind import REQUESTS, Answer, Request, socket_url
from tests.support.clients.websocket_subscriber import PROTOCOL
from tests.support.servers.databases import Postgres, Redis, free_port, wait_until_listening
from tests.support.servers.processes import Process, serving
from tests.support.servers.silent_network import silent_proxy
from tests.support.service import running

CLIENTS = 3  # Of each kind.
PAUSE_SECONDS = 0.1
QUIET_SECONDS, AFTER_SECONDS = 5, 12
SLOW_FACTOR, LEAST_SLOW_SECONDS = 3, 0.25  # From here an answer shows that something is not as before.
EVENTS = "subscription { itemEvents { ... on ItemUpdated { cursor } } }"


Answered = tuple[str, float, float, Answer]
"""The kind of request, when it began and ended, and its answer."""


@dataclass
class Dependency:
    """What can be made to hang, and to go on."""

    settings: dict[str, Any]
    hang: Callable[[], object]
    go_on: Callable[[], object]
    database: str


@dataclass
class Load:
    """Requests of every kind, again and again."""

    http: httpx.AsyncClient
    tokens: list[str]
    item: str
    answers: list[Answered] = field(default_factory=list[Answered])

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(*(self._repeat(name, request, number) for name, request in REQUESTS.items() for number in range(CLIENTS)))

    async def _repeat(self, name: str, request: Request, number: int) -> None:
        while True:
            for token in self.tokens[number::CLIENTS]:
                began = time.monotonic()
                try:
                    answer = await request(self.http, token, self.item)
                except (httpx.HTTPError, OSError, websockets.WebSocketException) as error:
                    answer = 0, type(error).__name__
                self.answers.append((name, began, time.monotonic(), answer))
                await asyncio.sleep(PAUSE_SECONDS)

    def between(self, since: float, until: float) -> list[Answered]:
        return [each for each in self.answers if since <= each[2] < until]


@dataclass(frozen=True)
class Use:
    """What the process holds: connections to PostgreSQL, descriptors, and bytes of memory."""

    connections: int
    files: int
    memory: int


@dataclass(frozen=True)
class Outcome:
    quiet: int
    meanwhile: Counter[Answer]
    slowest: float
    failed_until: float
    """Seconds after it went on, as the next two; 0 where nothing failed any more."""
    slow_until: float
    heard_after: float
    uses: Sequence[Use]
    """Before, the most meanwhile, and afterwards."""

    def __str__(self) -> str:
        before, most, afterwards = self.uses
        return (
            f"{self.quiet / QUIET_SECONDS:.0f} requests a second before; meanwhile {dict(self.meanwhile)}, the slowest after {self.slowest:.1f} s;"
            f" last failure {self.failed_until:.1f} s and last slow answer {self.slow_until:.1f} s after it went on, an event after {self.heard_after:.1f} s;"
            f" connections {before.connections}, then {afterwards.connections}; descriptors {before.files}, {most.files}, {afterwards.files};"
            f" memory {before.memory >> 20}, {most.memory >> 20}, {afterwards.memory >> 20} MB"
        )


@asynccontextmanager
async def dependency(kind: str, folder: Path, stack: AsyncExitStack) -> AsyncGenerator[Dependency]:
    postgres = stack.enter_context(Postgres.own())
    url = postgres.url.render_as_string(hide_password=False)
    if kind == "postgresql":
        yield Dependency({"database_url": url}, postgres.pause, postgres.resume, url)
    elif kind == "network":
        proxy = await stack.enter_async_context(silent_proxy(postgres.port))
        through = postgres.url.set(port=proxy.port).render_as_string(hide_password=False)
        yield Dependency({"database_url": through}, proxy.fall_silent, proxy.speak, url)
    elif kind == "redis":
        redis = stack.enter_context(Redis.own())
        yield Dependency({"database_url": url, "redis_url": redis.url}, redis.pause, redis.resume, url)
    else:
        bucket = stack.enter_context(object_store(folder))
        files = f"s3://storegraph/files?region=eu-central-1&endpoint=http://127.0.0.1:{bucket.port}"
        hang, go_on = lambda: bucket.popen.send_signal(signal.SIGSTOP), lambda: bucket.popen.send_signal(signal.SIGCONT)
        yield Dependency({"database_url": url, "files_url": files}, hang, go_on, url)


@contextmanager
def object_store(folder: Path) -> Generator[Process]:
    port = free_port()
    log = folder / "bucket.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        popen = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    os.environ.update(AWS_ACCESS_KEY_ID="storegraph", AWS_SECRET_ACCESS_KEY="storegraph")
    try:
        wait_until_listening(popen, port, seconds=60)
        httpx.put(f"http://127.0.0.1:{port}/storegraph", timeout=30).raise_for_status()
        yield Process(port, popen, log)
    finally:
        popen.send_signal(signal.SIGCONT)
        popen.terminate()
        popen.wait(10)


async def connections(database: str) -> int:
    link: Any = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        return await link.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    finally:
        await link.close()


async def heard(http: httpx.AsyncClient, events: list[float]) -> None:
    """When a subscriber that never reconnects hears of something."""
    async with websockets.connect(socket_url(http), subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": EVENTS}}))
        async for text in socket:
            if json.loads(text)["type"] == "next":
                events.append(time.monotonic())  # noqa: PERF401 -- each when it comes


async def outage(kind: str, seconds: float, times: int, folder: Path) -> None:
    async with AsyncExitStack() as stack:
        hangs = await stack.enter_async_context(dependency(kind, folder, stack))
        budget = {"budget_points": 2_000_000_000, "budget_points_per_second": 1e9, "connections_per_caller": 10_000}
        settings = await settings_for("sqlite", folder, **budget, response_cache_enabled=False, **hangs.settings)
        async with running(settings) as service:
            tokens = [await service.sign_in(username=f"ada{number}") for number in range(30)]
            item = await service.make_item(inventory=1_000_000)
        started = serving(settings, folder, DEBUG="false", LOG_LEVEL="ERROR")
        process = await asyncio.to_thread(started.__enter__)  # It may have to connect through a proxy of this event loop.
        stack.push(started)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=60, limits=limits))
        load, events = Load(http, tokens, item), list[float]()
        tasks = [asyncio.create_task(load.run()), asyncio.create_task(heard(http, events))]
        try:
            for _ in range(times):
                print(kind, await one_outage(seconds, hangs, load, events, psutil.Process(process.popen.pid)), flush=True)  # noqa: T201
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)


async def one_outage(seconds: float, hangs: Dependency, load: Load, events: list[float], server: psutil.Process) -> Outcome:
    began = time.monotonic()
    await asyncio.sleep(QUIET_SECONDS)
    uses, hung = [await used(server, hangs)], time.monotonic()
    quiet = load.between(began, hung)
    hangs.hang()
    most = uses[0]
    while time.monotonic() < hung + seconds:
        await asyncio.sleep(0.2)
        most = Use(0, max(most.files, server.num_fds()), max(most.memory, server.memory_info().rss))
    hangs.go_on()
    thawed = time.monotonic()
    await asyncio.sleep(AFTER_SECONDS)
    meanwhile, after = load.between(hung, thawed), load.between(thawed, time.monotonic())
    failed = [end - thawed for _, _, end, (_, code) in after if code != "ok"]
    slowed = [end - thawed for name, start, end, _ in after if start > thawed and end - start > usual(name, quiet)]
    heard_again = min((each - thawed for each in events if each > thawed), default=float("inf"))
    slowest = max(end - start for _, start, end, _ in meanwhile)
    counted = Counter(answer for _, start, _, answer in meanwhile if start >= hung)
    return Outcome(
        len(quiet), counted, slowest, max(failed, default=0), max(slowed, default=0), heard_again, [*uses, most, await used(server, hangs)]
    )


async def used(server: psutil.Process, hangs: Dependency) -> Use:
    return Use(await connections(hangs.database), server.num_fds(), server.memory_info().rss)


def usual(name: str, quiet: list[Answered]) -> float:
    """Up to how many seconds an answer is as fast as before."""
    return max(LEAST_SLOW_SECONDS, SLOW_FACTOR * p99([end - start for kind, start, end, _ in quiet if kind == name]))


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[98] if len(seconds) > 1 else 0


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kind", action="append", choices=KINDS)
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--times", type=int, default=3)
    asked = options.parse_args()
    for kind in asked.kind or KINDS:
        with TemporaryDirectory(prefix="storegraph-outage-") as folder:
            await outage(kind, asked.seconds, asked.times, Path(folder))


KINDS = ("postgresql", "network", "redis", "bucket")

if __name__ == "__main__":
    asyncio.run(main())
