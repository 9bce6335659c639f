"""Converts graphql-core's coerced arguments to what resolvers take: input objects, enums, and lists of them.

Strawberry's `convert_arguments` does the same, but asks each time for the name and the type of all that might be given, which takes 200 µs for a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from functools import cached_property
from typing import Any

import strawberry
from strawberry.types.arguments import StrawberryArgument, convert_argument
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional, has_object_definition
from strawberry.types.field import StrawberryField

Convert = Callable[[Any], Any]


class Converters:
    """Of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._registry, self._config = schema.schema_converter.scalar_registry, schema.config

    def of_arguments(self, arguments: Sequence[StrawberryArgument]) -> Convert:
        """From coerced arguments to those of the resolver."""
        names = self._config.name_converter
        return _Members([(names.get_graphql_name(each), each.python_name, self.of(each.type)) for each in arguments])

    def of(self, type_: Any) -> Convert:
        if isinstance(type_, StrawberryOptional) and not isinstance(type_, StrawberryMaybe):
            return _unless_none(self.of(type_.of_type))
        if isinstance(type_, StrawberryList):
            each = self.of(type_.of_type)
            return lambda values: [each(value) for value in values]
        if has_object_definition(type_) and type_.__strawberry_definition__.from_input is None:
            return _Input(type_, self)
        return lambda value: convert_argument(value, type_, self._registry, self._config)

    def members(self, type_: Any) -> _Members:
        definition = type_.__strawberry_definition__
        fields: Sequence[StrawberryField] = definition.fields
        names = self._config.name_converter
        types = [field.resolve_type(type_definition=definition) for field in fields]
        return _Members([(names.from_field(field), field.python_name, self.of(found)) for field, found in zip(fields, types, strict=True)])


class _Members:
    def __init__(self, members: Sequence[tuple[str, str, Convert]]) -> None:
        self._members = members

    def __call__(self, supplied: Mapping[str, Any]) -> dict[str, Any]:
        return {python_name: convert(supplied[name]) for name, python_name, convert in self._members if name in supplied}


class _Input:
    """An input object; its fields are looked up when one is given, as it may hold others of its own type."""

    def __init__(self, type_: Any, converters: Converters) -> None:
        self._type, self._converters = type_, converters
        fields: Sequence[Any] = type_.__strawberry_definition__.fields
        without_default = [field for field in fields if field.default is MISSING and field.default_factory is MISSING]
        self._absent = dict.fromkeys([field.python_name for field in without_default])

    @cached_property
    def _members(self) -> _Members:
        return self._converters.members(self._type)

    def __call__(self, supplied: Mapping[str, Any]) -> Any:
        return self._type(**(self._absent | self._members(supplied)))


def _unless_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)
