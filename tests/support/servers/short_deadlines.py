"""The service's command line with deadlines of a second where the real ones are tens of seconds: `python -m tests.support.servers.short_deadlines serve …`."""

from __future__ import annotations

import runpy
from functools import partial

from graph.server import app
from graph.server.asgi import request_body
from graph.server.asgi.protocols import http_protocol, websocket_protocol
from graph.server.asgi.protocols.transport import WireLimits
from graph.server.graphql import http
from graph.server.graphql.subscriptions import websocket

LIMITS = WireLimits(head_seconds=1, slow_seconds=1, idle_seconds=2, check_seconds=0.25, linger_seconds=0.5, close_seconds=0.5)


def shorten() -> None:
    http_protocol.HttpProtocol.limits = websocket_protocol.WebSocketProtocol.limits = LIMITS
    request_body.SILENT_SECONDS = 1.0
    for module, name, shorter in (
        (app, "HttpEndpoint", partial(http.HttpEndpoint, limits=http.HttpLimits(seconds=1))),
        (app, "SocketLimits", partial(websocket.SocketLimits, init_seconds=1)),
    ):
        setattr(module, name, shorter)


if __name__ == "__main__":
    shorten()
    runpy.run_module("graph", run_name="__main__")
