"""CollectFields: which fields an operation selects of an object, for one set of values of the variables in @skip and @include.

Source: GraphQL specification, section 6.3.2 (CollectFields).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    is_abstract_type,
)

from graph.kit.execution.engine import Operation
from graph.kit.planner.unplannable import Unplannable


class FieldCollector:
    def __init__(self, schema: GraphQLSchema, operation: Operation, conditions: Mapping[str, bool]) -> None:
        self._schema, self._conditions = schema, conditions
        definitions = operation.document.definitions
        self._fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}

    def below(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> dict[str, list[FieldNode]]:
        """What is selected below these fields of an object of this type, merged by response name. Raises: Unplannable."""
        return self.fields(type_, [node.selection_set for node in nodes if node.selection_set])

    def fields(self, type_: GraphQLObjectType, selections: Sequence[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        found: dict[str, list[FieldNode]] = {}
        seen = set[str]()
        for each in selections:
            self._collect(type_, each, found, seen)
        return found

    def _collect(self, type_: GraphQLObjectType, selections: SelectionSetNode, found: dict[str, list[FieldNode]], seen: set[str]) -> None:
        for node in selections.selections:
            if not self._included(node):
                continue
            match node:
                case FieldNode():
                    found.setdefault((node.alias or node.name).value, []).append(node)
                case InlineFragmentNode():
                    if node.type_condition is None or self._applies(node.type_condition.name.value, type_):
                        self._collect(type_, node.selection_set, found, seen)
                case FragmentSpreadNode() if node.name.value not in seen:
                    seen.add(node.name.value)
                    fragment = self._fragments[node.name.value]
                    if self._applies(fragment.type_condition.name.value, type_):
                        self._collect(type_, fragment.selection_set, found, seen)
                case _:
                    pass

    def _applies(self, condition: str, type_: GraphQLObjectType) -> bool:
        named = self._schema.type_map[condition]
        return named is type_ or (is_abstract_type(named) and self._schema.is_sub_type(named, type_))

    def _included(self, node: SelectionNode) -> bool:
        return all(self._holds(directive) for directive in node.directives or ())

    def _holds(self, directive: DirectiveNode) -> bool:
        name = directive.name.value
        if name not in {"skip", "include"}:
            raise Unplannable(f"@{name}")
        return self._condition(directive) is (name == "include")

    def _condition(self, directive: DirectiveNode) -> bool:
        value: Any = next(argument.value for argument in directive.arguments or ())
        if isinstance(value, BooleanValueNode):
            return value.value
        condition = self._conditions.get(value.name.value) if isinstance(value, VariableNode) else None
        if condition is None:
            raise Unplannable("a condition without a value")
        return condition
