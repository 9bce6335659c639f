"""The check of import circles …"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path("scripts/checks/circles.py").resolve()


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("import {1}", "X = 1", False),
        ("import {1}", "import {0}", True),
        ("import {1}", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {0}", True),
        ("import {1}", "def late():\n    import {0}", True),
        ("import {1}", 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {0}\nA = strawberry.lazy("{0}")', False),
    ],
)
@pytest.mark.parametrize(
    "names", [("shop.items", "shop.users"), ("shop.kit.items", "shop.kit.users"), ("shop.items.types", "shop.users.types")]
)
def test_refuses_those_in_a_room(tmp_path: Path, names: tuple[str, str], first: str, second: str, refused: bool) -> None:
    for name, text in zip(names, (first, second), strict=True):
        path = tmp_path / Path(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(*names))
        for folder in path.relative_to(tmp_path).parents:
            if folder.name:
                (tmp_path / folder / "__init__.py").touch()
    answer = subprocess.run([sys.executable, CHECK, "shop"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == refused, answer.stderr
    assert ("closes a circle inside shop" in answer.stdout) is refused
