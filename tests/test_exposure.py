"""What the service shows of itself to strangers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import settings_for
from tests.service import Service, running

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def help_given(service: Service) -> dict[str, bool]:
    """Which of what helps a developer a stranger gets."""
    introspected = (await service.send("{ __schema { queryType { name } } }")).json()
    mistaken = (await service.send("{ itemz { totalCount } }")).json()
    page = await service.http.get("/graphql", headers=BROWSER)
    explorer = page.headers["content-type"].startswith("text/html")
    schema = await service.http.get("/schema.graphql")
    landing, links = await service.http.get("/", headers=BROWSER), (await service.http.get("/")).json()["links"]
    assert ('href="graphql"' in landing.text, 'href="schema.graphql"' in landing.text) == (explorer, schema.status_code == 200)
    assert ("explorer" in links, "schema" in links) == (explorer, schema.status_code == 200)
    return {
        "introspection": "errors" not in introspected,
        "suggestions": "Did you mean" in mistaken["errors"][0]["message"],
        "explorer": explorer,
        "schema.graphql": schema.status_code == 200,
    }


NOTHING = {"introspection": False, "suggestions": False, "explorer": False, "schema.graphql": False}


async def test_is_no_help_outside_development(deployed: Service):
    assert await help_given(deployed) == NOTHING
    for name in ("main.js", "main.js.map"):
        assert (await deployed.http.get(f"/explorer/assets/{name}")).status_code == 404


async def test_is_all_help_in_development(embedded: Service):
    assert await help_given(embedded) == dict.fromkeys(NOTHING, True)


@pytest.mark.parametrize(
    ("setting", "gives"),
    [
        ("introspection_enabled", {"introspection", "schema.graphql"}),
        ("suggestions_enabled", {"suggestions"}),
        ("explorer_enabled", {"explorer", "schema.graphql"}),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
async def test_is_what_each_setting_says(tmp_path: Path, setting: str, gives: set[str], debug: bool):
    changed: dict[str, Any] = {setting: not debug}
    async with running(await settings_for("sqlite", tmp_path, debug=debug, **changed)) as service:
        found = await help_given(service)
    given = {name for name, shown in found.items() if shown}
    assert given == (gives if not debug else {*NOTHING} - gives | ({"schema.graphql"} if "schema.graphql" in gives else set()))
