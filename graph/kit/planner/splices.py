"""Resolvers on a plan: fields that are no columns, run once a page or a row and put into its JSON.

A resolver that is declared so (on a connection or an edge by `graph.kit.connections.spliced`, on an entity by `resolved`) does not take its neighbours
off the plan. It is called as the reference executor calls
it, with the arguments that this would give it; what it returns is written by the types of the schema, and priced as any answer is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

import orjson
from graphql import FieldNode, GraphQLField, GraphQLList, GraphQLNonNull, GraphQLObjectType
from strawberry.types.field import StrawberryField

from graph.kit.execution.concurrency import gather
from graph.kit.limits.cost import FieldCost
from graph.kit.planner.collect_fields import FieldCollector
from graph.kit.planner.plan_execution import FieldArguments, PlanExecution
from graph.kit.planner.steps import JsonAndCost, PlanStep
from graph.kit.planner.unplannable import Unplannable
from persistence.kit.json_rows.json_page import JsonPage

if TYPE_CHECKING:
    from graph.kit.context import Context


class Arguments(Protocol):
    def arguments(self, definition: GraphQLField, node: FieldNode) -> FieldArguments: ...


class Building(Protocol):
    """What is needed of the compiler, which needs this module."""

    @property
    def schema(self) -> Arguments: ...

    @property
    def selection(self) -> FieldCollector: ...


@dataclass(frozen=True)
class _Info:
    """What a spliced resolver may look at of its `info`."""

    context: Context


def attributes_to_splice(definition: GraphQLField) -> tuple[str, ...] | None:
    """The attributes of the row that a spliced resolver looks at; None for a field that is not spliced."""
    declared: StrawberryField = definition.extensions["strawberry-definition"]
    return declared.metadata.get("spliced")


class ResolvedField:
    """One field of an object, and what is selected below it."""

    def __init__(self, builder: Building, parent: GraphQLObjectType, nodes: Sequence[FieldNode]) -> None:
        """Raises: Unplannable."""
        self._definition = parent.fields[nodes[0].name.value]
        declared: Any = self._definition.extensions["strawberry-definition"]
        self._attribute: str = declared.python_name
        self._resolver: Any = declared.base_resolver.wrapped_func if declared.base_resolver else None
        self._takes_info = self._resolver is not None and "info" in inspect.signature(self._resolver).parameters
        self._arguments = builder.schema.arguments(self._definition, nodes[0])
        self._type: Any = self._definition.type
        named = _named(self._type)
        self._below = _fields(builder, named, nodes) if isinstance(named, GraphQLObjectType) else {}

    async def value(self, run: PlanExecution, source: Any) -> Any:
        """In the form of the response. Raises: DomainError, GraphQLError, Unplannable."""
        found = await self._resolved(run, source)
        return await self._complete(run, self._type, found)

    async def _resolved(self, run: PlanExecution, source: Any) -> Any:
        if self._resolver is None:
            return getattr(source, self._attribute)
        info = {"info": _Info(run.context)} if self._takes_info else {}
        found = self._resolver(source, **info, **self._arguments(run))
        return await found if inspect.isawaitable(found) else found

    async def _complete(self, run: PlanExecution, type_: Any, value: Any) -> Any:
        if isinstance(type_, GraphQLNonNull):
            if value is None:
                raise Unplannable("null where nothing may be null")
            return await self._complete(run, _inner(type_), value)
        if value is None:
            return None
        if isinstance(type_, GraphQLList):
            return [await self._complete(run, _inner(type_), each) for each in value]
        if not isinstance(type_, GraphQLObjectType):
            return type_.serialize(value)
        fields = [name for name, each in self._below.items() if isinstance(each, ResolvedField)]
        values = await gather([cast("ResolvedField", self._below[name]).value(run, value) for name in fields]) if fields else ()
        found = dict(zip(fields, values, strict=True))
        return {name: found[name] if isinstance(each, ResolvedField) else each for name, each in self._below.items()}


def _fields(builder: Building, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> dict[str, ResolvedField | str]:
    selected = builder.selection.below(type_, nodes)
    return {
        name: type_.name if each[0].name.value == "__typename" else ResolvedField(builder, type_, each) for name, each in selected.items()
    }


def _inner(type_: Any) -> Any:
    return type_.of_type


def _named(type_: Any) -> Any:
    return _named(_inner(type_)) if isinstance(type_, GraphQLNonNull | GraphQLList) else type_


class Splice:
    """A resolver's JSON for a page; with `attributes`, for each of its rows, of which it reads the columns in these places."""

    def __init__(self, field: ResolvedField, attributes: Mapping[str, int] | None, charges: Sequence[FieldCost]) -> None:
        self._field, self._attributes, self._charges = field, attributes, charges

    async def of(self, run: PlanExecution, page: JsonPage) -> tuple[Any, int]:
        """The JSON and its points."""
        if self._attributes is None:
            values = [await self._field.value(run, SimpleNamespace(query=page.query))]
            return orjson.dumps(values[0]), points_of(self._charges, run, values)
        values = [await self._field.value(run, SimpleNamespace(query=page.query, row=row)) for row in self._rows(page)]
        return [orjson.dumps(value) for value in values], points_of(self._charges, run, values)

    def _rows(self, page: JsonPage) -> Sequence[Any]:
        columns = {name: map(orjson.loads, page.columns[place]) for name, place in (self._attributes or {}).items()}
        return [SimpleNamespace(**{name: next(column) for name, column in columns.items()}) for _ in range(len(page))]


class ResolvedStep(PlanStep):
    """A resolver of an entity's own field, run for all rows of a level at once; the keys hold these attributes of each."""

    def __init__(self, field: ResolvedField, attributes: Sequence[str], charges: Sequence[FieldCost]) -> None:
        self._field, self._attributes, self._charges = field, attributes, charges

    async def execute(self, run: PlanExecution, keys: Sequence[bytes]) -> Sequence[JsonAndCost]:
        rows = [SimpleNamespace(**dict(zip(self._attributes, orjson.loads(key), strict=True))) for key in keys]
        values = await gather([self._field.value(run, SimpleNamespace(row=row)) for row in rows])
        return [(orjson.dumps(value), points_of(self._charges, run, [value])) for value in values]


def points_of(charges: Sequence[FieldCost], run: PlanExecution, values: list[Any]) -> int:
    """What is charged for values in the form of the response; charges of several types' fields differ, and the dearest counts."""
    return max([charge.actual(run.variables, values) for charge in charges], default=0)
