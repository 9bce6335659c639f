"""`scripts/bench`: everything beside everybody on one machine, in interleaved rounds, and what came of it as a table and a chart."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

from scripts.benchmark import chart, dataset, measurements
from scripts.benchmark.dataset import Dataset
from scripts.benchmark.report import HEAD, Finding, line
from scripts.benchmark.rounds import FULL, QUICK, Pace
from scripts.benchmark.servers import ROOT

PICTURE = ROOT / "docs" / "bench.svg"
CASES = ("C1", "W1", "W4", "W5", "W7", "W8", "SQLite", "W6", "L")  # C1 stands for C1 to C5, W1 for W1 to W3.


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little data and short rounds: a minute or two, for orientation")
    parser.add_argument(
        "--only", default=",".join(CASES), help=f"some of {','.join(CASES)}, in any order; C1 stands for C1 to C5, W1 for W1 to W3"
    )
    parser.add_argument("--picture", type=Path, help=f"where to write it; a full run writes {PICTURE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    requested = set(arguments.only.split(","))
    if unknown := requested - set(CASES):
        parser.error(f"there is no case {' or '.join(sorted(unknown))}")
    pace = QUICK if arguments.quick else FULL
    print(HEAD, flush=True)
    with dataset.created(pace.items) as data:
        findings = _measured(data, pace, requested)
    target = arguments.picture or (PICTURE if requested == set(CASES) and not arguments.quick else None)
    if target:
        target.write_text(chart.drawn(findings))


def _measured(data: Dataset, pace: Pace, requested: set[str]) -> list[Finding]:
    findings: list[Finding] = []

    def add(case: str, trial: Callable[[], list[Finding]]) -> None:
        if case in requested:
            found = trial()
            findings.extend(found)
            print("\n".join(map(line, found)), flush=True)

    add("C1", lambda: measurements.client_documents(data, pace))
    add("W1", lambda: measurements.reads(data, pace))
    add("W4", lambda: measurements.cached_page(data, pace))
    add("W5", lambda: measurements.deliveries(data, pace))
    add("W7", lambda: measurements.files(data, pace))
    add("W8", lambda: measurements.purchases(data, pace))
    if "SQLite" in requested:
        data.lay_sqlite()
    add("SQLite", lambda: measurements.sqlite_reads(data, pace))
    add("SQLite", lambda: measurements.cached_page(data, pace, sqlite=True))
    add("SQLite", lambda: measurements.exports(data, pace, sqlite=True))
    small = measurements.lists(data, pace) if "L" in requested else {}
    if requested & {"W6", "L"}:
        asyncio.run(data.grow(pace.big))
    add("W6", lambda: measurements.exports(data, pace))
    add("L", lambda: [measurements.growth(small, measurements.lists(data, pace), data, pace)])
    return findings


main()
