"""The guide to adding an entity leads there: a fork that has another entity, changed as the page says, passes all that the page runs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "adding-an-entity.md").read_text()
STEP = re.compile(r"^```(py|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^(?:## \d\. [^\n`]*|Add to )`([a-z_/]+\.py)`", re.MULTILINE)
GENERATED = ("node_modules", "build", "var", ".git", "dist", "__pycache__", ".*_cache", ".hypothesis", ".venv")

# What the fork has already: an entity as small as one can be.
RACKS = {
    "persistence/racks.py": '''"""Racks: where items stand."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.column_types import RowId, SortableText
from persistence.kit.database.database import Base
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList, SortOrder


class Rack(Base):
    __tablename__ = "racks"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(SortableText, index=True)

    __table_args__ = ({"sqlite_autoincrement": True},)


ENTITY = Entity(Rack)
ALL = EntityList(ENTITY, SortOrder("name"))
''',
    "graph/racks.py": '''"""Racks: their type and list."""

import strawberry

from graph.kit.auth import Scope
from graph.kit.connections import Connection
from graph.kit.entity.declaration import entity
from graph.kit.entity.visibility import Visibility
from graph.kit.global_ids import Node
from graph.kit.operations.lists import read_list
from persistence import racks


@entity(racks.ENTITY, visible=Visibility(Scope.ITEMS_READ))
@strawberry.type(description="Where items stand.")
class Rack(Node):
    name: str = strawberry.field(description="What it is called.")


@strawberry.type
class RackQuery:
    racks: Connection[Rack] = read_list(racks.ALL, scope=Scope.ITEMS_READ, description="All racks, in order of name.")
''',
}


def steps() -> list[tuple[str, str]]:
    """The page's blocks in order: code with the file that it belongs to, commands with none."""
    found: list[tuple[str, str]] = []
    for block in STEP.finditer(GUIDE):
        files = FILE.findall(GUIDE, 0, block.start())
        found.append((files[-1] if block[1] == "py" else "", block[2]))
    return found


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, symlinks=True, ignore=shutil.ignore_patterns(*GENERATED))
    (project / ".venv").symlink_to((ROOT / ".venv").resolve())
    for name, text in RACKS.items():
        add(project / name, text)
    return project


def test_leads_to_an_entity_that_works(fork: Path) -> None:
    run(fork, "scripts/migrate")
    run(fork, "scripts/migrate new 'add racks'")
    files = [name for name, _ in steps() if name]
    assert files[:2] == ["persistence/reviews.py", "graph/reviews.py"]
    look_only_at(fork, {*files, *RACKS})
    tests: list[str] = []
    for name, text in steps():
        if name:
            add(fork / name, text)
        for line in () if name else text.splitlines():
            if re.search(r"scripts/(test|check)", line):
                tests.append(line)
            else:
                run(fork, line)
    with ThreadPoolExecutor() as threads:  # They change nothing that another of them reads, and two processors are faster than one.
        list(threads.map(partial(run, fork), tests))
    access = (fork / "docs" / "access.md").read_text()
    assert "| `updateReview` | any token | UNAUTHENTICATED | Review | FORBIDDEN | FORBIDDEN | Review |" in access
    assert "| `racks` | `items:read` |" in access


def test_would_be_told_of_what_is_forgotten(fork: Path) -> None:
    """Each omission, by a sentence that says what to add where."""
    [persistence, graph, *_] = [(name, text) for name, text in steps() if name]
    add(fork / persistence[0], persistence[1])
    add(fork / graph[0], graph[1])
    assert "schema.graphql is out of date: run ./scripts/schema" in refused(fork, ".venv/bin/python -m graph schema --check")
    said = refused(fork, "scripts/test -q tests/server/graphql/test_access.py")
    assert 'Say how to come to a AlreadyReviewed: ACCESS = {"AlreadyReviewed": "{ … { * } }"} in the tests of its entity.' in said
    assert "Mutation.createReview" not in said
    assert "Query.racks" not in said


def look_only_at(project: Path, files: set[str]) -> None:
    """The type checker takes a minute for the whole project, and its other files are what they were."""
    settings = project / "pyproject.toml"
    settings.write_text(re.sub(r"(?m)^include = .*$", f"include = {sorted(files)}", settings.read_text()))


def run(folder: Path, command: str) -> None:
    done = execute(folder, command)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def refused(folder: Path, command: str) -> str:
    done = execute(folder, command)
    assert done.returncode != 0, command
    return done.stdout + done.stderr


def execute(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """As a newcomer would, with the settings that there are without any."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    shown = command if not command.startswith("git ") else "true"  # A copy has no history.
    return subprocess.run(["sh", "-c", shown], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200)


def add(file: Path, text: str) -> None:
    """A new file, or what an author types into one that is there: imports, fields of a class, lines at the end."""
    if not file.exists():
        file.write_text(text)
        return
    for node in ast.parse(text).body:
        file.write_text(with_statement(file.read_text(), ast.get_source_segment(text, node) or "", node))


def with_statement(text: str, statement: str, node: ast.stmt) -> str:
    lines, body = text.splitlines(), ast.parse(text).body
    imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
    match node:
        case ast.Import() | ast.ImportFrom():
            lines.insert(imports[-1].end_lineno or 0, statement)
        case ast.If():
            lines[imports[-1].end_lineno or 0 : imports[-1].end_lineno or 0] = ["", statement]
        case ast.ClassDef(name=name):
            place = next(each for each in body if isinstance(each, ast.ClassDef) and each.name == name).end_lineno or 0
            lines.insert(place, statement.partition("\n")[2])
        case _:
            lines.append(statement)
    return "\n".join(lines) + "\n"
