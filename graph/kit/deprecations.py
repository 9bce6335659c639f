"""Finds the deprecated schema elements that an operation uses, as schema coordinates: `Item.oldName`, `Query.items(old:)`, `ItemFilter.old`, `Color.RED`.

What stands in variables is not looked at: a value there is seen only as the type that it must have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphql import (
    ArgumentNode,
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLInputObjectType,
    GraphQLSchema,
    ObjectFieldNode,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
    is_object_type,
    visit,
)


class Deprecations:
    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._any = any(_deprecated(part) for type_ in schema.type_map.values() for part in _parts(type_))

    def used(self, document: DocumentNode, operation: OperationDefinitionNode) -> tuple[str, ...]:
        """Each once, in the order of the document."""
        if not self._any:
            return ()
        fragments = [each for each in document.definitions if isinstance(each, FragmentDefinitionNode)]
        info = TypeInfo(self._schema)
        uses = _Uses(info)
        visit(DocumentNode(definitions=(operation, *fragments)), TypeInfoVisitor(info, uses))
        return tuple(uses.found)


class _Uses(Visitor):
    def __init__(self, info: TypeInfo) -> None:
        super().__init__()
        self._info: Any = info  # Partly untyped.
        self.found: dict[str, None] = {}

    def enter_field(self, node: FieldNode, *_: object) -> None:
        field, parent = self._info.get_field_def(), self._info.get_parent_type()
        if parent and _deprecated(field):
            self.found[f"{parent.name}.{node.name.value}"] = None

    def enter_argument(self, node: ArgumentNode, _key: object, _parent: object, _path: object, ancestors: Sequence[object]) -> None:
        parent = self._info.get_parent_type()
        if parent and self._info.get_directive() is None and _deprecated(self._info.get_argument()):
            field = next(each for each in reversed(ancestors) if isinstance(each, FieldNode))
            self.found[f"{parent.name}.{field.name.value}({node.name.value}:)"] = None

    def enter_object_field(self, node: ObjectFieldNode, *_: object) -> None:
        parent = _named(self._info.get_parent_input_type())
        if isinstance(parent, GraphQLInputObjectType) and _deprecated(parent.fields.get(node.name.value)):
            self.found[f"{parent.name}.{node.name.value}"] = None

    def enter_enum_value(self, node: EnumValueNode, *_: object) -> None:
        type_ = _named(self._info.get_input_type())
        if type_ and _deprecated(self._info.get_enum_value()):
            self.found[f"{type_.name}.{node.value}"] = None


def _named(type_: Any) -> Any:
    """The type within lists and non-nulls."""
    while (inner := getattr(type_, "of_type", None)) is not None:
        type_ = inner
    return type_


def _deprecated(part: Any) -> bool:
    return part is not None and part.deprecation_reason is not None


def _parts(type_: Any) -> list[Any]:
    if is_object_type(type_) or is_interface_type(type_):
        return [part for field in type_.fields.values() for part in (field, *field.args.values())]
    if is_input_object_type(type_):
        return list(type_.fields.values())
    return list(type_.values.values()) if is_enum_type(type_) else []
