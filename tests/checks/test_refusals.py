"""The check of refusals names those that a client would never be told of, and where they go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[2] / "scripts" / "checks" / "refusals.py"


def said(folder: Path) -> str:
    done = subprocess.run([sys.executable, CHECK, "persistence", "graph"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stdout), done.stderr
    return done.stdout


def test_says_which_refusals_nothing_answers(tmp_path: Path) -> None:
    for name, text in {
        "persistence/cups.py": "class Broken(DomainError):\n    pass\n\nclass Cracked(cups.Broken):\n    pass\n\nclass Cup:\n    pass\n",
        "graph/cups.py": "@member_for(cups.Broken)\nclass BrokenError:\n    pass\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    assert said(tmp_path) == (
        "persistence/cups.py declares Cracked, which nothing in graph answers: declare its union member there, with @member_for(cups.Cracked)\n"
    )
    with (tmp_path / "graph/cups.py").open("a") as more:
        more.write("\nmember_for(Cracked)\n")
    assert said(tmp_path) == ""
