"""`serve`."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Annotated

import typer
import uvicorn

from graph.server.cli.terminal import fail, loaded
from graph.server.process import server
from graph.server.telemetry import logs
from persistence.schema import upgrade

# Frames beyond this are never held in memory whole; the socket's own limit is in characters, of four bytes at most.
SOCKET_BYTES = 2**20
# Longer than clients and proxies keep an idle connection (nginx: 60 s), so that they end it: if we do, a request may be on its way.
KEEP_ALIVE_SECONDS = 75

THINGS_TO_TRY = """
{name} is at {url}

  The explorer     {url}/graphql in a browser: examples to run, the whole schema, live events
  A shop           scripts/storegraph seed --items 1000 in another terminal
  A query          curl -s {url}/graphql -H 'Content-Type: application/json' -d '{{"query": "{{ items(first: 3) {{ nodes {{ name price }} }} }}"}}'

Ctrl-C stops it.
"""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; more than one needs REDIS_URL.")] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew when the code changes.")] = False,
) -> None:
    """Bring the database up to date, then serve in the foreground until SIGTERM."""
    settings = loaded()
    if workers > 1 and settings.redis_url is None:
        fail("More than one worker needs REDIS_URL: without it, echoes and limits end at each process, and events come late.", 2)
    logs.configure(settings)
    asyncio.run(upgrade(settings.database_url))
    if workers > 1 and settings.metrics_folder is None:
        os.environ["METRICS_FOLDER"] = tempfile.mkdtemp(prefix="storegraph-metrics-")
    if settings.debug and port:
        typer.echo(THINGS_TO_TRY.format(name=settings.app_name, url=f"http://{host}:{port}"))
    config = uvicorn.Config(
        "graph.server.process.server:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        reload=reload,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        log_config=None,
        proxy_headers=False,  # TRUSTED_PROXIES says whose word counts; uvicorn would take anybody's on this machine.
        ws="graph.server.asgi.websocket_protocol:Protocol",
        ws_max_size=SOCKET_BYTES,
        loop="uvloop",
        http="graph.server.asgi.http_protocol:Protocol",
        ws_per_message_deflate=False,
        server_header=False,  # Nobody needs to know what to look up the weaknesses of.
    )
    server.run(config)
