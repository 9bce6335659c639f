"""Finds classes of root fields that no root type has: an entity's `…Query` that nobody added to `graph/schema.py` is served to nobody.

python scripts/checks/root_types.py graph
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("Query", "Mutation", "Subscription")


def classes(path: Path) -> Iterator[ast.ClassDef]:
    yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))


def unserved(folder: Path) -> list[str]:
    schema = folder / "schema.py"
    bases = {base.id for root in classes(schema) for base in root.bases if isinstance(base, ast.Name)}
    return [
        f"{path} declares {found.name}, which is in no root type: add it to the bases of {root} in {schema}"
        for path in sorted(folder.rglob("*.py"))
        if path != schema
        for found in classes(path)
        for root in ROOTS
        if found.name.endswith(root) and found.name not in bases and any("strawberry" in ast.unparse(each) for each in found.decorator_list)
    ]


if __name__ == "__main__":
    said = unserved(Path(sys.argv[1]))
    print(*said, sep="\n", end="\n" if said else "")
    sys.exit(1 if said else 0)
