"""What every HTTP response has, whoever made it: headers that keep browsers from helping an attacker, and a masked answer where none was made.

Source: OWASP Secure Headers Project and REST Security Cheat Sheet, section "Security Headers". Strict-Transport-Security is the business of whoever
ends TLS.
"""

from __future__ import annotations

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.kit.errors import INTERNAL
from graph.server.callers import request_id
from graph.server.rest import told

log = structlog.get_logger(__name__)

# A response that needs something else has said so itself, such as a page that loads its styles, or a file that may be kept.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class Guard:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                said = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in HEADERS if header[0] not in said)]
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception:
            if begun:
                raise  # The server logs it and breaks the connection off, so that half an answer does not look whole.
            log.exception("unexpected error in a request", path=scope["path"])
            await told(INTERNAL, f"Internal error. Request id: {request_id(scope)}", scope["path"])(scope, receive, guarded)
