"""What a request need not pass: most go to `/graphql`, come from no page of another site, and some take no gzip."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi.compression import vary


class Application(Starlette):
    """Without Starlette's outermost layer, which makes pages of errors: `Envelope` masks them."""

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(self.router, handlers=self.exception_handlers)
        for middleware, arguments, options in reversed(self.user_middleware):
            app = middleware(app, *arguments, **options)
        return app


class Cors(CORSMiddleware):
    """Starlette's, for requests that name an origin. The answer to any other only says that it might have been another."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(message.get("headers", ()))
                vary(message, b"Origin")
            await send(message)

        await self.app(scope, receive, told)


class Direct:
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
    for name, value in scope["headers"]:
        if name == b"origin" or (name == b"accept-encoding" and b"gzip" in value):
            return False
    return scope["method"] == "POST"
