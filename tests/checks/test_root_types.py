"""The check of root types names what was forgotten, and where it goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[2] / "scripts" / "checks" / "root_types.py"


def said(folder: Path) -> str:
    done = subprocess.run([sys.executable, CHECK, folder.name], cwd=folder.parent, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stdout), done.stderr
    return done.stdout


def test_says_which_fields_no_root_type_has(tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    graph.mkdir()
    (graph / "cups.py").write_text("@strawberry.type\nclass CupQuery:\n    cups: int\n\n@dataclass\nclass ListQuery:\n    pass\n")
    (graph / "schema.py").write_text("@strawberry.type\nclass Query(ItemQuery):\n    pass\n")
    assert said(graph) == "graph/cups.py declares CupQuery, which is in no root type: add it to the bases of Query in graph/schema.py\n"
    (graph / "schema.py").write_text("@strawberry.type\nclass Query(ItemQuery, CupQuery):\n    pass\n")
    assert said(graph) == ""
