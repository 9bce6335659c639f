"""Forbids to iterate an asynchronous generator without `aclosing`: left early, it would go on holding what it holds until a collector finds it.

`async for x in call()` is refused, in loops and comprehensions, `anext(call())` is, and so is a name that was assigned a call. What is given a name by `async
with aclosing(call()) as name`, what is a parameter, and what is annotated as an AsyncIterable or AsyncIterator belongs to somebody else, who closes it.
Starlette's StreamingResponse closes nothing, so it is refused whatever it is given.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

RESPONSES = {"StreamingResponse"}
TAKING = {"anext", "aiter", *RESPONSES}

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


def faults(source: str) -> Iterator[int]:
    """Lines that iterate what nobody closes."""
    tree = ast.parse(source)
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))]:
        made = set(_made(scope))
        yield from (each.lineno for each in _iterated(scope) if _makes(each) or (isinstance(each, ast.Name) and each.id in made))


def _iterated(scope: Function) -> Iterator[ast.expr]:
    for node in _within(scope):
        if isinstance(node, ast.AsyncFor) or (isinstance(node, ast.comprehension) and node.is_async):
            yield node.iter
        elif isinstance(node, ast.Call) and (name := ast.unparse(node.func).rpartition(".")[2]) in TAKING:
            yield node if name in RESPONSES else node.args[0]


def _within(scope: Function) -> Iterator[ast.AST]:
    """What belongs to a function itself, and to none inside it."""
    waiting: list[ast.AST] = list(scope.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            waiting += ast.iter_child_nodes(node)


def _made(scope: Function) -> Iterator[str]:
    """Names that are assigned a call."""
    for node in _within(scope):
        if isinstance(node, ast.Assign):
            yield from (name for target in node.targets for name in _assigned(target, node.value))
        elif isinstance(node, ast.NamedExpr):
            yield from _assigned(node.target, node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and "AsyncGenerator" in ast.unparse(node.annotation):
            yield node.target.id


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for each, its_value in zip(target.elts, value.elts, strict=False):
            yield from _assigned(each, its_value)
    elif isinstance(target, ast.Name) and _makes(value):
        yield target.id


def _makes(value: ast.expr) -> bool:
    match value:
        case ast.IfExp():
            return _makes(value.body) or _makes(value.orelse)
        case ast.BoolOp():
            return any(map(_makes, value.values))
        case ast.Await() | ast.NamedExpr():
            return _makes(value.value)
        case ast.GeneratorExp():
            return any(each.is_async for each in value.generators)
        case _:
            return isinstance(value, ast.Call)


def main(folders: list[str]) -> int:
    found = [
        f"{file}:{line}: iterates an asynchronous generator that nobody closes: use `async with aclosing(…) as …`"
        for folder in folders
        for file in sorted(Path(folder).rglob("*.py"))
        if not {"node_modules", "rivals"} & set(file.parts)
        for line in sorted(set(faults(file.read_text(encoding="utf-8"))))
    ]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
