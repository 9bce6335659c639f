"""What stands at `/`: an invitation for people, the same addresses as JSON for programs; and the schema as text."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from graph.server import media
from graph.server.explorer import STATIC, html

if TYPE_CHECKING:
    from starlette.requests import Request

DESCRIPTION = "A store catalogue as one GraphQL API: items, users, purchases and live events."
LINKS = {
    "graphql": "/graphql",
    "explorer": "/graphql",
    "schema": "/schema.graphql",
    "health": "/api/v2/health",
    "metrics": "/metrics",
    "docs": "/docs",
}


class Landing:
    def __init__(self, app_name: str, sdl: str) -> None:
        self._name, self._sdl = app_name, sdl
        self._template = Template((STATIC / "landing.html").read_text())
        self.routes = [Route("/", self._home), Route("/schema.graphql", self._schema)]

    async def _home(self, request: Request) -> Response:
        if media.negotiate(request.headers.get("Accept")).page:
            address = str(request.base_url).rstrip("/")
            return html(self._template.substitute(name=escape(self._name), description=escape(DESCRIPTION), address=escape(address)))
        return JSONResponse({"name": self._name, "description": DESCRIPTION, "links": LINKS}, headers={"Vary": "Accept"})

    async def _schema(self, request: Request) -> Response:
        # As plain text a browser shows it; under a media type of its own it would be saved instead.
        return PlainTextResponse(self._sdl, headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
