"""Middleware that gives every HTTP response its request id, process time and security headers, and masks unhandled exceptions.

Source: OWASP Secure Headers Project and REST Security Cheat Sheet, section "Security Headers". Strict-Transport-Security is the business of whoever
ends TLS.
"""

from __future__ import annotations

import re
import secrets
import time
from contextvars import ContextVar
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import structlog

from graph.kit.errors import INTERNAL
from graph.server.asgi.error_responses import error_response
from graph.server.asgi.request_headers import headers_of, text

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

# The log reads it from here; bound by structlog's means it would take 3 µs of each request, and few have lines that need it.
REQUEST_ID = ContextVar[str]("request_id")
VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_random = Random(secrets.randbits(128))  # noqa: S311 -- an id is no secret, and the system's own numbers cost a call each

# A response that needs something else has said so itself, such as a page that loads its styles, or a file that may be kept.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class ResponseHeadersMiddleware:
    """Each request gets an id (the client's, if it is sane), which its lines in the log have too; the answer tells it as `X-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _client_request_id(scope) or new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        # Not taken off again: each request runs in a task of its own, and its context ends with it.
        REQUEST_ID.set(request_id)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, request_id)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if answer.begun:
                raise  # The server logs it and breaks the connection off, so that half an answer does not look whole.
            log.exception("unexpected error in a request", path=scope["path"])
            await error_response(INTERNAL, f"Internal error. Request id: {request_id}", scope["path"])(scope, receive, answer.send)


class _Answer:
    __slots__ = ("_request_id", "_send", "_started", "begun")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id, self._started, self.begun = send, request_id, time.perf_counter(), False

    def send(self, message: Message) -> Awaitable[None]:
        if not self.begun and message["type"] == "http.response.start":
            self.begun = True
            message["headers"] = with_own(message["headers"], self._request_id, time.perf_counter() - self._started)
        return self._send(message)


def new_request_id() -> str:
    return f"{_random.getrandbits(64):016x}"


def with_own(headers: list[tuple[bytes, bytes]], request_id: str, seconds: float) -> list[tuple[bytes, bytes]]:
    """The header of a response, and what each response has."""
    own = (b"x-request-id", request_id.encode()), (b"x-process-time", b"%.4fs" % seconds)
    return [*headers, *_missing_headers(tuple([name for name, _ in headers])), *own]


@lru_cache(256)
def _missing_headers(names: tuple[bytes, ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([header for header in HEADERS if header[0] not in names])


def _client_request_id(scope: Scope) -> str | None:
    value = text(headers_of(scope), b"x-request-id")
    return value if value is not None and VALID_REQUEST_ID.fullmatch(value) else None
