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


def run(folder: Path, *command: str, **variables: str) -> None:
    """As a newcomer would, with the settings that there are without any."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_leads_to_an_entity_that_works(tmp_path: Path) -> None:
    project = tmp_path / "project"
    kept_out = shutil.ignore_patterns("node_modules", "build", "var", ".git", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, project, symlinks=True, ignore=lambda folder, names: {*kept_out(folder, names), ".venv"})
    (project / ".venv").symlink_to((ROOT / ".venv").resolve())
    assert [name for name, _ in FILES] == [
        "persistence/suppliers.py",
        "graph/suppliers.py",
        "tests/test_suppliers.py",
        "tests/support/access_ways.py",
    ]
    for name, text in FILES:
        add(project / name, text)
    run(project, "scripts/migrate")
    run(project, "scripts/migrate", "new", "add suppliers")
    run(project, "scripts/migrate")
    add_to_the_roots(project / "graph" / "schema.py")
    run(project, "scripts/format")
    run(project, "scripts/schema")
    run(project, ".venv/bin/ruff", "format", "--check", ".")
    run(project, ".venv/bin/ruff", "check", ".")
    run(project, ".venv/bin/lint-imports")
    run(project, "scripts/test", "-q", "tests/test_suppliers.py", "-k", "sqlite")
    run(project, "scripts/test", "-q", "tests/server/graphql/test_access.py", WRITE_ACCESS="1")
    row = re.compile(
        r"^\| `createSupplier` \| `items:write` \| UNAUTHENTICATED \| FORBIDDEN \| FORBIDDEN \| Supplier \| Supplier \|$", re.MULTILINE
    )
    assert row.search((project / "docs" / "access.md").read_text())


def test_adds_to_the_roots_however_their_bases_are_laid_out() -> None:
    for bases in ("Items, Users", "\n    Items,\n    Users,\n"):
        text = with_roots(f"from graph.node import System\n\nclass Query({bases}):\n    pass\n")
        assert re.sub(r"\s+", " ", text.partition("class ")[2]).startswith("Query(SupplierQuery, Items, Users")
        assert re.search(r"[ \t]$", text, re.MULTILINE) is None


def add(file: Path, text: str) -> None:
    """Unless it is there: in a project that was begun by following the guide."""
    found = file.read_text() if file.exists() else ""
    if text not in found:
        file.write_text(found + text)


def add_to_the_roots(schema: Path) -> None:
    schema.write_text(with_roots(schema.read_text()))


def with_roots(text: str) -> str:
    if "SupplierQuery" in text:
        return text
    text = re.sub(r"class (Query|Mutation)\(\s*", r"class \1(Supplier\1, ", text)
    return text.replace(
        "from graph.users.mutations", "from graph.suppliers import SupplierMutation, SupplierQuery\nfrom graph.users.mutations", 1
    )
