"""The home page at `/` (HTML for people, JSON for programs), and the schema as text."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING

import orjson
from starlette.routing import Route

from graph.server.asgi.request_headers import headers_of, text
from graph.server.pages.explorer import STATIC, html
from graph.server.representations import content_negotiation
from graph.server.representations.representation import Representation

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

DESCRIPTION = "A store catalogue as one GraphQL API: items, users, purchases and live events."
LINKS = {
    "graphql": "/graphql",
    "explorer": "/graphql",
    "schema": "/schema.graphql",
    "shop": "/shop",
    "health": "/api/v2/health",
    "metrics": "/metrics",
    "docs": "/docs",
}
# The links that are for people.
CARDS = {
    "explorer": '<li><a class="first" href="graphql"><strong>Explorer</strong>'
    "<span>Write and run documents, with examples that work at once.</span></a></li>",
    "shop": '<li><a href="shop"><strong>Shop</strong>'
    "<span>Search, facets, live stock and a basket: a front end in one script.</span></a></li>",
    "docs": '<li><a href="docs"><strong>Documentation</strong><span>A five-minute tour, and a page for each subject.</span></a></li>',
    "schema": '<li><a href="schema.graphql"><strong>schema.graphql</strong>'
    "<span>The whole contract, with a description of every field.</span></a></li>",
    "health": '<li><a href="api/v2/health"><strong>Health</strong><span>Whether the service and what it stands on are well.</span></a></li>',
}


class HomePage:
    """Without `sdl` the schema is not told, and without `explorer` there is nothing for a browser at the GraphQL address.

    `shop` tells whether the demonstration shop is there.
    """

    def __init__(self, app_name: str, sdl: str | None, *, explorer: bool, shop: bool = False) -> None:
        self._name = app_name
        hidden = {"explorer": not explorer, "schema": sdl is None, "shop": not shop}
        self._links = {name: path for name, path in LINKS.items() if not hidden.get(name)}
        self._cards = "\n".join(card for name, card in CARDS.items() if name in self._links)
        self._template = Template((STATIC / "landing.html").read_text())
        index = orjson.dumps({"name": app_name, "description": DESCRIPTION, "links": self._links})
        self._index = Representation(index, "application/json", {"Cache-Control": "no-cache", "Vary": "Accept"})
        # As plain text a browser shows it; under a media type of its own it would be saved instead.
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        self._schema_text = Representation((sdl or "").encode(), "text/plain", headers)
        self.routes = [Route("/", self._home), *([] if sdl is None else [Route("/schema.graphql", self._schema)])]

    async def _home(self, request: Request) -> Response:
        if content_negotiation.negotiate(text(headers_of(request.scope), b"accept")).page:
            address = str(request.base_url).rstrip("/")
            words = {"name": escape(self._name), "description": escape(DESCRIPTION), "address": escape(address), "cards": self._cards}
            # Its command names the host as this client does: what may be a lie is not for whoever else a cache would show it to.
            return html(self._template.substitute(words), cache_control="private, no-cache").respond(request)
        return self._index.respond(request)

    async def _schema(self, request: Request) -> Response:
        return self._schema_text.respond(request)
