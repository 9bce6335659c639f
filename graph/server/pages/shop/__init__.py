"""The demonstration shop at `/shop`, in development mode: an example of a front end without a framework, in one script."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.server.pages.explorer import CLOSED, html, static_file

STATIC = Path(__file__).parent / "static"
POLICY = f"default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; {CLOSED}"


class ShopPage:
    def __init__(self, app_name: str) -> None:
        self._page = html(Template((STATIC / "shop.html").read_text()).substitute(name=escape(app_name)), POLICY)
        self.routes = [Route("/shop", self._shop), Route("/shop/{name}", self._asset)]

    async def _shop(self, request: Request) -> Response:
        return self._page.respond(request)

    async def _asset(self, request: Request) -> Response:
        return static_file(request, STATIC, "no-cache")
