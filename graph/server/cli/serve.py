"""Command `serve`."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
import uvicorn

import graph
import persistence
from graph.server.cli.terminal import fail, load_settings, whole_number
from graph.server.pages.explorer import BUNDLE, NODE_REQUIRED
from graph.server.process import server
from graph.server.settings import Settings
from graph.server.telemetry import logs, metric_values
from persistence.schema import upgrade

if TYPE_CHECKING:
    import socket

log = structlog.get_logger(__name__)

# Frames beyond this are never held in memory whole; the socket's own limit is in characters, of four bytes at most.
SOCKET_BYTES = 2**20
# Longer than proxies keep an idle connection (nginx: 60 s), so that they end it: if we do, a request may be on its way. Of others see `WireLimits`.
KEEP_ALIVE_SECONDS = 75
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 -- compared with, not listened on

THINGS_TO_TRY = """
{name} is at {url}

  The explorer     {explorer}
  A shop           scripts/storegraph seed --items 1000 in another terminal
  A query          curl -s {url}/graphql -H 'Content-Type: application/json' -d '{{"query": "{{ items(first: 3) {{ nodes {{ name price }} }} }}"}}'

Ctrl-C stops it.
"""
EXPLORER = "{url}/graphql in a browser: examples to run, the whole schema, live events"
NO_EXPLORER = f"is not built: install {NODE_REQUIRED} (Debian: apt-get install nodejs npm), then run scripts/explorer"
HIDDEN_EXPLORER = "is switched off by EXPLORER_ENABLED"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(parser=whole_number(0, 65_535), metavar="NUMBER", help="Port to listen on.")] = 8000,
    workers: Annotated[
        int, typer.Option(parser=whole_number(1, 64), metavar="NUMBER", help="Number of processes; more than one needs REDIS_URL.")
    ] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when the code changes.")] = False,
) -> None:
    """Migrate the database, then serve in the foreground until SIGTERM."""
    settings = load_settings()
    if workers > 1 and settings.redis_url is None:
        fail("More than one worker needs REDIS_URL: without it, echoes and limits end at each process, and events come late.", 2)
    with ExitStack() as stack:
        listeners = _bound(stack, host, port)
        logs.configure(settings)
        asyncio.run(upgrade(settings.database_url))
        if settings.metrics_folder is not None:
            metric_values.clear(settings.metrics_folder)
        stack.enter_context(_metrics_folder(needed=workers > 1 and settings.metrics_folder is None))
        config = _configuration(host, port, workers=workers, reload=reload)
        if not server.run(config, listeners, announce=lambda: announce(settings, address(host, listeners))):
            fail("Storegraph could not start.")


def _configuration(host: str, port: int, *, workers: int, reload: bool) -> uvicorn.Config:
    return uvicorn.Config(
        "graph.server.process.server:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        reload=reload,
        reload_dirs=[graph.__path__[0], persistence.__path__[0]] if reload else None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        log_config=None,
        proxy_headers=False,  # TRUSTED_PROXIES says whose word counts; uvicorn would take anybody's on this machine.
        ws="graph.server.asgi.protocols.websocket_protocol:WebSocketProtocol",
        ws_max_size=SOCKET_BYTES,
        loop="uvloop",
        http="graph.server.asgi.protocols.http_protocol:HttpProtocol",
        ws_per_message_deflate=False,
        server_header=False,  # Nobody needs to know what to look up the weaknesses of.
    )


def _bound(sockets: ExitStack, host: str, port: int) -> list[socket.socket]:
    try:
        return sockets.enter_context(server.bound(host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"Port {port} of {host} is in use: stop what listens there, or choose another with --port.")
        fail(f"--host {host} --port {port}: {error.strerror or error}.", 2)


def address(host: str, listeners: Sequence[socket.socket]) -> str:
    """Where a browser on this machine finds the service."""
    port = listeners[0].getsockname()[1]
    name = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def announce(settings: Settings, url: str) -> None:
    log.info("listening", url=url)
    if settings.debug:
        built = EXPLORER.format(url=url) if BUNDLE.joinpath("index.html").is_file() else NO_EXPLORER
        typer.echo(THINGS_TO_TRY.format(name=settings.app_name, url=url, explorer=built if settings.explorer else HIDDEN_EXPLORER))


@contextmanager
def _metrics_folder(*, needed: bool) -> Generator[None]:
    """A folder for the workers' numbers, for as long as they run."""
    if not needed:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="storegraph-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ["METRICS_FOLDER"] = folder
        yield
