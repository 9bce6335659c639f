"""What an answer must never be, whatever was asked; and how many inputs a run of the fuzz tests takes."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import structlog
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from graph.kit import errors
from graph.server.asgi import error_responses

T = TypeVar("T")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SUITE_EXAMPLES = 600  # Of all fuzz tests together, in ./scripts/test: always the same ones.
CODES = {value for module in (errors, error_responses) for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
FAILURES = {errors.INTERNAL, errors.UNAVAILABLE}
LEAK = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/tmp/|(?:SELECT|INSERT|UPDATE) |sqlalchemy|sqlite|asyncpg|<class|<function|object at 0x|NoneType|\bsys\.|"
    r"has no attribute|not subscriptable|positional argument|\bgraph\.|persistence\.|strawberry|uvicorn|starlette|(?<![A-Za-z])[A-Z][A-Za-z]*(?:Error|Exception)\b"
)


class Count:
    inputs = 0


def fuzzed(share: float) -> Callable[[T], T]:
    """This share of the run's inputs goes to the test. A long run looks elsewhere each time, and remembers what failed."""
    suite = not EXAMPLES
    wanted = math.ceil(share * (EXAMPLES or SUITE_EXAMPLES))
    return settings(
        max_examples=wanted,
        derandomize=suite,
        database=None if suite else DirectoryBasedExampleDatabase(".hypothesis/examples"),
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
            HealthCheck.function_scoped_fixture,
        ],
        print_blob=True,
    )


def counted() -> None:
    Count.inputs += 1


async def answered(work: Any) -> Any:
    """Nothing may take longer than a busy machine makes it."""
    counted()
    async with asyncio.timeout(30):
        return await work


def judge(status: int, body: bytes, sent: bytes | str = b"") -> None:
    """Raises: AssertionError, for a failure, for a word about the inside, and for an error without a code."""
    assert status < 500, (status, body)
    text = body.decode(errors="replace")
    asked = sent if isinstance(sent, str) else sent.decode(errors="replace")
    leaked = {found[0] for found in LEAK.finditer(text)}
    assert all(leak in asked for leak in leaked), (leaked, text[:2_000])
    if status >= 400:
        assert not text.lstrip().startswith("<"), text[:200]
    if text.startswith("{"):
        judge_errors(json.loads(text))


def judge_errors(answer: dict[str, Any]) -> None:
    listed = answer.get("errors") or ([answer["error"]] if "error" in answer else [])
    for error in cast("list[dict[str, Any]]", listed):
        code = error.get("code") or error["extensions"]["code"]
        assert code in CODES - FAILURES, answer
        assert isinstance(error["message"], str), answer


class Complaints:
    """What the service logs as its own fault."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in {"error", "exception", "critical"}:
            self.seen.append(event)
        raise structlog.DropEvent


@contextmanager
def listening_to_complaints() -> Generator[Complaints]:
    complaints, before = Complaints(), structlog.get_config()
    structlog.configure(processors=[complaints])
    yield complaints
    structlog.configure(**before)
