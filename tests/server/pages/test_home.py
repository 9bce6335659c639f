"""The address without a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from graph.schema import schema
from graph.server.pages.explorer import PLAIN_POLICY
from graph.server.pages.home import Landing

if TYPE_CHECKING:
    from tests.support.service import Service

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_invites_people(service: Service) -> None:
    page = await service.http.get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == PLAIN_POLICY
    assert "<title>Storegraph</title>" in page.text
    assert f"curl {service.url}/graphql" in page.text
    for address in ("graphql", "docs", "schema.graphql", "api/v2/health"):
        assert f'href="{address}"' in page.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
async def test_tells_programs_the_same_as_json(service: Service, accept: str) -> None:
    answer = await service.http.get("/", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "name": "Storegraph",
        "description": "A store catalogue as one GraphQL API: items, users, purchases and live events.",
        "links": {
            "graphql": "/graphql",
            "explorer": "/graphql",
            "schema": "/schema.graphql",
            "health": "/api/v2/health",
            "metrics": "/metrics",
            "docs": "/docs",
        },
    }


async def test_serves_the_schema_as_text(service: Service) -> None:
    answer = await service.http.get("/schema.graphql")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == schema.as_str()


async def test_takes_a_name_with_markup_for_text() -> None:
    app = Starlette(routes=Landing("<b>Shop & $co</b>", "", explorer=True).routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        page = await client.get("/", headers=BROWSER)
    assert "<title>&lt;b&gt;Shop &amp; $co&lt;/b&gt;</title>" in page.text
