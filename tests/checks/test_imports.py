"""The check of imports …"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path("scripts/checks/imports.py").resolve()


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
def test_refuses_circles_of_two_modules_and_of_two_packages(
    tmp_path: Path, names: tuple[str, str], first: str, second: str, refused: bool
) -> None:
    answer = checked(tmp_path, dict(zip(names, (first.format(*names), second.format(*names)), strict=True)))
    assert ("closes a circle inside shop" in answer) is refused


@pytest.mark.parametrize(("importer", "refused"), [("graph.kit.fields", True), ("graph.items", False), ("persistence.kit.paging", True)])
def test_refuses_a_kit_that_knows_an_entity(tmp_path: Path, importer: str, refused: bool) -> None:
    modules = {"persistence.kit.errors": "", "persistence.items": "", importer: "import persistence.items\nimport persistence.kit.errors"}
    answer = checked(tmp_path, modules)
    assert answer == (f"{importer} imports persistence.items: a kit knows no entity\n" if refused else "")


def checked(folder: Path, modules: dict[str, str]) -> str:
    """What the check says of these modules, by their names."""
    for name, text in modules.items():
        path = folder / Path(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(folder).parents:
            if parent.name:
                (folder / parent / "__init__.py").touch()
    packages = sorted({name.partition(".")[0] for name in modules})
    answer = subprocess.run([sys.executable, CHECK, *packages], cwd=folder, capture_output=True, text=True, check=False)
    assert answer.returncode == bool(answer.stdout), answer.stderr
    return answer.stdout
