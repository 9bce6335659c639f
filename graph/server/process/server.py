"""Server processes: what each runs, how signals end it, and how several workers share one port.

A first SIGTERM or SIGINT begins a graceful shutdown; a second one, or the end of the time for it, ends the process at once.
As process 1 of a container nothing ends by the kernel's default, so each has a handler.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
import uvicorn
from uvicorn.supervisors import ChangeReload, Multiprocess, multiprocess

from graph.server.app import create_app
from graph.server.asgi.protocols.transport import has_input
from graph.server.settings import load
from graph.server.telemetry import logs

if TYPE_CHECKING:
    from types import FrameType

    from starlette.applications import Starlette

    from graph.server.graceful_shutdown import GracefulShutdown

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.02
GARBAGE = 50_000  # Objects between two looks of the collector, some MB: a page of items makes about a thousand.
IDLE_SECONDS = (
    1.0  # A proxy's next request on a kept connection is answered, and that is the connection's last: few are left to close on it.
)
MOST_ITERATIONS = 1_000  # Of the event loop, to accept what came before the end: a flood of connections must not put it off.
CLIENTS_SHARE = 0.8  # Of the whole time; the rest is for background work in hand.
CLEAN_UP_SECONDS = 1.0  # What is cut off removes its traces.
LATE_SECONDS = 1.0  # After the deadline the process ends whatever hangs, such as a thread on a disk that does not answer.
STOPS = (signal.SIGTERM, signal.SIGINT)


def app() -> Starlette:
    settings = load()
    logs.configure(settings)
    made = create_app(settings)
    settle()
    return made


def settle() -> None:
    """What there is by now stays as long as the process: the collector need not look at it again, and at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 100)


@contextmanager
def bound(host: str, port: int) -> Generator[list[socket.socket]]:
    """Sockets for every address of a host, on one port; port 0 takes a free one. Nothing listens yet. Raises: OSError."""
    listeners: list[socket.socket] = []
    with ExitStack() as stack:
        for family, kind, protocol, _, place in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own.
            listener.bind((place[0], listeners[0].getsockname()[1] if listeners else port, *place[2:]))
            listener.set_inheritable(True)
            listeners.append(listener)
        yield listeners


def run(config: uvicorn.Config, listeners: list[socket.socket], *, announce: Callable[[], None]) -> bool:
    """Serve until a signal, here or in workers; whether it could be started. `announce` is called once clients can connect."""
    try:
        if config.should_reload or config.workers > 1:
            announce()
            supervisor = ChangeReload(config, Server(config).run, listeners) if config.should_reload else Workers(config, listeners)
            supervisor.run()
            return True
        server = Server(config, announce)
        server.run(listeners)
    except KeyboardInterrupt:
        return True  # The signal that ended it, raised again.
    except (SystemExit, OSError) as error:
        if isinstance(error, OSError):
            log.error("cannot listen", error=str(error))  # noqa: TRY400 -- another process was quicker; there is nothing to trace
        return False
    return server.started


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._announce:
            self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT and self.config.workers > 1:
            return  # Ctrl-C reaches the whole group; the parent says to its workers what it means.
        super().handle_exit(sig, frame)
        if self.started:
            self._graceful_shutdown.begin()
        for number in STOPS:
            signal.signal(number, _end_at_once)

    @property
    def _graceful_shutdown(self) -> GracefulShutdown:
        return self.lifespan.state["shutdown"]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before uvicorn's own: it would drop kept connections at once, and wait for subscriptions as long as they like."""
        graceful, began = self._graceful_shutdown, time.monotonic()
        ends = began + graceful.seconds * CLIENTS_SHARE
        graceful.begin()
        _end_after(graceful.seconds + LATE_SECONDS)
        log.info("shutting down", seconds=graceful.seconds, connections=len(self.server_state.connections))
        await close_listeners(self.servers, sockets or ())
        await graceful.drain(max(0.0, ends - CLEAN_UP_SECONDS - time.monotonic()))
        await self._until_unused(ends - CLEAN_UP_SECONDS, idle_until=began + min(IDLE_SECONDS, graceful.seconds / 4))
        await self._cut_off(ends)
        self.config.timeout_graceful_shutdown = 1  # Nothing is left to wait for.
        await super().shutdown(sockets)

    async def _until_unused(self, deadline: float, *, idle_until: float) -> None:
        """Until no request runs, and a little longer while connections are kept."""
        while time.monotonic() < deadline:
            if not self.server_state.tasks and (not self.server_state.connections or time.monotonic() > idle_until):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _cut_off(self, deadline: float) -> None:
        if tasks := set(self.server_state.tasks):
            log.warning("running requests are cancelled at the end of the shutdown time", count=len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()))


async def close_listeners(servers: Sequence[asyncio.Server], sockets: Sequence[socket.socket] = ()) -> None:
    """Once no connection waits to be accepted: the kernel would reset those, with the requests that proxies have sent on them already."""
    for _ in range(MOST_ITERATIONS):
        if not any(has_input(listener) for server in servers for listener in server.sockets):
            break
        await asyncio.sleep(0)
    for listener in [*servers, *sockets]:
        listener.close()


class Worker(multiprocess.Process):
    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(self.config)
        return self._server

    def is_alive(self, timeout: float = 0) -> bool:
        """Without a word with it: one that needs longer to start on a busy machine is not hung, and nobody may wait for it when all are to end."""
        return self.process.is_alive()


class Workers(Multiprocess):
    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        setattr(multiprocess, "Process", Worker)  # noqa: B010 -- there is no other way to say which; typed, it would not fit
        super().__init__(config, sockets)

    def handle_term(self) -> None:
        self._stop()

    def handle_int(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.should_exit.is_set():
            self._end_at_once()
        self.should_exit.set()
        for number in STOPS:
            signal.signal(number, self._end_at_once)

    def terminate_all(self) -> None:
        # A connection that none of the workers accepts any more must be refused, not kept waiting.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def _end_at_once(self, *_: Any) -> None:
        for worker in self.processes:
            worker.process.kill()


def _end_at_once(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _end_after(seconds: float) -> None:
    signal.signal(signal.SIGALRM, _end_at_once)
    signal.setitimer(signal.ITIMER_REAL, seconds)
