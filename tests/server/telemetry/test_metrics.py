"""The numbers at `/metrics` …"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from graph.server.telemetry import metric_values
from graph.server.telemetry.metric_values import Counter, Gauge, Histogram, Instruments, SampledGauge
from graph.server.telemetry.metrics import CLIENTS, Metrics

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.service import Service

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(service: Service) -> Samples:
    answer = await service.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def grown(before: Samples, after: Samples, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """By how much each line of this name grew, for those that did."""
    lines = {labels: value - before.get((found, labels), 0.0) for (found, labels), value in after.items() if found == name}
    return {labels: growth for labels, growth in lines.items() if growth}


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


async def test_count_operations_by_their_first_root_field_kind_and_status(service: Service) -> None:
    token = await service.sign_in()
    before = await scraped(service)
    await service.ask("query A { few: items(first: 1) { nodes { name } } }")
    await service.ask("query B { ...F } fragment F on Query { ... { items { nodes { name } } } }")
    await service.ask('mutation { deleteItem(id: "x") { __typename } }', token=token)
    assert await service.refused("{ page: itemsPage { page } }") == "UNAUTHENTICATED"
    after = await scraped(service)
    assert grown(before, after, "graphql_server_request_duration_seconds_count") == {
        labels(graphql_operation_name="items", graphql_operation_type="query", status="ok"): 2,
        labels(graphql_operation_name="deleteItem", graphql_operation_type="mutation", status="ok"): 1,
        labels(graphql_operation_name="itemsPage", graphql_operation_type="query", status="errors"): 1,
    }
    assert grown(before, after, "graphql_server_response_error_count_total") == {labels(code="UNAUTHENTICATED"): 1}
    assert after["graphql_server_active_requests", labels(graphql_operation_type="query")] == 0


async def test_time_each_document_once_for_parsing_and_each_run_for_execution(service: Service) -> None:
    before = await scraped(service)
    for _ in range(3):
        await service.ask("query OncePlease { items { nodes { id name } } }")
    await service.refused("{ broken")
    after = await scraped(service)
    steps = {
        step: grown(before, after, f"graphql_server_request_{step}_duration_seconds_count") for step in ("parse", "validate", "execute")
    }
    assert steps == {"parse": {labels(): 2}, "validate": {labels(): 1}, "execute": {labels(): 3}}
    assert grown(before, after, "graphql_server_response_error_count_total") == {labels(code="GRAPHQL_PARSE_FAILED"): 1}


async def test_hold_the_sizes_of_loader_batches(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.app.state.pipeline, "_planner", None)  # Which reads the payload without loaders.
    token = await service.sign_in()
    create = """mutation ($inputs: [CreateItemInput!]!) {
      bulkCreateItems(inputs: $inputs) { ... on BulkCreateItems { results { ... on Item { owner { username } } } } }
    }"""
    before = await scraped(service)
    await service.ask(create, {"inputs": [{"name": f"Cup {number}", "price": "1"} for number in range(3)]}, token=token)
    after = await scraped(service)
    # Three items, whose owners are looked up together.
    assert grown(before, after, "storegraph_loader_batch_keys_sum") == {labels(loader="users.by_id_even_gone"): 3}
    assert grown(before, after, "storegraph_loader_batch_keys_count") == {labels(loader="users.by_id_even_gone"): 1}


async def test_give_strangers_no_way_to_make_labels(service: Service) -> None:
    before = await scraped(service)
    for number in range(20):
        await service.ask(f"query Random{number} {{ a{number}: __typename }}")
        await service.http.post("/graphql", json={"query": "{ nope", "operationName": f"Evil{number}"})
    grew = {key[1] for key, value in (await scraped(service)).items() if value != before.get(key)}
    assert not [line for line in grew for _, value in line if "Random" in value or "Evil" in value]


PLAIN, OPEN = "text/plain; version=0.0.4; charset=utf-8", "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("application/json;q=0", PLAIN),
        ("application/openmetrics-text", OPEN),
        ("Application/OpenMetrics-Text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", OPEN),
        ("application/openmetrics-text;version=x", OPEN),
        ("application/openmetrics-text;version=99.0.0\t;escaping=none", OPEN),
        ("application/openmetrics-text;q=0.5, text/plain", PLAIN),
        ("application/openmetrics-text;q=0, */*;q=0", PLAIN),
        ("text/plain;version=x.y", PLAIN),
    ],
)
async def test_are_written_in_the_format_that_the_scraper_prefers(embedded: Service, accept: str, sent: str) -> None:
    answer = await embedded.http.get("/metrics", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, sent)
    assert answer.text.endswith("# EOF\n") is (sent == OPEN)
    assert "Accept" in answer.headers["vary"].split(", ")


def test_call_the_clients_beyond_the_bound_other() -> None:
    metrics = Metrics()
    for number in range(CLIENTS + 50):
        metrics.deprecated.add(1, "Item.old", f"client-{number}", "1.0")
    assert len(metrics.deprecated.series) == CLIENTS + 1
    assert metrics.deprecated.series["other", "other", "other"] == [50.0]


def test_add_up_what_the_processes_of_one_machine_counted(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    numbers = {"runs": [[["a"], [5]]], "open": [[[], [7]]], "depth": [[[], [9]]], "seconds": [[["a"], [1, 0, 2, 12.5]]]}
    (tmp_path / f"{os.getppid()}.json").write_bytes(orjson.dumps(numbers))
    (tmp_path / f"{int(done.stdout)}.json").write_bytes(orjson.dumps(numbers))
    runs, opened, depth = Counter("runs", "", ["name"]), Gauge("open", ""), SampledGauge("depth", "")
    seconds = Histogram("seconds", "", ["name"], bounds=(1, 2))
    runs.add(1, "b")
    opened.set(2)
    depth.set(3)
    seconds.observe(2, "a")
    found = {sample.name: sample.value for family in Instruments([runs, opened, depth], tmp_path).collect() for sample in family.samples}
    # What was counted stays when a process ends; what was open in it does not; and every process sees the same queue.
    assert found == {"runs_total": 10, "open": 9, "depth": 3}
    (family,) = Instruments([seconds], tmp_path).collect()
    assert [sample.value for sample in family.samples if sample.name == "seconds_bucket"] == [2, 3, 7]
    assert next(sample.value for sample in family.samples if sample.name == "seconds_sum") == 27


def test_forget_processes_that_have_ended_and_keep_what_they_counted(tmp_path: Path) -> None:
    """Their files become one, which a service that starts anew leaves behind; a number that another program has by now is not theirs."""
    numbers = {"runs": [[["a"], [5]]], "open": [[[], [7]]]}
    ended = [
        subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    for done in ended:
        (tmp_path / f"{int(done.stdout)}.json").write_bytes(orjson.dumps(numbers))
    reused = tmp_path / f"{os.getppid()}.json"
    reused.write_bytes(orjson.dumps(numbers))
    os.utime(reused, (0, 0))  # Written before the process began that has the number now.
    runs, opened = Counter("runs", "", ["name"]), Gauge("open", "")
    opened.set(2)
    for _ in range(2):
        found = {sample.name: sample.value for family in Instruments([runs, opened], tmp_path).collect() for sample in family.samples}
        assert found == {"runs_total": 15, "open": 2}
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "ended.json"]
    metric_values.clear(tmp_path)
    found = {sample.name: sample.value for family in Instruments([runs, opened], tmp_path).collect() for sample in family.samples}
    assert found == {"open": 2}
