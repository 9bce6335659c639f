"""What is deprecated …"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from graphql import build_schema, get_operation_ast, parse

from graph.kit.deprecations import Deprecations
from graph.schema import executable
from graph.server.cli.breaking_changes import undocumented
from graph.server.telemetry.deprecated_usage import DeprecatedUsageRecorder
from graph.server.telemetry.metrics import Metrics
from persistence import deprecated_usage
from persistence.deprecated_usage import ClientUse
from persistence.kit.column_types import utc_now
from tests.conftest import settings_for
from tests.support.service import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

OLD = """
directive @deprecated(reason: String = "No longer supported") on FIELD_DEFINITION | ARGUMENT_DEFINITION | INPUT_FIELD_DEFINITION | ENUM_VALUE
type Query { items(first: Int, page: Int @deprecated, where: Where, color: Color): [Item!]! }
type Item { name: String!  title: String @deprecated(reason: "Use name.") }
input Where { name: String  title: String @deprecated }
enum Color { RED @deprecated  BLUE }
"""


def used(document: str, schema: str = OLD) -> tuple[str, ...]:
    parsed = parse(document)
    operation = get_operation_ast(parsed)
    assert operation
    return Deprecations(build_schema(schema)).used(parsed, operation)


def test_is_found_wherever_a_document_uses_it() -> None:
    document = '{ old: items(page: 1, where: {title: "x"}, color: RED) { name ...F } } fragment F on Item { title again: title }'
    assert used(document) == ("Query.items(page:)", "Where.title", "Color.RED", "Item.title")
    assert used("{ items(first: 1, color: BLUE) { name } }") == ()


def test_breaks_a_promise_only_if_it_goes_without_a_word() -> None:
    new = OLD.replace('title: String @deprecated(reason: "Use name.")', "").replace("page: Int @deprecated,", "")
    changes = ["Argument Query.items(page:) was removed.", "Field Item.title was removed."]
    assert sorted(undocumented(OLD, new, "")) == changes
    assert undocumented(OLD, new, "".join(f"- Breaking: {change}\n" for change in changes)) == []
    assert undocumented(OLD, OLD.replace("name: String!", "name: String!  sku: ID"), "") == []
    assert undocumented(None, new, "") == []


@pytest.fixture
def health_is_deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No field of ours is deprecated at present, so one is for the length of a test."""
    query: Any = executable.query_type
    monkeypatch.setattr(query.fields["health"], "deprecation_reason", "Use /ready.")


@pytest.mark.usefixtures("health_is_deprecated")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_is_counted_by_who_uses_it_and_kept(backend: str, tmp_path: Path) -> None:
    settings, today = await settings_for(backend, tmp_path), utc_now().date()
    async with running(settings) as service:
        for name, version in (("shop", "1.0"), ("shop", "1.0"), ("shop", "2.0")):
            headers = {"apollographql-client-name": name, "apollographql-client-version": version}
            await service.http.post("/graphql", json={"query": "{ health { status } }"}, headers=headers)
        await service.http.post("/graphql", json={"query": "{ health { status } }"}, headers={"graphql-client-name": "till"})
        await service.ask("{ __typename }")
        scraped = (await service.http.get("/metrics")).text
        line = 'storegraph_deprecated_uses_total{client_name="shop",client_version="1.0",coordinate="Query.health"} 2.0'
        assert line in scraped
    # The service has stopped: what it counted is in the table, beside what another process counts there.
    async with running(settings) as service:
        await count_elsewhere(service, ClientUse("Query.health", "shop", "2.0"), 5)
        async with service.database.reading() as session:
            uses = await deprecated_usage.since(session, today)
            found = [(each.use.client_name, each.use.client_version, each.count) for each in uses]
            assert found == [("shop", "2.0", 6), ("shop", "1.0", 2), ("till", "unknown", 1)]
            assert await deprecated_usage.since(session, today + timedelta(days=2)) == []  # It may be tomorrow by now.


async def count_elsewhere(service: Service, use: ClientUse, times: int) -> None:
    metrics = Metrics()
    ledger = DeprecatedUsageRecorder(metrics.deprecated, service.database)
    for _ in range(times):
        metrics.deprecated.add(1, *vars(use).values())
        await ledger.flush()
    await ledger.flush()
