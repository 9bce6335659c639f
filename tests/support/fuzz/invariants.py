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


REFUSALS = frozenset({501, 505})
"""Beyond 499, and still no failure: of a method, a transfer coding or a version that nobody speaks here."""


async def answered(work: Any) -> Any:
    """Nothing may take longer than a busy machine makes it."""
    counted()
    async with asyncio.timeout(30):
        return await work


def judge(status: int, body: bytes, sent: bytes | str = b"") -> None:
    """Raises: AssertionError, for a failure, for a word about the inside, and for an error without a code."""
    assert status < 500 or status in REFUSALS, (status, body)
    text = body.decode(errors="replace")
    asked = sent if isinstance(sent, str) else sent.decode(errors="replace")
    leaked = {found[0] for found in LEAK.finditer(text)}
    assert all(leak in asked for leak in leaked), (leaked, text[:2_000])
    if status >= 400:
        assert not text.lstrip().startswith("<"), text[:200]
    if text.startswith("{"):
        judge_errors(json.loads(text))


def judge_response(answer: dict[str, Any]) -> None:
    """Raises: AssertionError, for what is no response. Source: GraphQL specification of September 2026, section 7.1."""
    assert answer, "empty"
    assert set(answer) <= {"data", "errors", "extensions"}, answer
    assert isinstance(answer.get("data"), dict | None), answer
    assert isinstance(answer.get("extensions", {}), dict), answer
    assert answer.get("errors") or answer.get("data") is not None, answer  # Without data there is an error that says why.
    assert answer.get("errors", True), answer  # A list of errors is not empty.
    for error in answer.get("errors", ()):
        _judge_error(error, answer)
    judge_errors(answer)


def _judge_error(error: dict[str, Any], answer: dict[str, Any]) -> None:
    assert {"message", "extensions"} <= set(error) <= {"message", "locations", "path", "extensions"}, answer
    assert isinstance(error["message"], str), answer
    assert error["message"], answer
    assert error.get("locations", True), answer
    for place in error.get("locations", ()):
        assert set(place) == {"line", "column"}, answer
        assert all(type(number) is int and number > 0 for number in place.values()), answer
    if "path" in error:
        assert error["path"], answer
        assert "data" in answer, answer  # Before execution there is no field.
        assert _is_null_at(answer["data"], error["path"]), answer


def _is_null_at(data: Any, path: list[Any]) -> bool:
    """Whether the place of an error, or one around it, is null."""
    if data is None or not path:
        return data is None
    step, *rest = path
    assert step in (range(len(cast("list[Any]", data))) if isinstance(data, list) else data), path
    return _is_null_at(data[step], rest)


def judge_errors(answer: dict[str, Any]) -> None:
    listed = answer.get("errors") or ([answer["error"]] if "error" in answer else [])
    for error in cast("list[dict[str, Any]]", listed):
        code = error.get("code") or error["extensions"]["code"]
        assert code in CODES - FAILURES, answer
        assert isinstance(error["message"], str), answer


# It answers all the same, by another way; but something on the first one is broken.
FAULTS = {"the fast path failed"}


class Complaints:
    """What the service logs as its own fault."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in {"error", "exception", "critical"} or event["event"] in FAULTS:
            self.seen.append(event)
        raise structlog.DropEvent


@contextmanager
def listening_to_complaints() -> Generator[Complaints]:
    complaints, before = Complaints(), structlog.get_config()
    structlog.configure(processors=[complaints])
    yield complaints
    structlog.configure(**before)
