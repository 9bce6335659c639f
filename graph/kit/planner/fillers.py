"""Filling the holes that a statement leaves in its rows' JSON, for the viewer of one run.

Each filler is given the distinct contents of its holes and returns for each the JSON that belongs there and what it costs beyond its row.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

import orjson
from graphql import GraphQLError, GraphQLField, GraphQLSchema
from graphql.execution import get_argument_values, get_variable_values

from graph.kit.context import Context
from graph.kit.entity.declaration import ComputedValue
from graph.kit.entity.visibility import Visibility
from graph.kit.execution.engine import Operation
from graph.kit.planner.arguments import Plain, reader
from graph.kit.planner.selection import Unplannable
from persistence.kit.query.holes import contents, fill, holes
from persistence.kit.query.reader import Aggregates

T = TypeVar("T")
Filled = tuple[bytes, int]
"""JSON, and points."""


class Run:
    """One run of a plan."""

    def __init__(
        self, schema: GraphQLSchema, operation: Operation, is_plain: Plain, variables: Mapping[str, Any], context: Context
    ) -> None:
        self._schema, self._operation = schema, operation
        self.variables, self.context = variables, context
        self.is_plain = is_plain(variables)
        """Whether all variables arrived as what they must be, so that nothing is to be coerced."""

    @cached_property
    def coerced(self) -> Any:
        """Raises: Unplannable."""
        values = get_variable_values(self._schema, self._operation.definition.variable_definitions or (), dict(self.variables))
        if isinstance(values, list):
            raise Unplannable("variables that do not fit")
        return values


class FieldArguments:
    """The arguments of one field, as its resolver would get them."""

    def __init__(
        self, definition: GraphQLField, node: Any, names: Mapping[str, str], convert: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self._definition, self._node, self._convert = definition, node, convert
        self._plain = reader(definition, node, names)

    def __call__(self, run: Run) -> dict[str, Any]:
        """Raises: GraphQLError, Unplannable."""
        if self._plain and run.is_plain:
            return self._plain(run.variables)
        return self._convert(get_argument_values(self._definition, self._node, run.coerced))


class Filler(Protocol):
    async def fill(self, run: Run, contents: Sequence[bytes]) -> Sequence[Filled]: ...


class ValueFiller:
    """What Python makes of values of the row. `serialize` brings it into the form of the response."""

    def __init__(self, source: ComputedValue, kinds: Sequence[Callable[[Any], Any] | None], serialize: Callable[[Any], Any]) -> None:
        self._source, self._kinds, self._serialize = source, kinds, serialize

    async def fill(self, run: Run, contents: Sequence[bytes]) -> Sequence[Filled]:
        return [(self._json(run.context, content), 0) for content in contents]

    def _json(self, context: Context, content: bytes) -> bytes:
        values, visible = json.loads(content), self._source.visible
        if visible is not None and not visible.sees(context, values.pop(0)):
            return b"null"
        typed = [value if kind is None or value is None else kind(value) for kind, value in zip(self._kinds, values, strict=True)]
        try:
            return orjson.dumps(self._serialize(self._source.compute(*typed)))
        except (TypeError, ValueError, GraphQLError) as error:
            raise Unplannable("a value that is not of its type") from error


class PrivateFiller:
    """A column that not every viewer sees: its JSON is as the database wrote it, behind the id of the user whose it is."""

    def __init__(self, visible: Visibility) -> None:
        self._visible = visible

    async def fill(self, run: Run, contents: Sequence[bytes]) -> Sequence[Filled]:
        parts = [content[1:-1].partition(b",") for content in contents]
        return [(json if self._sees(run, owner) else b"null", 0) for owner, _, json in parts]

    def _sees(self, run: Run, owner: bytes) -> bool:
        return self._visible.sees(run.context, None if owner == b"null" else int(owner))


class AggregateFiller:
    """Numbers about the rows that point to each of some parents, whose ids are the contents of the holes; each costs the same."""

    def __init__(self, aggregates: Aggregates, serialize: Callable[[Any], Any], points: int) -> None:
        self._aggregates, self._serialize, self._points = aggregates, serialize, points

    async def fill(self, run: Run, contents: Sequence[bytes]) -> Sequence[Filled]:
        values = await self._aggregates.many([int(content) for content in contents])
        return [(orjson.dumps(self._serialize(value)), self._points) for value in values]


def attributes_of(source: ComputedValue) -> tuple[str, ...]:
    """What a hole of such a value must hold."""
    visible = source.visible
    return source.attributes if visible is None else (visible.own or "id", *source.attributes)


async def fill_rows(
    run: Run, fillers: Sequence[Filler], columns: Sequence[Sequence[bytes]]
) -> tuple[Sequence[Sequence[bytes]], Sequence[int]]:
    """The texts of rows with their holes filled, column by column, and what each row costs by them. Raises: BrokenRow."""
    found = holes(columns) if fillers else {}
    if not found:
        return columns, [0] * len(columns[0])
    filled: dict[bytes, bytes] = {}
    points: dict[bytes, int] = {}
    requested = [(number, sorted(each)) for number, each in found.items()]
    answers = await together([fillers[number].fill(run, each) for number, each in requested])
    for (number, each), answer in zip(requested, answers, strict=True):
        for content, (text, cost) in zip(each, answer, strict=True):
            filled[b"%d:%b" % (number, content)], points[b"%d:%b" % (number, content)] = text, cost
    if not any(points.values()):
        return [fill(column, filled) for column in columns], [0] * len(columns[0])
    costs = [sum([points[hole] for hole in contents(b"".join(texts))]) for texts in zip(*columns, strict=True)]
    return [fill(column, filled) for column in columns], costs


async def together(works: Sequence[Awaitable[T]]) -> Sequence[T]:
    """All at once. None is left running when one fails, and the first failure is raised."""
    if len(works) == 1:
        return [await works[0]]
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("Sequence[T]", results)
