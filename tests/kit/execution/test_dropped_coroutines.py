"""A coroutine that graphql-core drops fails no test, wherever it is collected; any other does."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.support import dropped_coroutines


class Executor:
    async def complete(self) -> None: ...


def drop_without_builtins(name: str) -> None:
    """As when garbage is collected inside the constructor of a named tuple."""
    box: list[Any] = [Executor().complete()]
    box[0].__qualname__ = name
    eval("box.clear()", {"__builtins__": {}, "box": box})


@pytest.mark.parametrize(("name", "expected"), [("Executor.complete", True), ("Resolver.complete", False)])
def test_expects_what_graphql_core_drops(monkeypatch: pytest.MonkeyPatch, name: str, expected: bool) -> None:
    seen = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    dropped_coroutines.expect()
    drop_without_builtins(name)
    assert (not seen) == expected
