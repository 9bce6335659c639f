"""Rolling restarts, again and again: two processes behind nginx are replaced under purchases and subscribers, and everything that goes wrong is kept.

nginx says why it failed a request in its log, which is printed with the run that it belongs to. `scripts/prove rolling` runs it;
tests/server/asgi/test_nginx.py has one such restart.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tests.support.load import rolling_restart
from tests.support.servers.nginx import deployed


async def rolled(times: int, subscribers: int, folder: Path) -> Counter[str]:
    """What was counted in all runs; each is printed with its faults."""
    counted: Counter[str] = Counter()
    async with deployed(folder) as deployment:
        for number in range(times):
            outcome = await rolling_restart.rolled(deployment, subscribers=subscribers, name=f"roller-{number}")
            faults = {name: value for name, value in asdict(outcome).items() if value and name not in {"acknowledged", "reconnects"}}
            counted += Counter(
                {"runs": 1, "runs with faults": bool(faults), "purchases": outcome.acknowledged, "reconnects": outcome.reconnects}
            )
            print(number, outcome if faults else "as it should be", flush=True)  # noqa: T201
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove rolling", description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--subscribers", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storegraph-rolling-") as folder:
        counted = asyncio.run(rolled(arguments.times, arguments.subscribers, Path(folder)))
    print(dict(counted))  # noqa: T201
    raise SystemExit(bool(counted["runs with faults"]))


if __name__ == "__main__":
    main()
