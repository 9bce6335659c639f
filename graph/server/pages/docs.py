"""The project's pages of Markdown, as HTML at `/docs`, at the paths they have in the repository so that their links hold.

Nothing else in the project's folder can be read here.
"""

from __future__ import annotations

import itertools
import re
from html import escape
from pathlib import Path, PurePosixPath
from string import Template
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from graph.server.pages.explorer import STATIC, html

if TYPE_CHECKING:
    from markdown_it.token import Token
    from starlette.requests import Request

ROOT = Path(__file__).parents[3]
FIRST = "README.md"
PAGES = (FIRST, "docs/**/*.md", "*.md")
PICTURES = ("docs/**/*.svg", "docs/**/*.png")
# A picture opened by itself is a document: it may style itself, and nothing more.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class Docs:
    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._template = Template((STATIC / "docs.html").read_text())
        self.routes = [Route("/docs", self._index), Route("/docs/{path:path}", self._document)]

    async def _index(self, request: Request) -> Response:
        return RedirectResponse(f"docs/{FIRST}")

    async def _document(self, request: Request) -> Response:
        asked = request.path_params["path"]
        if (page := self._found(PAGES).get(asked)) is not None:
            return html(self._page(asked, page.read_text()))
        if (picture := self._found(PICTURES).get(asked)) is not None:
            return FileResponse(picture, headers={"Content-Security-Policy": PICTURE_POLICY, "X-Content-Type-Options": "nosniff"})
        raise HTTPException(404)

    def _found(self, patterns: tuple[str, ...]) -> dict[str, Path]:
        """What may be read, by address: a list of files leaves a path that climbs nowhere to go."""
        paths = (path for pattern in patterns for path in sorted(self._root.glob(pattern)))
        return {path.relative_to(self._root).as_posix(): path for path in paths}

    def _page(self, name: str, text: str) -> str:
        top = "../" * len(PurePosixPath(name).parts)
        links = [
            f'<li><a href="{top}docs/{escape(other)}"{" aria-current=page" * (other == name)}>{escape(_title(path.read_text(), other))}</a></li>'
            for other, path in self._found(PAGES).items()
        ]
        return self._template.substitute(top=top, title=escape(_title(text, name)), pages="\n".join(links), body=_rendered(text))


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
