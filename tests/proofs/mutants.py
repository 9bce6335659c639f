"""Mutation testing: one small fault after the other is put into a module, and its tests must notice each.

mutmut does it, in a copy of the project and with an environment of its own, which the first run makes below build/. A mutant that survives is shown:
either a test is missing, or the change makes no difference. `scripts/prove mutants MODULE` runs it; not part of `./scripts/test`, as it takes minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
MUTMUT, VERSION = ROOT / "build" / "mutmut", "3.8.1"
COPIED = ("graph", "persistence", "tests", "scripts", "schema.graphql", "docker-compose.yml")
SIMULATION = "tests/proofs/simulation/test_simulation.py"
MODULES = {
    "watermark": ("persistence/kit/events/watermark.py", ["tests/persistence/events/test_watermark.py", SIMULATION]),
    "batching": ("persistence/kit/query/batching.py", ["tests/persistence/query/test_batching.py", SIMULATION]),
    "feed": ("persistence/kit/events/feed.py", ["tests/persistence/events/test_feed.py", SIMULATION]),
    "idempotency": ("persistence/kit/idempotency.py", ["tests/persistence/test_idempotency.py"]),
    "paging": (
        "persistence/kit/query/paging.py",
        ["tests/persistence/query/test_paging.py", "tests/persistence/query/test_entity_list.py"],
    ),
    "quota": ("persistence/kit/limits/token_bucket.py", ["tests/persistence/limits/test_token_bucket.py", SIMULATION]),
    "cost": ("graph/kit/limits/cost.py", ["tests/kit/limits/test_cost.py"]),
    "versions": ("persistence/kit/cache/table_versions.py", ["tests/persistence/cache/test_cache.py"]),
    "tokens": ("graph/server/auth/tokens.py", ["tests/server/auth/test_tokens.py"]),
    "planner": ("graph/kit/planner/planner.py", ["tests/kit/planner/test_planner.py", "tests/kit/planner/test_planner_documents.py"]),
}
WITH_POSTGRESQL = {"watermark", "feed", "quota", "versions"}
"""What speaks another language there, or with Redis beside it; elsewhere SQLite is enough, and much faster."""
TOO_SLOW = (
    *("four_processes", "another_process", "within_a_second", "password", "old_hash", "in_a_line", "keyboards", "so_many_logins"),
    *("any_document", "drops_a_plan", "keeps_filters_of_one_form_apart"),
)
"""Tests that take seconds, or processes of their own: what they alone would notice is shown as a survivor."""
TIMED = ("no_statement_while_their_standing",)
"""What may fail by itself on a machine that is busy: each mutant would look like one that is noticed."""
TIMEOUT = {"timeout_multiplier": 2.0, "timeout_constant": 6.0}
"""Seconds for a mutant: its tests' own and those of what they start, twice."""


def mutated(name: str, folder: Path, processes: int, only: list[str]) -> list[str]:
    """The mutants that survived, as mutmut names them; of those whose names match `only`."""
    module, tests = MODULES[name]
    for each in COPIED:
        (shutil.copytree if (ROOT / each).is_dir() else shutil.copy2)(ROOT / each, folder / each)
    left_out = (*TOO_SLOW, *TIMED, *(() if name in WITH_POSTGRESQL else ("postgresql",)))
    configuration = TIMEOUT | {
        "source_paths": [module],
        "pytest_add_cli_args": ["-k", f"not ({' or '.join(left_out)})"],
        "pytest_add_cli_args_test_selection": tests,
        "also_copy": list(COPIED),
    }
    lines = [f"{key} = {value!r}" for key, value in configuration.items()]
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + "\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    _mutmut(folder, "run", "--max-children", str(processes), *only)
    told = _mutmut(folder, "results", "--all", "true").splitlines()
    states = {mutant: state for mutant, _, state in (line.strip().rpartition(": ") for line in told) if state not in {"", "not checked"}}
    survivors = [mutant for mutant, state in states.items() if state not in {"killed", "timeout", "caught by type check"}]
    for mutant in survivors:
        print(mutant, *_changes(_mutmut(folder, "show", mutant)), sep="\n", end="\n\n")  # noqa: T201
    print(f"{name}: {len(states) - len(survivors)} of {len(states)} mutants were noticed", flush=True)  # noqa: T201
    return survivors if states else ["nothing was mutated"]


def _changes(difference: str) -> list[str]:
    return [line for line in difference.splitlines() if line.startswith(("- ", "+ ", "-\t", "+\t")) or line[:2] in {"- ", "+ "}]


def _mutmut(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(MUTMUT)}
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mutmut failed:\n{done.stdout[-2_000:]}")
    return done.stdout


def _install() -> None:
    if not (MUTMUT / "mutmut").exists():
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(MUTMUT)]
        subprocess.run([*command, f"mutmut=={VERSION}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], help=f"all of them without it: {', '.join(MODULES)}")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", default=[], metavar="NAMES", help="a sample: '*[147]' is about three mutants in ten")
    arguments = parser.parse_args()
    _install()
    survivors: list[str] = []
    for name in arguments.modules or list(MODULES):
        with tempfile.TemporaryDirectory(prefix="storegraph-mutants-") as folder:
            survivors += mutated(name, Path(folder), arguments.processes, arguments.only)
    raise SystemExit(bool(survivors))


if __name__ == "__main__":
    main()
