"""The explorer: GraphiQL for a browser, bundled beforehand (`scripts/explorer`) and served from this host alone.

No page of it runs inline script or lets a browser ask another host for anything.
"""

from __future__ import annotations

from functools import lru_cache
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import graph
from graph.server.asgi.compression import IDENTITY, choose_coding
from graph.server.asgi.request_headers import headers_of, text
from graph.server.representations.representation import Representation, last_modified

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
NODE_REQUIRED = "Node.js 18 or newer, with npm"
# Outside the packages, with the npm packages that it is made of: a search through the code would go through all of them.
BUNDLE = Path(graph.__path__[0]).parent / "build" / "explorer" / "dist"

MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
# Best first, with the suffix that build.js gives the copy.
ENCODINGS = {"br": ".br", "gzip": ".gz"}

CLOSED = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PLAIN_POLICY = f"default-src 'none'; style-src 'self'; img-src 'self'; {CLOSED}"
# Monaco writes its themes and what it has measured into <style> elements, so style alone may be inline.
EXPLORER_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; "
    f"style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; {CLOSED}"
)


def html(text: str, policy: str = PLAIN_POLICY, cache_control: str = "no-cache") -> Representation:
    """A page that other sites cannot frame, and that is asked for anew each time: it names the current assets."""
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": cache_control,
        "Vary": "Accept",
    }
    return Representation(text.encode(), "text/html", headers)


class Explorer:
    """`page` answers a browser at the GraphQL address; `routes` are what it loads."""

    def __init__(self, dist: Path = BUNDLE) -> None:
        self._index = dist / "index.html"
        self._assets = dist / "assets"
        self.routes = [Route("/explorer/assets/{name}", self._asset)]

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Looked for each time: the bundle may be made while the service runs.
        built = self._index.is_file()
        request = Request(scope)
        page = html(self._index.read_text(), EXPLORER_POLICY) if built else _missing(request)
        await page.respond(request)(scope, receive, send)

    async def _asset(self, request: Request) -> Response:
        # The name holds a hash of the contents, so what it stands for never changes.
        return static_file(request, self._assets, "public, max-age=31536000, immutable")


def _missing(request: Request) -> Representation:
    words = {"node": NODE_REQUIRED, "address": escape(str(request.url.replace(query="")))}
    return html(Template((STATIC / "missing.html").read_text()).substitute(words))


async def _static(request: Request) -> Response:
    return static_file(request, STATIC, "public, max-age=3600")


# What every page loads.
STYLES = [Route("/explorer/{name}", _static)]


def static_file(request: Request, folder: Path, cache_control: str) -> Response:
    path = folder / request.path_params["name"]
    media_type = MEDIA_TYPES.get(path.suffix)
    if media_type is None or not _is_file(path):
        raise HTTPException(404)
    path, encoding = _packed(path, text(headers_of(request.scope), b"accept-encoding"))
    found = path.stat()
    return _read(path, encoding, media_type, cache_control, found.st_mtime_ns, found.st_size).respond(request)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # The name is longer than the file system takes.
        return False


@lru_cache(maxsize=512)  # More than there are files, which take 9 MB with their copies.
def _read(path: Path, encoding: str | None, media_type: str, cache_control: str, modified_ns: int, _size: int) -> Representation:
    """A file that has this time and size."""
    headers = {
        "Last-Modified": last_modified(modified_ns / 10**9),
        "Cache-Control": cache_control,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    return Representation(path.read_bytes(), media_type, headers | ({"Content-Encoding": encoding} if encoding else {}))


def _packed(path: Path, accept_encoding: str | None) -> tuple[Path, str | None]:
    """The smallest copy of a file that the client can read."""
    copies = {encoding: path.with_name(path.name + suffix) for encoding, suffix in ENCODINGS.items()}
    encoding = choose_coding(accept_encoding, tuple(encoding for encoding, copy in copies.items() if copy.is_file()))
    return (path, None) if encoding == IDENTITY else (copies[encoding], encoding)
