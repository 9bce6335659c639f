"""The spans of an operation …"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graph.server.settings import BadSettings, load
from tests.conftest import settings_for
from tests.support.servers.trace_collector import collecting
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

TRACE = "0af7651916cd43dd8448eb211c80319c"
ITEMS = "query Shop($search: String) { items(search: $search) { nodes { name owner { username } } } }"
NODE = "query Again($id: ID!) { node(id: $id) { ... on Item { owner { username } } } }"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_hold_its_steps_its_batches_and_its_sql_and_no_values(backend: str, tmp_path: Path) -> None:
    with collecting() as collector:
        settings = await settings_for(backend, tmp_path, otel_exporter_otlp_endpoint=collector.url)
        async with running(settings) as service:
            token = await service.sign_in()
            create = 'mutation { createItem(input: {name: "Secret cup", price: "1"}) { ... on Item { id owner { username } } } }'
            planner, service.app.state.pipeline._planner = service.app.state.pipeline._planner, None  # It reads payloads without loaders.
            created = await service.ask(create, token=token)
            service.app.state.pipeline._planner = planner
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            answer = await service.http.post("/graphql", json={"query": ITEMS, "variables": {"search": "Secret"}}, headers=headers)
            assert answer.json() == {"data": {"items": {"nodes": [{"name": "Secret cup", "owner": {"username": "ada"}}]}}}
            await service.ask(NODE, {"id": created["createItem"]["id"]})
            await service.refused("query Denied { users { nodes { id } } }")

    assert collector.services == {"storegraph"}
    query = collector.one("query items")
    # The caller's trace goes on: its span is the parent of ours.
    assert (query.trace_id, query.parent_id, query.failed) == (TRACE, "b7ad6b7169203331", False)
    assert query.attributes["graphql.operation.name"] == "Shop"
    assert query.attributes["graphql.operation.type"] == "query"
    assert query.attributes["graphql.document.hash"].startswith("sha256:")
    assert collector.below(query) == ["parse", "validate", "SELECT"]
    node = collector.one("query node")
    assert collector.below(node) == ["parse", "validate", "SELECT"]
    assert collector.one("query users").failed
    created_item = collector.one("mutation createItem")
    assert "INSERT" in collector.below(created_item)
    [owners] = [span for span in collector.spans if span.name == "dataloader_batch" and span.parent_id == created_item.id]
    assert owners.attributes == {"graphql.dataloader.name": "users.by_id_even_gone", "graphql.dataloader.batch.size": 1}
    assert collector.below(owners) == ["SELECT"]

    told = repr(collector.spans)
    assert "Secret" not in told
    assert token not in told


def test_need_an_endpoint_that_the_packages_are_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("graph.server.settings.find_spec", find_nothing)
    with pytest.raises(BadSettings, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: needs the packages of requirements-tracing\.lock"):
        load(debug=True, otel_exporter_otlp_endpoint="http://127.0.0.1:4318")
