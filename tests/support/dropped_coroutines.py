"""Coroutines that graphql-core drops before they have begun, which Python warns of and the tests expect.

When a field that must not be null fails, graphql-core cancels or drops the resolvers of its siblings. pyproject.toml ignores the warning, but where
the garbage collector runs inside the constructor of a named tuple, which has no builtins, Python cannot even look at what is ignored.
"""

from __future__ import annotations

import re
import sys
from types import CoroutineType

EXPECTED = re.compile(r"(GraphQLCoreConverter|Executor|LeafExecutor)[.]")


def is_expected(unraisable: sys.UnraisableHookArgs) -> bool:
    dropped, error = unraisable.object, unraisable.exc_value
    without_builtins = isinstance(error, KeyError) and error.args == ("__import__",)
    return without_builtins and isinstance(dropped, CoroutineType) and EXPECTED.match(dropped.__qualname__) is not None


def expect() -> None:
    report = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not is_expected(unraisable):
            report(unraisable)

    sys.unraisablehook = hook
