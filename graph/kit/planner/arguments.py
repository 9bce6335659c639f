"""Coerces the arguments of planned root fields, with a shortcut for plain ids, cursors and numbers.

Most variables are an id, a cursor or a number, and arrive as what they must be. Whatever is not exactly so, a missing variable, a number for an id, an
input object, is coerced by the reference executor's functions, so that every value and every error is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import FieldNode, GraphQLField, IntValueNode, StringValueNode, Undefined, VariableDefinitionNode, VariableNode, print_ast
from graphql.utilities.coerce_input_value import coerce_default_value

from graph.kit.scalars import INT_MAX, INT_MIN

Fits = Callable[[Any], bool]


def _is_int(value: Any) -> bool:
    return type(value) is int and INT_MIN <= value <= INT_MAX


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_flag(value: Any) -> bool:
    return type(value) is bool


FITS: Mapping[str, Fits] = {"ID": _is_text, "String": _is_text, "Int": _is_int, "Boolean": _is_flag}


class Plain:
    """Whether a document's variables are plainly what they must be; never, if it declares another kind of variable."""

    def __init__(self, definitions: Sequence[VariableDefinitionNode]) -> None:
        self._checks = [_check(each) for each in definitions]

    def __call__(self, variables: Mapping[str, Any]) -> bool:
        return all(fits is not None and fits(variables.get(name, Undefined)) for name, fits in self._checks)


def _check(definition: VariableDefinitionNode) -> tuple[str, Fits | None]:
    """Null is plain where the variable may be null and has no default: such as Relay's first cursor."""
    notation = print_ast(definition.type)
    fits = FITS.get(notation.rstrip("!"))
    if fits is None or notation.endswith("!") or definition.default_value is not None:
        return definition.variable.name.value, fits
    return definition.variable.name.value, lambda value: value is None or fits(value)


def reader(definition: GraphQLField, node: FieldNode, names: Mapping[str, str]) -> Callable[[Mapping[str, Any]], dict[str, Any]] | None:
    """What makes a field's arguments of plain variables; None if it takes more than that. `names` are the arguments' in Python."""
    supplied = {argument.name.value: argument.value for argument in node.arguments or ()}
    fixed: dict[str, Any] = {}
    taken: list[tuple[str, str]] = []
    for name, argument in definition.args.items():
        notation = str(argument.type)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] -- graphql-core's lists are generic
        value, kind, non_null = supplied.get(name), notation.rstrip("!"), notation.endswith("!")
        required = coerce_default_value(argument) is Undefined
        if value is None and coerce_default_value(argument) is None:
            fixed[names[name]] = None
        elif isinstance(value, VariableNode) and kind in FITS and (required or not non_null):
            taken.append((names[name], value.name.value))
        elif isinstance(value, IntValueNode) and kind == "Int":
            fixed[names[name]] = int(value.value)
        elif isinstance(value, StringValueNode) and kind in {"ID", "String"}:
            fixed[names[name]] = value.value
        elif value is not None or coerce_default_value(argument) is not Undefined:
            return None
    return lambda variables: fixed | {name: variables[variable] for name, variable in taken}
