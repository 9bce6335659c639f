"""The address without a path."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from graph.schema import schema
from graph.server.graphql.budget import HELD_SECONDS
from graph.server.pages.explorer import PLAIN_POLICY
from graph.server.pages.home import HomePage
from graph.server.rest import routes as rest
from tests.conftest import settings_for
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_invites_people(service: Service) -> None:
    page = await service.http.get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == PLAIN_POLICY
    assert "<title>Storegraph</title>" in page.text
    assert f"curl {service.url}/graphql" in page.text
    for address in ("graphql", "docs", "schema.graphql", "shop", "api/v2/health"):
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
            "shop": "/shop",
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
    app = Starlette(routes=HomePage("<b>Shop & $co</b>", "", explorer=True).routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        page = await client.get("/", headers=BROWSER)
    assert "<title>&lt;b&gt;Shop &amp; $co&lt;/b&gt;</title>" in page.text


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/graphql/", "/graphql"),
        ("/graphql//", "/graphql"),
        ("/graphql/?query=%7B__typename%7D&x=%20", "/graphql?query=%7B__typename%7D&x=%20"),
        ("/ready/", "/ready"),
        ("/docs/", "/docs"),
        ("/docs/README.md/", "/docs/README.md"),
        ("/docs/docs/clients.md//?x=1", "/docs/docs/clients.md?x=1"),
        ("/shop/", "/shop"),
        ("/metrics/", "/metrics"),
        ("/schema.graphql/", "/schema.graphql"),
        ("/api/v2/files/list/", "/api/v2/files/list"),
        ("/api/v2/files/download/na%C3%AFve%3F.txt/", "/api/v2/files/download/na%C3%AFve%3F.txt"),
    ],
)
async def test_leads_to_an_address_without_its_last_slash_on_whatever_host(service: Service, path: str, location: str) -> None:
    for headers in ({"Host": "evil.example"}, {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}):
        for method in ("GET", "POST"):
            answer = await service.http.request(method, path, headers=headers)
            assert (answer.status_code, answer.headers["location"]) == (307, location)
            assert "evil" not in str(answer.headers) + answer.text


@pytest.mark.parametrize("path", ["/nothing/", "//", "///evil.example/", "//evil.example/docs/", "/graphqlx/"])
async def test_leads_nowhere_from_an_address_that_has_nothing(service: Service, path: str) -> None:
    answer = await service.http.get(f"{service.url}{path}", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert "location" not in answer.headers


async def test_is_charged_to_the_network_that_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages cost a budget too; whoever has none left hears when, and probes are answered all the same."""
    held: list[float] = []

    async def hold(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr(rest, "asyncio", SimpleNamespace(sleep=hold))
    settings = await settings_for(
        "sqlite", tmp_path, rate_limits_enabled=True, max_cost=100, budget_points=400, budget_points_per_second=0.001
    )
    async with running(settings) as service:
        for path in ("/", "/docs", "/docs/README.md", "/schema.graphql", "/explorer/page.css") * 4:
            assert (await service.http.get(path)).status_code in {200, 307}
        assert held == []
        for path in ("/", "/docs", "/docs/README.md", "/schema.graphql", "/explorer/page.css", "/nothing", "/graphql/nothing/"):
            refused = await service.http.get(path)
            assert (refused.status_code, refused.json()["error"]["code"], refused.json()["path"]) == (429, "RATE_LIMITED", path)
            assert int(refused.headers["retry-after"]) > 0
        assert held == [HELD_SECONDS] * 7
        for path in ("/ready", "/live", "/api/v2/health"):
            assert (await service.http.get(path)).status_code == 200
