"""Around every request: its id, how long it took, and the line in the log. Plain ASGI: nothing is buffered."""

from __future__ import annotations

import re
import secrets
import time
from random import Random
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestTrace:
    """Gives each request an id (the client's, if it is sane) and answers it with `X-Request-ID` and `X-Process-Time`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._random = app, Random(secrets.randbits(128))  # noqa: S311 -- an id is no secret, and the system's own numbers cost a call each

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request_id = _offered(scope) or f"{self._random.getrandbits(64):016x}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                took = f"{time.perf_counter() - started:.4f}s"
                fields = (b"x-request-id", request_id.encode()), (b"x-process-time", took.encode())
                message["headers"] = [*message.get("headers", ()), *fields]
            await send(message)

        # Not taken off again: each request runs in a task of its own, and its context ends with it.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await self._app(scope, receive, traced if scope["type"] == "http" else send)


def _offered(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if SANE_ID.fullmatch(text) else None
    return None
