"""Refuses circles of imports between modules and between packages, also those that only type checkers see, and entities in a kit.

A circle by TYPE_CHECKING does not break a start, but its modules can only be read and changed together; a Protocol, or the shared class in a module of its
own, ends it. GraphQL types refer to each other in circles by nature: what `strawberry.lazy` names is no import of this kind.

import-linter holds the contracts in pyproject.toml. What is refused here it could only allow, import by import.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

LAZY = re.compile(r'strawberry\.lazy\("([\w.]+)"\)')


def problems(packages: list[str]) -> Iterator[str]:
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    yield from entities_in_kits(graph)
    yield from circles(graph)


def entities_in_kits(graph: grimp.ImportGraph) -> Iterator[str]:
    """A kit of one package knows the other's kit, and no entity."""
    for importer in sorted(graph.modules):
        if importer.split(".")[1:2] == ["kit"]:
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if imported.split(".")[1:2] != ["kit"]:
                    yield f"{importer} imports {imported}: a kit knows no entity"


def circles(graph: grimp.ImportGraph) -> Iterator[str]:
    for module in graph.modules:
        for lazy in set(LAZY.findall(source(module))):
            if graph.direct_import_exists(importer=module, imported=lazy):
                graph.remove_import(importer=module, imported=lazy)
    for parent in sorted(module for module in graph.modules if graph.find_children(module)):
        for importer, imported in sorted(graph.nominate_cycle_breakers(parent)):
            yield f"{importer} imports {imported}, which closes a circle inside {parent}"


def source(module: str) -> str:
    path = Path(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    found = list(problems(sys.argv[1:]))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
