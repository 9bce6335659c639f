"""Steps: what fills the placeholders that a statement leaves in its rows' JSON. Each runs once for all rows of its level.

A step is given the distinct keys that stand in its placeholders, and returns for each the JSON that belongs there and what it costs beyond its row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import orjson
from graphql import GraphQLError

from graph.kit.entity.declaration import ComputedValue
from graph.kit.entity.visibility import Visibility
from graph.kit.execution.concurrency import gather
from graph.kit.planner.plan_execution import PlanExecution
from graph.kit.planner.unplannable import Unplannable
from persistence.kit.json_rows.lookup import Aggregates
from persistence.kit.json_rows.placeholders import Placeholders, contents_by_number

JsonAndCost = tuple[bytes, int]
"""JSON, and points."""
REMEMBERED, REMEMBERED_LENGTH = 1_000, 500  # Of each computed field: values, and bytes of them; a megabyte.


class PlanStep(Protocol):
    def prepare(self, run: PlanExecution) -> None:
        """Make the statements that it runs, if they are not made yet. Raises: DomainError, GraphQLError, Unplannable."""

    async def execute(self, run: PlanExecution, keys: Sequence[bytes]) -> Sequence[JsonAndCost]: ...


class ComputedJson:
    """What Python makes of values of a row, remembered by these. `serialize` brings it into the form of the response."""

    def __init__(self, compute: Callable[..., Any], kinds: Sequence[Callable[[Any], Any] | None], serialize: Callable[[Any], Any]) -> None:
        self._compute, self._kinds, self._serialize = compute, kinds, serialize
        self._remembered = lru_cache(REMEMBERED)(self._json)

    def json(self, values: bytes) -> bytes:
        """Of a list as JSON. Raises: Unplannable."""
        return self._remembered(values) if len(values) <= REMEMBERED_LENGTH else self._json(values)

    def _json(self, values: bytes) -> bytes:
        typed = [
            value if kind is None or value is None else kind(value) for kind, value in zip(self._kinds, json.loads(values), strict=True)
        ]
        try:
            return orjson.dumps(self._serialize(self._compute(*typed)))
        except (TypeError, ValueError, GraphQLError) as error:
            raise Unplannable("a value that is not of its type") from error


class ComputedValueStep(PlanStep):
    """A value of the row that Python works out, or that is as the database wrote it and not for every viewer."""

    def __init__(self, computed: ComputedJson | None, visible: Visibility | None) -> None:
        self._computed, self._visible = computed, visible

    async def execute(self, run: PlanExecution, keys: Sequence[bytes]) -> Sequence[JsonAndCost]:
        return self.values(run, keys)

    def values(self, run: PlanExecution, keys: Sequence[bytes]) -> Sequence[JsonAndCost]:
        """Which are there at once: nothing is read."""
        if self._visible is None:
            return [(self._json(key), 0) for key in keys]
        sees, json = self._visible.rule(run.context), self._json
        # Before the values stands the id of the user whose they are.
        parts = [key.split(b",", 1) for key in keys]
        return [(json(b"[" + values) if sees(_id(owner[1:])) else b"null", 0) for owner, values in parts]

    def _json(self, values: bytes) -> bytes:
        return values[1:-1] if self._computed is None else self._computed.json(values)


def _id(json: bytes) -> int | None:
    return None if json == b"null" else int(json)


class AggregateStep(PlanStep):
    """Numbers about the rows that point to each of some parents, whose ids are the keys; each costs the same."""

    def __init__(self, aggregates: Aggregates, serialize: Callable[[Any], Any], points: int) -> None:
        self._aggregates, self._serialize, self._points = aggregates, serialize, points

    async def execute(self, run: PlanExecution, keys: Sequence[bytes]) -> Sequence[JsonAndCost]:
        values = await self._aggregates.many([int(key) for key in keys])
        return [(orjson.dumps(self._serialize(value)), self._points) for value in values]


def attributes_of(source: ComputedValue) -> tuple[str, ...]:
    """What a placeholder of such a value must hold."""
    visible = source.visible
    return source.attributes if visible is None else (visible.own or "id", *source.attributes)


def prepare_all(steps: Sequence[PlanStep], run: PlanExecution) -> None:
    for step in steps:
        step.prepare(run)


async def fill_placeholders(
    run: PlanExecution, steps: Sequence[PlanStep], columns: Sequence[Sequence[bytes]]
) -> tuple[Sequence[Sequence[bytes]], Sequence[int]]:
    """The texts of rows with their placeholders filled, column by column, and what each row costs by them. Raises: BrokenRow."""
    costs = [0] * len(columns[0])
    placeholders = list(map(Placeholders, columns)) if steps else []
    if not (found := contents_by_number(placeholders)):
        return columns, costs
    answered = await _answered(run, [(steps[int(number)], contents) for number, contents in found.items()])
    filled = {placeholder: text for placeholder, (text, _) in answered.items()}
    points = {placeholder: cost for placeholder, (_, cost) in answered.items() if cost}
    if points:
        for column in placeholders:
            column.add_points(costs, points)
    return [column.filled(filled) for column in placeholders], costs


async def _answered(run: PlanExecution, requests: Sequence[tuple[PlanStep, Mapping[bytes, bytes]]]) -> dict[bytes, JsonAndCost]:
    """What each step makes of its keys, by their placeholders. A task each would take longer than most values, so only what reads gets one."""
    answered, reading = dict[bytes, JsonAndCost](), list[tuple[PlanStep, Mapping[bytes, bytes]]]()
    for step, contents in requests:
        if isinstance(step, ComputedValueStep):
            answered.update(zip(contents, step.values(run, list(contents.values())), strict=True))
        else:
            reading.append((step, contents))
    answers = await gather([step.execute(run, list(contents.values())) for step, contents in reading]) if reading else ()
    for (_, contents), answer in zip(reading, answers, strict=True):
        answered.update(zip(contents, answer, strict=True))
    return answered
