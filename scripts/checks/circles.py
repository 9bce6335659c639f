"""Refuses circles of imports between modules, and between the packages of one package, also those that only type checkers see.

A circle by TYPE_CHECKING does not break a start, but its modules can only be read and changed together; a Protocol, or the shared class in a module of its
own, ends it. GraphQL types refer to each other in circles by nature: what `strawberry.lazy` names is no import of this kind.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import grimp

LAZY = re.compile(r'strawberry\.lazy\("([\w.]+)"\)')


def circles(packages: list[str]) -> list[str]:
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    for module in graph.modules:
        for lazy in set(LAZY.findall(source(module))):
            if graph.direct_import_exists(importer=module, imported=lazy):
                graph.remove_import(importer=module, imported=lazy)
    parents = sorted(module for module in graph.modules if graph.find_children(module))
    return [
        f"{importer} imports {imported}, which closes a circle inside {parent}"
        for parent in parents
        for importer, imported in sorted(graph.nominate_cycle_breakers(parent))
    ]


def source(module: str) -> str:
    path = Path(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    found = circles(sys.argv[1:])
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
