"""An executor that completes plain scalar fields directly, without graphql-core's work for resolvers.

For a field that is an attribute of its object and holds a scalar, graphql-core builds a path, a resolve info and a call, and looks four times
whether the value is awaitable. `LeafExecutor` reads the attribute and checks its type. Whatever is not exactly as expected (null, another type, an
exception, a resolver, arguments) goes to the reference executor, so that errors and unusual values come out as it makes them. With `edges` it asks the
planner for edges of objects, too.
Switched off by FAST_PATH_ENABLED=false.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, cast

from graphql import FieldNode, GraphQLField, GraphQLList, GraphQLNonNull, GraphQLObjectType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.field import StrawberryField

from graph.kit.execution.concurrency import gather
from graph.kit.scalars import INT_MAX, INT_MIN

_reference: Any = StrawberryGraphQLCoreExecutionContext

Complete = Callable[[Any], Any]
Read = Callable[[Any], Awaitable[Any]]
"""Reads a field of an object, in the form of the response. Raises: UnexpectedValue."""


class EdgeReader(Protocol):
    """Reads edges of objects in place of their resolvers: `graph.kit.planner.payloads`."""

    def reader(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> Read | None: ...


class UnexpectedValue(Exception):
    """The value is not plainly of the field's type."""


class LeafExecutor(StrawberryGraphQLCoreExecutionContext):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.edges: EdgeReader | None = None
        self._splits: dict[int, _Split] = {}

    def execute_fields(
        self, parent_type: GraphQLObjectType, source_value: Any, path: Any, grouped_field_set: Any, position_context: Any
    ) -> Any:
        _, leaves, edges, others = self._partition(parent_type, grouped_field_set)
        if not leaves and not edges:
            return _reference.execute_fields(self, parent_type, source_value, path, grouped_field_set, position_context)
        results: dict[str, Any] = dict.fromkeys(grouped_field_set) if others or edges else {}
        unusual: dict[str, Any] = {}
        for response_name, attribute, complete in leaves:
            try:
                results[response_name] = complete(getattr(source_value, attribute))
            except (UnexpectedValue, AttributeError):
                results[response_name] = None
                unusual[response_name] = grouped_field_set[response_name]
        rest: list[Any] = []
        if others or unusual:
            rest.append(_reference.execute_fields(self, parent_type, source_value, path, others | unusual, position_context))
        rest += [self._edge(parent_type, source_value, path, name, edge, position_context) for name, edge in edges.items()]
        return self._merge(results, rest)

    def _merge(self, results: dict[str, Any], rest: list[Any]) -> Any:
        """With the fields in `rest`, of which some may still be under way."""
        waiting = [cast("Awaitable[dict[str, Any]]", each) for each in rest if isinstance(each, Awaitable)]
        for each in rest:
            if not isinstance(each, Awaitable):
                results |= each
        return self._merge_later(results, waiting) if waiting else results

    async def _merge_later(self, results: dict[str, Any], waiting: Sequence[Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        for found in await gather(waiting):
            results.update(found)
        return results

    async def _edge(
        self, parent_type: GraphQLObjectType, source: Any, path: Any, name: str, edge: tuple[Read, Any], position_context: Any
    ) -> dict[str, Any]:
        read, details = edge
        try:
            return {name: await read(source)}
        except UnexpectedValue:
            found = _reference.execute_fields(self, parent_type, source, path, {name: details}, position_context)
            return await cast("Awaitable[dict[str, Any]]", found) if isinstance(found, Awaitable) else found

    def _partition(self, parent_type: GraphQLObjectType, grouped: dict[str, Any]) -> _Split:
        """The plain leaves of a selection, its edges, and its other fields; made once, since all objects of a list share their selection."""
        split = self._splits.get(id(grouped))
        if split is None:
            leaves: list[tuple[str, str, Complete]] = []
            edges: dict[str, tuple[Read, Any]] = {}
            others: dict[str, Any] = {}
            for response_name, details in grouped.items():
                leaf = _leaf(self.schema.get_field(parent_type, details[0].node.name.value))
                if leaf is not None:
                    leaves.append((response_name, *leaf))
                elif read := self._reader(parent_type, details):
                    edges[response_name] = read, details
                else:
                    others[response_name] = details
            # The selection is kept beside its split, so that its id is not given to another one.
            split = self._splits[id(grouped)] = (grouped, leaves, edges, others)
        return split

    def _reader(self, parent_type: GraphQLObjectType, details: Sequence[Any]) -> Read | None:
        nodes = [each.node for each in details]
        if self.edges is None or nodes[0].name.value not in parent_type.fields:
            return None
        return self.edges.reader(parent_type, nodes)


_Split = tuple[Any, list[tuple[str, str, Complete]], dict[str, tuple[Read, Any]], dict[str, Any]]


def _leaf(field: GraphQLField | None) -> tuple[str, Complete] | None:
    """Attribute and completion of a field that is a plain attribute with a scalar or a list of scalars."""
    definition = field.extensions.get("strawberry-definition") if field else None
    if field is None or not isinstance(definition, StrawberryField) or not definition.is_basic_field or field.args:
        return None
    complete = completion(cast("Any", field).type)
    return None if complete is None else (definition.python_name, complete)


def completion(type_: Any) -> Complete | None:
    """How a value of this type goes into the response, if plain Python values of it are known."""
    inner: Any = type_.of_type if type_.__class__ is GraphQLNonNull else type_
    plain = _plain_list(inner) if inner.__class__ is GraphQLList else _PLAIN.get(inner.name)
    return None if plain is None else plain if inner is not type_ else _nullable(plain)


def _nullable(plain: Complete) -> Complete:
    def complete(value: Any) -> Any:
        return None if value is None else plain(value)

    return complete


def _plain_list(type_: Any) -> Complete | None:
    return _strings if str(type_.of_type) == "String!" else None


def _strings(value: Any) -> list[str]:
    if type(value) is not list or not all(type(part) is str for part in cast("list[Any]", value)):
        raise UnexpectedValue
    return cast("list[str]", value)


def _is(kind: type, shown: Complete | None = None) -> Complete:
    def complete(value: Any) -> Any:
        if type(value) is not kind:
            raise UnexpectedValue
        return value if shown is None else shown(value)

    return complete


def _int(value: Any) -> int:
    if type(value) is not int or not INT_MIN <= value <= INT_MAX:
        raise UnexpectedValue
    return value


_PLAIN: dict[str, Complete] = {
    "String": _is(str),
    "ID": _is(str),
    "Boolean": _is(bool),
    "Int": _int,
    "Decimal": _is(Decimal, str),
    "DateTime": _is(datetime, datetime.isoformat),
}
