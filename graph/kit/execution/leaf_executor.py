"""An executor that completes plain scalar fields directly, without graphql-core's work for resolvers.

For a field that is an attribute of its object and holds a scalar, graphql-core builds a path, a resolve info and a call, and looks four times
whether the value is awaitable. `LeafExecutor` reads the attribute and checks its type. Whatever is not exactly as expected (null, another type, an
exception, a resolver, arguments) goes to the reference executor, so that errors and unusual values come out as it makes them.
Switched off by FAST_PATH_ENABLED=false.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from graphql import GraphQLField, GraphQLList, GraphQLNonNull, GraphQLObjectType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.field import StrawberryField

from graph.kit.scalars import INT_MAX, INT_MIN

_reference: Any = StrawberryGraphQLCoreExecutionContext

Complete = Callable[[Any], Any]


class UnexpectedValue(Exception):
    """The value is not plainly of the field's type."""


class LeafExecutor(StrawberryGraphQLCoreExecutionContext):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._splits: dict[int, tuple[Any, list[tuple[str, str, Complete]], dict[str, Any]]] = {}

    def execute_fields(
        self, parent_type: GraphQLObjectType, source_value: Any, path: Any, grouped_field_set: Any, position_context: Any
    ) -> Any:
        _, leaves, others = self._partition(parent_type, grouped_field_set)
        if not leaves:
            return _reference.execute_fields(self, parent_type, source_value, path, grouped_field_set, position_context)
        results: dict[str, Any] = dict.fromkeys(grouped_field_set) if others else {}
        unusual: dict[str, Any] = {}
        for response_name, attribute, complete in leaves:
            try:
                results[response_name] = complete(getattr(source_value, attribute))
            except (UnexpectedValue, AttributeError):
                results[response_name] = None
                unusual[response_name] = grouped_field_set[response_name]
        if not others and not unusual:
            return results
        rest = _reference.execute_fields(self, parent_type, source_value, path, others | unusual, position_context)
        return _merge(results, rest)

    def _partition(
        self, parent_type: GraphQLObjectType, grouped: dict[str, Any]
    ) -> tuple[Any, list[tuple[str, str, Complete]], dict[str, Any]]:
        """The plain leaves of a selection, and its other fields; made once, since all objects of a list share their selection."""
        split = self._splits.get(id(grouped))
        if split is None:
            leaves: list[tuple[str, str, Complete]] = []
            others: dict[str, Any] = {}
            for response_name, details in grouped.items():
                leaf = _leaf(self.schema.get_field(parent_type, details[0].node.name.value))
                if leaf is None:
                    others[response_name] = details
                else:
                    leaves.append((response_name, *leaf))
            # The selection is kept beside its split, so that its id is not given to another one.
            split = self._splits[id(grouped)] = (grouped, leaves, others)
        return split


def _merge(results: dict[str, Any], rest: Any) -> Any:
    if not isinstance(rest, Awaitable):
        return results | rest

    async def later() -> dict[str, Any]:
        return results | await cast("Awaitable[dict[str, Any]]", rest)

    return later()


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
