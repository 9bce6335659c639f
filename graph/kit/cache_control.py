"""Cache control: which tables a field reads and whether it depends on the viewer, so that responses can be cached until these change.

A field says so where it is declared, by the tables that it reads and whether it looks at who asks; a plain attribute of an object was read with it:

    @query(scope=None, description=…, cache=reads(items.Item))
    @strawberry.field(description=…, metadata={"cache": reads(users.User, personal=True)})

An operation can be kept if every field says so; the rule for one that does not is the safe one: it is run each time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    is_abstract_type,
    is_composite_type,
)
from strawberry.types.field import StrawberryField

from graph.kit.limits.cost_rules import type_name
from persistence.kit.database.database import Base


@dataclass(frozen=True, slots=True)
class CacheDependencies:
    """The tables that an answer was read from, in alphabetical order; `personal` if it is for one viewer's eyes."""

    tables: tuple[str, ...] = ()
    personal: bool = False

    def __or__(self, other: CacheDependencies) -> CacheDependencies:
        return CacheDependencies(tuple(sorted({*self.tables, *other.tables})), self.personal or other.personal)


NOTHING = CacheDependencies()


def reads(*entities: type[Base], personal: bool = False) -> CacheDependencies:
    """Without an entity: made of what other fields have read, or of nothing that changes while the service runs."""
    return CacheDependencies(tuple(sorted(entity.__tablename__ for entity in entities)), personal)


class Uncacheable(Exception):
    """The operation must be run each time."""


class DependencyAnalyzer:
    """Works out what operations of a schema read. The work is linear in the document, each fragment being looked at once for each type."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._known: dict[tuple[str, str], CacheDependencies] = {}

    def of(self, document: DocumentNode, operation: OperationDefinitionNode) -> CacheDependencies | None:
        """None, if the answer cannot be kept. For a document that was measured and validated."""
        if operation.operation is not OperationType.QUERY or self._schema.query_type is None:
            return None
        fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        found, seen = NOTHING, set[tuple[str, int]]()
        try:
            for each in self._below(self._schema.query_type, operation.selection_set, fragments, seen):
                found |= each
        except Uncacheable:
            return None
        return found

    def _below(
        self,
        type_: GraphQLNamedType,
        selections: SelectionSetNode,
        fragments: Mapping[str, FragmentDefinitionNode],
        seen: set[tuple[str, int]],
    ) -> Iterator[CacheDependencies]:
        """Raises: Uncacheable."""
        if (type_.name, id(selections)) in seen:
            return
        seen.add((type_.name, id(selections)))
        for node in selections.selections:
            if isinstance(node, FieldNode):
                for object_type in self._objects(type_):
                    yield from self._field(object_type, node, fragments, seen)
                continue
            fragment = fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else cast("InlineFragmentNode", node)
            narrower = self._schema.type_map[fragment.type_condition.name.value] if fragment.type_condition else type_
            yield from self._below(narrower, fragment.selection_set, fragments, seen)

    def _field(
        self, type_: GraphQLObjectType, node: FieldNode, fragments: Mapping[str, FragmentDefinitionNode], seen: set[tuple[str, int]]
    ) -> Iterator[CacheDependencies]:
        if node.name.value.startswith("__"):
            return  # The schema is the same as long as the process lives.
        field, key = type_.fields[node.name.value], (type_.name, node.name.value)
        declared = self._known.get(key)
        if declared is None:
            declared = self._known[key] = self._declared(type_, field)
        if declared is not NOTHING:
            yield declared
        if node.selection_set and is_composite_type(named := self._schema.type_map[type_name(field)]):
            yield from self._below(named, node.selection_set, fragments, seen)

    def _declared(self, type_: GraphQLObjectType, field: GraphQLField) -> CacheDependencies:
        definition: object = field.extensions.get("strawberry-definition")
        if not isinstance(definition, StrawberryField):
            raise Uncacheable
        declared: CacheDependencies | None = cast("Mapping[str, Any]", definition.metadata).get("cache")
        if declared is None and (type_ is self._schema.query_type or not definition.is_basic_field):
            raise Uncacheable
        return declared or NOTHING

    def _objects(self, type_: GraphQLNamedType) -> Collection[GraphQLObjectType]:
        if is_abstract_type(type_):
            return self._schema.get_possible_types(type_)
        return (cast("GraphQLObjectType", type_),)
