"""Histories: four processes, killed, frozen and replaced, behind proxies that cut, delay, swallow and half-close what they say to each other.

Clients repeat blindly with their keys. Afterwards `checker` looks for any answer that one correct server could not have given.
Nothing in it waits without a bound: an operation that nobody answers, or a task that does not end, is a fault with its name.
`scripts/prove histories` runs it long; tests/proofs/histories/test_histories.py short.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from sqlalchemy import func, make_url, select

from graph.kit.global_ids import row_id
from persistence.items.table import Item
from persistence.kit.database.database import Database
from persistence.kit.events import log as events
from persistence.kit.events.log import Event
from persistence.kit.idempotency import IdempotencyKey
from persistence.purchases.table import Purchase
from tests.conftest import settings_for
from tests.proofs.histories.checker import key_faults, register_faults, stale_reads, stream_faults
from tests.proofs.histories.clients import Client, History, Roamer
from tests.proofs.histories.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.servers.databases import free_port
from tests.support.servers.processes import Process, serving
from tests.support.service import running

if TYPE_CHECKING:
    from graph.server.settings import Settings

STOCK = 1_000_000
TOLD = ("item.updated", "item.purchased", "item.restocked", "item.adjusted")  # The events that subscribers ask for.
SETTLE_SECONDS = 60
END_SECONDS = 30  # For a task that is cancelled.
DISTURBANCES = ("cut", "reset", "half-close", Fault.DELAY, Fault.SWALLOW, Fault.LOSE_ANSWERS)
STARTS = 5  # A process whose database cannot be reached just then does not start: whoever supervises it tries again.
REPAIR_SECONDS = (
    5.0  # A process that could not tell Redis of a change does so within this time after it finds Redis again, also on a busy machine.
)


@dataclass
class Plan:
    operations: int = 200_000
    seconds: float = float("inf")
    """After which no operation begins, however many there were."""
    processes: int = 4
    restarts: bool = True
    """Whether a process that was killed is started again, which takes seconds; without it, the last one is never killed."""
    clients: int = 32
    """Enough that most are answered while others wait for what is frozen, cut off or started. With 64, a busy machine left a third without an answer."""
    registers: int = 48
    shops: int = 16
    """Whose stock is bought: a process that is frozen while it sells keeps the others from that one."""
    subscribers: int = 8
    """Each of which is told of each write."""
    fault_seconds: float = 1.5
    """The longest that one fault lasts."""
    pause_seconds: float = 4.0
    """The mean between two faults of connections, of which there may be two at a time. With twice as many, four in ten attempts met one on PostgreSQL."""
    attack_seconds: float = 15.0
    """The mean between two attacks on processes: a start takes seconds of a processor, in which nobody else works."""


@dataclass
class Outcome:
    operations: int
    attempts: int
    unanswered: int
    purchases: int
    events: int
    injected: dict[str, int]
    stale_while_redis_was_away: int
    """Cached reads that were behind an edit whose process could not tell Redis of it; see docs/testing.md."""
    seconds: float
    faults: list[str] = field(default_factory=list[str])


class Server:
    """One process of the service, with a proxy before each that it talks to."""

    def __init__(self, settings: Settings, folder: Path, stack: AsyncExitStack) -> None:
        self._settings, self._folder, self._stack = settings, folder, stack
        self._port, self.proxies = free_port(), list[FaultProxy]()
        self._process: ExitStack = ExitStack()
        self.process: Process | None = None
        self._door: FaultProxy
        self.attacks: list[tuple[float, float]] = []
        self.redis_faults: list[tuple[float, float]] = []
        """From when until when it could not reach Redis."""

    async def open(self) -> None:
        self._door = await self._proxied(self._port)
        changed: dict[str, Any] = {}
        for name in ("database_url", "redis_url"):
            url = getattr(self._settings, name)
            if url and not url.startswith("sqlite"):
                proxy = await self._proxied(make_url(url).port or 0)
                changed[name] = make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        self._settings = self._settings.model_copy(update=changed)
        await self.start()

    async def _proxied(self, port: int) -> FaultProxy:
        proxy = await self._stack.enter_async_context(fault_proxy(port))
        self.proxies.append(proxy)
        return proxy

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._door.port}"

    async def start(self) -> None:
        for number in range(1, STARTS + 1):
            self._process = ExitStack()
            started = serving(self._settings, self._folder, port=self._port, LOG_LEVEL="ERROR")
            try:
                self.process = await asyncio.to_thread(self._process.enter_context, started)
            except RuntimeError:
                if number == STARTS:
                    raise
            else:
                return

    async def kill(self, *, restarts: bool) -> None:
        process, self.process = self.process, None
        if process:
            await asyncio.to_thread(process.kill)
            if restarts:
                await self.start()

    async def freeze(self, seconds: float) -> None:
        if self.process:
            self.process.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self.process.signal(signal.SIGCONT)

    def away_from_redis(self) -> list[tuple[float, float]]:
        """When others may not have known of its changes yet: a process that was killed or frozen meanwhile tells of them later."""
        found: list[tuple[float, float]] = []
        for began, ended in self.redis_faults:
            until = ended + REPAIR_SECONDS
            for attacked, recovered in self.attacks:
                if began <= recovered and attacked <= until:
                    until = max(until, recovered + REPAIR_SECONDS)
            found.append((began, until))
        return found

    async def close(self) -> None:
        await asyncio.to_thread(self._process.close)


class Run:
    def __init__(self, settings: Settings, plan: Plan, servers: list[Server]) -> None:
        self._settings, self._plan, self._servers = settings, plan, servers
        self.history, self.injected = History(), Counter[str]()
        self.stuck: list[str] = []
        """What kept the run from its end; then there is no history to check."""
        self._redis_port = make_url(settings.redis_url).port if settings.redis_url else None
        self._ends, self._over = time.monotonic() + plan.seconds, asyncio.Event()

    def addresses(self) -> list[str]:
        return [server.address for server in self._servers if server.process]

    def away_from_redis(self) -> list[tuple[float, float]]:
        return [window for server in self._servers for window in server.away_from_redis()]

    async def go(self, token: str, registers: list[str], shops: list[str], start: str) -> list[Roamer]:
        crowd = [Roamer("", start, None, addresses=self.addresses) for _ in range(self._plan.subscribers)]
        listening = [asyncio.create_task(subscriber.listen()) for subscriber in crowd]
        clients = [Client(number, self.addresses, token, self.history) for number in range(self._plan.clients)]
        working = [asyncio.create_task(self._work(client, registers, shops)) for client in clients]
        disturbing = [(self._disturb, self._plan.pause_seconds)] * 2
        faults = [asyncio.create_task(self._injecting(*each)) for each in (*disturbing, (self._attack, self._plan.attack_seconds))]
        await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
        self._over.set()
        await self._ended(working)
        await asyncio.gather(*faults)
        await asyncio.gather(*(client.close() for client in clients))
        if not self.stuck:
            await newest_events(self._settings, crowd)
        await self._ended(listening)
        return crowd

    async def _ended(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Whatever ended by itself may have failed; what did not is cancelled, and has to heed that."""
        for task in tasks:
            task.cancel()
        done, pending = await asyncio.wait(tasks, timeout=END_SECONDS)
        self.stuck += [repr(task.exception()) for task in done if not task.cancelled() and task.exception()]
        self.stuck += [f"does not end: {task} at {task.get_stack()}" for task in pending]

    async def _work(self, client: Client, registers: list[str], shops: list[str]) -> None:
        while len(self.history) < self._plan.operations and time.monotonic() < self._ends:
            await client.work(registers, shops)

    async def _injecting(self, fault: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
        while not self._over.is_set():
            await self._pause(random.expovariate(1 / pause_seconds))
            if not self._over.is_set():
                await fault()

    async def _pause(self, seconds: float) -> None:
        """As long, or until there is no more work."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    async def _disturb(self) -> None:
        """A connection that misbehaves."""
        server = random.choice(self._servers)
        proxy, began = random.choice(server.proxies), time.monotonic()
        kind: str | Fault = random.choice(DISTURBANCES)
        self.injected[kind.value if isinstance(kind, Fault) else kind] += 1
        if kind == "cut":
            proxy.cut()
        elif kind == "reset":
            proxy.reset()
        elif isinstance(kind, str):
            proxy.half_close()
        else:
            proxy.fault = kind
            await self._pause(random.uniform(0.1, self._plan.fault_seconds))
            proxy.end_fault()
        if proxy.target == self._redis_port:
            server.redis_faults.append((began, time.monotonic()))

    async def _attack(self) -> None:
        """A process that dies, or stands still."""
        running, began = [server for server in self._servers if server.process], time.monotonic()
        server, may_kill = random.choice(running), self._plan.restarts or len(running) > 1
        kind = random.choice(("kill", "freeze", "freeze")) if may_kill else "freeze"
        self.injected[kind] += 1
        if kind == "kill":
            await server.kill(restarts=self._plan.restarts)
        else:
            await server.freeze(random.uniform(0.2, self._plan.fault_seconds * 2))
        server.attacks.append((began, time.monotonic() if server.process else float("inf")))


async def run(backend: str, folder: Path, plan: Plan) -> Outcome:
    began = time.monotonic()
    settings = await settings_for(backend, folder, connections_per_caller=10_000)
    async with running(settings) as service:
        token = await service.sign_in()
        registers = [await service.make_item(f"Register {number}") for number in range(plan.registers)]
        shops = [await service.make_item(f"Shop {number}", inventory=STOCK) for number in range(plan.shops)]
        async with service.database.reading() as session:
            start = events.cursor(await events.identity(session), await events.newest(session))
    async with AsyncExitStack() as stack:
        servers = [Server(settings, folder, stack) for _ in range(plan.processes)]
        try:
            await asyncio.gather(*(server.open() for server in servers))
            this = Run(settings, plan, servers)
            crowd = await this.go(token, registers, shops, start)
        finally:
            await asyncio.gather(*(server.close() for server in servers))
    this.stuck += _logged(folder) if this.stuck else []
    return await _checked(settings, this, crowd, registers, shops, start, began)


def _logged(folder: Path) -> list[str]:
    """What the processes say went wrong, at the end of their logs: the folder is removed after the run."""
    return [f"{log.name}: {log.read_text(errors='replace')[-5_000:]}" for log in folder.glob("*.log") if log.stat().st_size]


async def _checked(
    settings: Settings, this: Run, crowd: list[Roamer], registers: list[str], shops: list[str], start: str, began: float
) -> Outcome:
    history, log = this.history, [id_ for id_ in await newest_events(settings) if id_ > events.parse(start)[1]]
    by_key, purchases, sold = await effects(settings, shops)
    faults = register_faults(history.operations, dict.fromkeys(registers, (1, None)))
    stale, away = stale_reads(history.operations), this.away_from_redis()
    excused = [read for read, _ in stale if any(since <= read.ended and read.began <= until for since, until in away)]
    faults += [f"{fault}, at {read.began:.2f}; not away from Redis in {away}" for read, fault in stale if read not in excused]
    faults += key_faults(history.answers, by_key)
    for number, subscriber in enumerate(crowd):
        faults += [f"subscriber {number}: {fault}" for fault in stream_faults(event_ids(subscriber.heard), log, gaps(subscriber, start))]
    taken = sum(history.taken.values())
    if (purchases, sold) != (len(history.bought), taken):
        faults.append(
            f"{len(history.bought)} purchases were acknowledged, {purchases} are there; {taken} units should be gone, and {sold} are"
        )
    return Outcome(
        operations=len(history),
        attempts=history.attempts,
        unanswered=history.lost,
        purchases=purchases,
        events=len(log),
        injected=dict(this.injected),
        stale_while_redis_was_away=len(excused),
        seconds=time.monotonic() - began,
        faults=this.stuck or faults,
    )


def event_ids(heard: Sequence[Mapping[str, Any]]) -> list[int]:
    return [events.parse(event["cursor"])[1] for event in heard if event["__typename"] != "Gap"]


def gaps(subscriber: Roamer, start: str) -> list[tuple[int, int]]:
    gaps, after = list[tuple[int, int]](), events.parse(start)[1]
    for event in subscriber.heard:
        until = events.parse(event["cursor"])[1]
        if event["__typename"] == "Gap":
            gaps.append((after, until))
        after = until
    return gaps


async def newest_events(settings: Settings, crowd: Sequence[Roamer] = ()) -> list[int]:
    """The ids of the log, once every subscriber has the newest one, or long enough."""
    deadline, log = time.monotonic() + SETTLE_SECONDS, await _log(settings)
    while time.monotonic() < deadline and any(event_ids(subscriber.heard[-1:]) != log[-1:] for subscriber in crowd):  # noqa: ASYNC110 -- a subscriber has no bell
        await asyncio.sleep(0.05)
    return log


async def _log(settings: Settings) -> list[int]:
    database = Database.connect(settings.database_url, pool=settings.pool.for_commands)
    try:
        async with database.reading() as session:
            return list(await session.scalars(select(Event.id).where(Event.kind.in_(TOLD)).order_by(Event.id)))
    finally:
        await database.close()


async def effects(settings: Settings, shops: list[str]) -> tuple[dict[str, int], int, int]:
    """Effects by key, purchases, and units that are gone from the stock."""
    database = Database.connect(settings.database_url, pool=settings.pool.for_commands)
    try:
        async with database.reading() as session:
            keys = Counter((await session.scalars(select(IdempotencyKey.key))).all())
            purchases = await session.scalar(select(func.count()).select_from(Purchase)) or 0
            stock = await session.scalar(select(func.sum(Item.inventory)).where(Item.id.in_([row_id("Item", shop) for shop in shops]))) or 0
    finally:
        await database.close()
    return dict(keys), purchases, STOCK * len(shops) - int(stock)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove histories", description=__doc__)
    parser.add_argument("--backend", choices=("sqlite", "postgresql"), action="append", help="both without it")
    parser.add_argument("--operations", type=int, default=Plan.operations, help="for each")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each, if it takes less to do them")
    arguments = parser.parse_args()
    failed = False
    for backend in arguments.backend or ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory(prefix="storegraph-histories-") as folder:
            plan = Plan(operations=arguments.operations, seconds=arguments.minutes * 60)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                outcome = runner.run(run(backend, Path(folder), plan))
        failed |= bool(outcome.faults)
        faults, outcome.faults = outcome.faults, outcome.faults[:20]
        print(backend, outcome, f"{len(faults)} faults", flush=True)  # noqa: T201
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
