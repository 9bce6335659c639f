"""The guide to adding an entity leads there: a copy of the project, changed as it says, passes the tests that it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "adding-an-entity.md").read_text()
FILES = re.findall(r"^## \d\. [^\n]*`([a-z_/]+\.py)`\n(?:(?!^## ).)*?^```py\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def run(folder: Path, *command: str) -> None:
    """As a newcomer would, with the settings that there are without any."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_leads_to_an_entity_that_works(tmp_path: Path) -> None:
    project = tmp_path / "project"
    kept_out = shutil.ignore_patterns("node_modules", "var", ".git", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, project, symlinks=True, ignore=lambda folder, names: {*kept_out(folder, names), ".venv"})
    (project / ".venv").symlink_to((ROOT / ".venv").resolve())
    assert [name for name, _ in FILES] == ["persistence/suppliers.py", "graph/suppliers.py", "tests/test_suppliers.py"]
    for name, text in FILES:
        (project / name).write_text(text)
    run(project, "scripts/migrate")
    run(project, "scripts/migrate", "new", "add suppliers")
    run(project, "scripts/migrate")
    add_to_the_roots(project / "graph" / "schema.py")
    run(project, "scripts/schema")
    run(project, ".venv/bin/ruff", "check", ".")
    run(project, ".venv/bin/lint-imports")
    run(project, ".venv/bin/python", "-m", "pytest", "-q", "tests/test_suppliers.py", "-k", "sqlite")


def add_to_the_roots(schema: Path) -> None:
    text = schema.read_text()
    text = text.replace("class Query(", "class Query(SupplierQuery, ").replace("class Mutation(", "class Mutation(SupplierMutation, ")
    schema.write_text(
        text.replace(
            "from graph.users.mutations", "from graph.suppliers import SupplierMutation, SupplierQuery\nfrom graph.users.mutations"
        )
    )
