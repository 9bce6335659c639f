"""The pages of Markdown, as people read them in a browser."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from graph.server.pages import docs
from graph.server.pages.docs import PICTURE_POLICY, DocsPages
from graph.server.pages.explorer import PLAIN_POLICY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

README = """# The `shop`

See [the limits](docs/limits.md#what-they-are--why).

<script>alert(1)</script>

[click](javascript:alert(1))
"""


@pytest.fixture
def pages(tmp_path: Path) -> httpx.AsyncClient:
    root = tmp_path / "shop"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text(README)
    (root / "docs" / "limits.md").write_text("# Limits\n\n## What they are, & why\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    (root / "docs" / "parts.svg").write_text("<svg/>")
    (root / ".env").write_text("SECRET_KEY=x")
    (root / "secret.txt").write_text("x")
    (tmp_path / "outside.md").write_text("x")
    app = Starlette(routes=DocsPages(root).routes)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test")


async def test_begin_with_the_readme(pages: httpx.AsyncClient) -> None:
    first = await pages.get("/docs")
    assert (first.status_code, first.headers["location"]) == (307, "docs/README.md")
    page = await pages.get("/docs/README.md")
    assert "<title>The shop</title>" in page.text
    assert page.headers["content-security-policy"] == PLAIN_POLICY


async def test_keep_the_links_they_have_in_the_repository(pages: httpx.AsyncClient) -> None:
    assert '<a href="docs/limits.md#what-they-are--why">' in (await pages.get("/docs/README.md")).text
    page = await pages.get("/docs/docs/limits.md")
    assert '<h2 id="what-they-are--why">What they are, &amp; why</h2>' in page.text
    assert "<td>1</td>" in page.text


async def test_name_all_pages_beside_each(pages: httpx.AsyncClient) -> None:
    page = (await pages.get("/docs/docs/limits.md")).text
    assert '<li><a href="../../docs/README.md">The shop</a></li>' in page
    assert '<li><a href="../../docs/docs/limits.md" aria-current=page>Limits</a></li>' in page


async def test_are_made_once(pages: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    render = docs._rendered  # pyright: ignore[reportPrivateUsage] -- to count what cannot be seen from outside

    def counted(text: str) -> str:
        rendered.append(text)
        return render(text)

    monkeypatch.setattr(docs, "_rendered", counted)
    paths = ["/docs/README.md", "/docs/docs/limits.md", "/docs/docs/none.md"] * 20
    answers = await asyncio.gather(*(pages.get(path) for path in paths))
    assert [answer.status_code for answer in answers] == [200, 200, 404] * 20
    assert len(rendered) == 2


async def test_run_no_script(pages: httpx.AsyncClient) -> None:
    page = (await pages.get("/docs/README.md")).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert 'href="javascript' not in page


async def test_show_pictures_that_cannot_act(pages: httpx.AsyncClient) -> None:
    picture = await pages.get("/docs/docs/parts.svg")
    assert picture.text == "<svg/>"
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.headers["content-security-policy"] == PICTURE_POLICY


@pytest.mark.parametrize("path", [".env", "secret.txt", "..%2foutside.md", "docs%2f..%2f..%2foutside.md", "docs", "docs/none.md", "%00"])
async def test_show_nothing_else(pages: httpx.AsyncClient, path: str) -> None:
    assert (await pages.get(f"/docs/{path}")).status_code == 404


async def test_are_the_projects_own(service: Service) -> None:
    assert "<h1" in (await service.http.get("/docs/README.md")).text
