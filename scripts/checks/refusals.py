"""Finds refusals that no client is told of: a `DomainError` that `graph/` never names would be an internal error when it is raised.

python scripts/checks/refusals.py persistence graph
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def refusals(folder: Path) -> dict[str, Path]:
    """The names of all classes that descend from `DomainError`, and their files."""
    parents: dict[str, tuple[Path, list[str]]] = {}
    for path in sorted(folder.rglob("*.py")):
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.ClassDef):
                parents[found.name] = path, [ast.unparse(base).rpartition(".")[2] for base in found.bases]

    def descends(name: str) -> bool:
        return any(base == "DomainError" or descends(base) for base in parents[name][1]) if name in parents else False

    return {name: path for name, (path, _) in parents.items() if descends(name)}


def names(folder: Path) -> set[str]:
    """All names that the code uses, of its own and of other modules."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def untold(persistence: Path, graph: Path) -> list[str]:
    known = names(graph)
    return [
        f"{path} declares {name}, which nothing in {graph} answers: declare its union member there, with @member_for({path.stem}.{name})"
        for name, path in refusals(persistence).items()
        if name not in known
    ]


if __name__ == "__main__":
    said = untold(*map(Path, sys.argv[1:]))
    print(*said, sep="\n", end="\n" if said else "")
    sys.exit(1 if said else 0)
