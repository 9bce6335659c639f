"""Shortcuts around middleware that a request does not need: routing, CORS, compression."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi.compression import gzip_from, vary
from graph.server.asgi.request_headers import headers_of


class PlainStarlette(Starlette):
    """Without Starlette's outermost layer, which makes pages of errors: `Envelope` masks them. Its redirects name no host: that of a request is hearsay."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.router.redirect_slashes = False  # To an address with the host and the scheme of the request.

    async def _without_slash(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No address ends with a slash: for a path that is served without it, where it is."""
        path: str = scope["path"].rstrip("/") if scope["type"] == "http" and scope["path"].endswith("/") else ""
        if not any(route.matches({**scope, "path": path})[0] is not Match.NONE for route in self.routes if path):
            await self.router(scope, receive, send)
            return
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        await RedirectResponse(quote(path) + query)(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(self._without_slash, handlers=self.exception_handlers)
        for middleware, arguments, options in reversed(self.user_middleware):
            app = middleware(app, *arguments, **options)
        return app


class CorsShortcut(CORSMiddleware):
    """Starlette's, for requests that name an origin. The answer to any other only says that it might have been another."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"origin" in headers_of(scope):
            await super().__call__(scope, receive, send)
            return

        async def announced(message: Message) -> None:
            if message["type"] == "http.response.start":
                vary(message, b"Origin")
            await send(message)

        await self.app(scope, receive, announced)


class PathShortcut:
    """Sends requests for one path to its endpoint, past the router: it makes its own answers of its errors.

    With `plain`, only those to which compression and CORS have nothing to add: a POST of JSON by who takes no gzip and names no origin. The endpoint's
    own `Vary` says that they might have.
    """

    def __init__(self, app: ASGIApp, path: str, endpoint: ASGIApp, *, plain: bool = False, kind: str = "http") -> None:
        self._app, self._path, self._endpoint, self._plain, self._kind = app, path, endpoint, plain, kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = scope["type"] == self._kind and scope["path"] == self._path and (not self._plain or _is_plain(scope))
        await (self._endpoint if direct else self._app)(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    headers = headers_of(scope)
    return scope["method"] == "POST" and b"origin" not in headers and gzip_from(headers) is None
