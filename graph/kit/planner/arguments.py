"""Coerces the arguments of planned root fields, with a shortcut for plain ids, lists of them, cursors and numbers.

Most variables are an id, a cursor or a number, and arrive as what they must be. Whatever is not exactly so, a missing variable, a number for an id, an
input object, is coerced by the reference executor's functions, so that every value and every error is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, cast

from graphql import (
    FieldNode,
    GraphQLField,
    IntValueNode,
    ListTypeNode,
    ListValueNode,
    NamedTypeNode,
    NonNullTypeNode,
    StringValueNode,
    TypeNode,
    Undefined,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
)
from graphql.utilities.coerce_input_value import coerce_default_value

from graph.kit.limits.cost_rules import notation
from graph.kit.scalars import INT_MAX, INT_MIN

Fits = Callable[[Any], bool]
Read = Callable[[Mapping[str, Any]], Any]
"""An argument's value, by the variables."""


def _is_int(value: Any) -> bool:
    return type(value) is int and INT_MIN <= value <= INT_MAX


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_flag(value: Any) -> bool:
    return type(value) is bool


FITS: Mapping[str, Fits] = {"ID": _is_text, "String": _is_text, "Int": _is_int, "Boolean": _is_flag}


SAMPLES: Mapping[str, Any] = {"ID": "a", "String": "a", "Int": 1, "Boolean": True}


class Plain:
    """Whether a document's variables are plainly what they must be; never, if it declares another kind of variable."""

    def __init__(self, definitions: Sequence[VariableDefinitionNode]) -> None:
        self._checks = [_check(each) for each in definitions]

    def __call__(self, variables: Mapping[str, Any]) -> bool:
        return all(fits is not None and fits(variables.get(name, Undefined)) for name, fits in self._checks)


def sample_values(definitions: Sequence[VariableDefinitionNode]) -> dict[str, Any]:
    """What a first request may give: null where it may, plain values where it must give some; what takes more is missing, and so are defaults."""
    kinds = {each.variable.name.value: _notation(each.type) for each in definitions if each.default_value is None}
    sample: dict[str, Any] = {name: [] if kind.startswith("[") else SAMPLES.get(kind.rstrip("!")) for name, kind in kinds.items()}
    return {
        name: sample[name] if kind.endswith("!") else None
        for name, kind in kinds.items()
        if sample[name] is not None or not kind.endswith("!")
    }


def _check(definition: VariableDefinitionNode) -> tuple[str, Fits | None]:
    """Null is plain where the variable may be null and has no default: such as Relay's first cursor."""
    kind = _notation(definition.type)
    fits = _fits(kind)
    if fits is None or kind.endswith("!") or definition.default_value is not None:
        return definition.variable.name.value, fits
    return definition.variable.name.value, lambda value: value is None or fits(value)


def _notation(type_: TypeNode) -> str:
    match type_:
        case NonNullTypeNode():
            return f"{_notation(type_.type)}!"
        case ListTypeNode():
            return f"[{_notation(type_.type)}]"
        case _:
            return cast("NamedTypeNode", type_).name.value


def _fits(notation: str) -> Fits | None:
    """What a value of this type must plainly be, other than null."""
    kind = notation.rstrip("!")
    if not kind.endswith("!]"):
        return FITS.get(kind)
    fits = _fits(kind[1:-1])
    return None if fits is None else partial(_is_list, fits)


def _is_list(fits: Fits, value: Any) -> bool:
    return type(value) is list and all(map(fits, cast("list[Any]", value)))


@dataclass(frozen=True)
class Parameter:
    """An argument that a field takes, by its names in the schema and in Python."""

    name: str
    python_name: str
    notation: str
    default: Any


def parameters(definition: GraphQLField, names: Mapping[str, str]) -> Sequence[Parameter]:
    """`names` are the arguments' in Python."""
    return [Parameter(name, names[name], notation(each), coerce_default_value(each)) for name, each in definition.args.items()]


def reader(parameters: Sequence[Parameter], node: FieldNode) -> Callable[[Mapping[str, Any]], dict[str, Any]] | None:
    """What makes a field's arguments of plain variables; None if it takes more than that."""
    supplied = {argument.name.value: argument.value for argument in node.arguments or ()}
    taken: list[tuple[str, Read]] = []
    for each in parameters:
        value, default = supplied.get(each.name), each.default
        if value is None and default is Undefined:
            continue
        if value is None and default is not None:
            return None
        may_be_null = default is not Undefined and each.notation.endswith("!") and isinstance(value, VariableNode)
        read = _always(None) if value is None else None if may_be_null else _read(value, each.notation)
        if read is None:
            return None
        taken.append((each.python_name, read))
    return lambda variables: {name: read(variables) for name, read in taken}


def _read(value: ValueNode, notation: str) -> Read | None:
    """None for a value that takes coercion."""
    kind = notation.rstrip("!")
    match value:
        case VariableNode() if _fits(notation):
            return itemgetter(value.name.value)
        case IntValueNode() if kind == "Int":
            return _always(int(value.value))
        case StringValueNode() if kind in {"ID", "String"}:
            return _always(value.value)
        case ListValueNode() if kind.endswith("!]"):
            return _each([_read(each, kind[1:-1]) for each in value.values])
        case _:
            return None


def _always(value: Any) -> Read:
    return lambda _variables: value


def _each(reads: Sequence[Read | None]) -> Read | None:
    found = [read for read in reads if read]
    return (lambda variables: [read(variables) for read in found]) if len(found) == len(reads) else None
