"""Refuses names outside the field's vocabulary, and public classes that share a name.

Names are what readers search for. A participle as a noun (`told`, `kept`) says that something happened, not what it is; a metaphor has to be learnt.
Add a word here when a review finds another one. Names inside tests are free; those of their files are not.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("graph", "persistence", "scripts")
BANNED = frozenset(
    [
        "asked",
        "bill",
        "biller",
        "contestant",
        "contestants",
        "chore",
        "cuts",
        "dearest",
        "departure",
        "errand",
        "errands",
        "excess",
        "farewell",
        "gathered",
        "gathering",
        "gatherings",
        "given",
        "goodbye",
        "heard",
        "impatient",
        "invented",
        "joined",
        "kept",
        "lanes",
        "ledger",
        "mend",
        "mended",
        "nobody",
        "outage",
        "promises",
        "purse",
        "ruler",
        "scout",
        "seat",
        "seats",
        "shim",
        "shims",
        "somebody",
        "standing",
        "standings",
        "stranger",
        "strangers",
        "stroke",
        "strokes",
        "told",
        "turns",
        "unhurried",
        "upkeep",
        "verdict",
        "vitals",
        "wanted",
        "whoever",
        "written",
        "wrote",
    ]
)
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Names of the public schema and of libraries cannot change.
EXEMPT = frozenset({"bytes_written"})


def files(*packages: str) -> list[Path]:
    found = (path for package in packages for path in Path(package).rglob("*.py"))
    return sorted(path for path in found if "versions" not in path.parts and "node_modules" not in path.parts)


def definitions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case _:
                pass


def banned(name: str) -> set[str]:
    return set() if name in EXEMPT else {word.lower() for word in WORDS.findall(name)} & BANNED


def is_graphql(node: ast.ClassDef) -> bool:
    """Whether a class is a type of the schema, which may have the name of the row or the error that it shows."""
    return any("strawberry" in ast.unparse(decorator) for decorator in node.decorator_list)


def problems() -> Iterator[str]:
    for path in files(*PACKAGES, "tests"):
        for word in banned(path.stem.replace("power_cuts", "")):
            yield f"{path}: '{word}' in a file name"
    for path in files(*PACKAGES):
        for name, line in definitions(ast.parse(path.read_text())):
            for word in sorted(banned(name)):
                yield f"{path}:{line}: '{word}' in {name}"
    yield from shared_names()


def shared_names() -> Iterator[str]:
    """Public classes of one name."""
    classes: defaultdict[str, list[str]] = defaultdict(list)
    for path in files("graph", "persistence"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not is_graphql(node):
                classes[node.name].append(f"{path}:{node.lineno}")
    for name, places in classes.items():
        if len(places) > 1:
            yield f"two classes {name}: {', '.join(places)}"


if __name__ == "__main__":
    found = list(problems())
    print(*found, sep="\n")
    sys.exit(bool(found))
