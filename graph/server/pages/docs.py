"""Serves the project's Markdown documentation as HTML at `/docs`, under the paths of the repository so that its links work.

Nothing else in the project's folder can be read here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path, PurePosixPath
from string import Template
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from graph.server.pages.explorer import STATIC, html
from graph.server.representations.representation import Representation, last_modified

if TYPE_CHECKING:
    from markdown_it.token import Token
    from starlette.requests import Request

ROOT = Path(__file__).parents[3]
FIRST = "README.md"
PAGES = (FIRST, "docs/**/*.md", "*.md")
PICTURES = ("docs/**/*.svg", "docs/**/*.png")
PICTURE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
# A picture opened by itself is a document: it may style itself, and nothing more.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class DocsPages:
    """All pages are made when the first is asked for, in a thread, and then kept: each takes some ten milliseconds."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._template = Template((STATIC / "docs.html").read_text())
        self._making: asyncio.Task[Mapping[str, Representation]] | None = None
        self.routes = [Route("/docs", self._index), Route("/docs/{path:path}", self._document)]

    async def _index(self, request: Request) -> Response:
        return RedirectResponse(f"docs/{FIRST}")

    async def _document(self, request: Request) -> Response:
        # By a list of addresses: a path that climbs has nowhere to go.
        found = (await self._documents()).get(request.path_params["path"])
        if found is None:
            raise HTTPException(404)
        return found.respond(request)

    async def _documents(self) -> Mapping[str, Representation]:
        if self._making is None or (self._making.done() and self._making.exception() is not None):
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
        return await asyncio.shield(self._making)

    def _make(self) -> Mapping[str, Representation]:
        texts = {name: path.read_text() for name, path in self._found(PAGES).items()}
        titles = {name: _title(text, name) for name, text in texts.items()}
        pages = {name: html(self._page(name, text, titles)) for name, text in texts.items()}
        return pages | {name: _picture(path) for name, path in self._found(PICTURES).items()}

    def _found(self, patterns: tuple[str, ...]) -> dict[str, Path]:
        paths = (path for pattern in patterns for path in sorted(self._root.glob(pattern)))
        return {path.relative_to(self._root).as_posix(): path for path in paths}

    def _page(self, name: str, text: str, titles: Mapping[str, str]) -> str:
        top = "../" * len(PurePosixPath(name).parts)
        links = [
            f'<li><a href="{top}docs/{escape(other)}"{" aria-current=page" * (other == name)}>{escape(title)}</a></li>'
            for other, title in titles.items()
        ]
        return self._template.substitute(top=top, title=escape(titles[name]), pages="\n".join(links), body=_rendered(text))


def _picture(path: Path) -> Representation:
    headers = {
        "Last-Modified": last_modified(path.stat().st_mtime),
        "Cache-Control": "no-cache",
        "Content-Security-Policy": PICTURE_POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    return Representation(path.read_bytes(), PICTURE_TYPES[path.suffix], headers)


def _title(text: str, otherwise: str) -> str:
    heading = re.search(r"^# +(.+)$", text, re.MULTILINE)
    return heading[1].replace("`", "") if heading else otherwise


def _rendered(text: str) -> str:
    tokens = _markdown.parse(text)
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _anchor(inline))
    return str(_markdown.renderer.render(tokens, _markdown.options, {}))


def _anchor(heading: Token) -> str:
    """The same name as on GitHub, whose rule the pages' own links follow."""
    return re.sub(r"[^\w\- ]", "", heading.content.lower()).replace(" ", "-")
