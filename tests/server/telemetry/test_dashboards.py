"""The Grafana dashboard and the alert rules …"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from graph.server.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "scripts" / "deploy" / "grafana-dashboard.json"
ALERTS = ROOT / "scripts" / "deploy" / "alerts.yml"

# What is in an expression beside names of metrics: functions, operators, labels, and Prometheus' own `up`.
SELECTOR = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without|on)\s*\([^)]*\)")
WORDS = {"sum", "max", "rate", "increase", "topk", "histogram_quantile"}


def names(expression: str) -> set[str]:
    bare = SELECTOR.sub(" ", expression)
    return set(re.findall(r"[a-z_]{2,}", bare)) - WORDS


def exposed() -> dict[str, set[str]]:
    """The name of each sample that a scrape can hold, and its labels."""
    found: dict[str, set[str]] = {}
    for instrument in Metrics().instruments:
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[instrument.family({}).type]
        found |= {instrument.name + suffix: set(instrument.labels) for suffix in suffixes}
    return found


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return panels + [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_name_only_metrics_and_labels_that_there_are() -> None:
    known = exposed() | {"up": set[str]()}
    for expression in expressions():
        assert names(expression), expression
        assert not names(expression) - set(known), expression
        of_these = set[str]().union(*(known[name] for name in names(expression)), {"job", "instance", "le"})
        grouped = {label.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in group.split(",")}
        selected = set(re.findall(r'([a-z_]+)=~?"', expression))
        assert grouped | selected <= of_these, expression
        assert expression.count("(") == expression.count(")")


def test_leave_no_metric_unseen() -> None:
    seen = set[str]().union(*(names(expression) for expression in expressions()))
    unseen = {instrument.name for instrument in Metrics().instruments if not any(name.startswith(instrument.name) for name in seen)}
    assert unseen == set()


def test_have_what_grafana_needs_to_load_them() -> None:
    loaded = dashboard()
    ids = [panel["id"] for panel in loaded["panels"]]
    assert len(ids) == len(set(ids))
    assert {panel["type"] for panel in loaded["panels"]} == {"row", "timeseries"}
    taken = set[tuple[int, int]]()
    for panel in loaded["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    variables = {each["name"] for each in loaded["templating"]["list"]}
    assert variables == {"datasource", "job"}


def test_say_what_to_do_in_a_runbook_that_there_is() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (file, anchor in anchors) == ("docs/operations.md", True), rule["alert"]
