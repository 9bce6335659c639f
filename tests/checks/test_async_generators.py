"""The check of asynchronous generators …"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "scripts" / "checks" / "async_generators.py"


def refused(tmp_path: Path, body: str) -> list[int]:
    """The lines of a function's body that it refuses."""
    (tmp_path / "code.py").write_text("async def f(given):\n" + "".join(f"    {line}\n" for line in body.splitlines()))
    done = subprocess.run([sys.executable, CHECK, str(tmp_path)], capture_output=True, text=True, check=False)
    lines = [int(line.split(":")[1]) - 1 for line in done.stdout.splitlines()]
    assert done.returncode == bool(lines), done.stderr
    return lines


@pytest.mark.parametrize(
    "body",
    [
        "async for each in given():\n    pass",
        "async for each in given.rows(1):\n    yield each",
        "return [each async for each in given()]",
        "return {each async for each in given()}",
        "return sorted(each async for each in given())",
        "rows = given()\nasync for each in rows:\n    pass",
        "rows = given() if given else given.other()\nasync for each in rows:\n    pass",
        "rows: AsyncGenerator[int] = given()\nasync for each in rows:\n    pass",
        "if given:\n    async with given:\n        async for each in given():\n            pass",
        "async def inner():\n    async for each in given():\n        pass",
        "return await anext(given())",
        "rows = given()\nreturn await anext(rows, None)",
        "return builtins.aiter(given())",
        "async for each in await given():\n    pass",
        "rows = await given()\nasync for each in rows:\n    pass",
        "async for each in (rows := given()):\n    pass",
        "if rows := given():\n    return [each async for each in rows]",
        "rows, other = given(), 1\nasync for each in rows:\n    pass",
        "rows = (each async for each in given)\nasync for each in rows:\n    pass",
        "async for each in given or given():\n    pass",
        "return StreamingResponse(given)",
    ],
)
def test_refuses_what_nobody_closes(tmp_path: Path, body: str) -> None:
    assert len(refused(tmp_path, body)) == 1


@pytest.mark.parametrize(
    "body",
    [
        "async with aclosing(given()) as rows:\n    async for each in rows:\n        pass",
        "async for each in given:\n    pass",
        "async for each in given.rows:\n    pass",
        "return [each async for each in given]",
        "rows: AsyncIterator[int] = given()\nasync for each in rows:\n    pass",
        "for each in given():\n    pass",
        "return await anext(given.rows)",
        "rows, other = given, given()\nasync for each in rows:\n    pass",
        "async with aclosing(given()) as rows:\n    return await anext(rows)",
    ],
)
def test_lets_pass_what_somebody_closes(tmp_path: Path, body: str) -> None:
    assert refused(tmp_path, body) == []


def test_finds_nothing_in_the_product() -> None:
    done = subprocess.run([sys.executable, CHECK, "graph", "persistence", "scripts"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
