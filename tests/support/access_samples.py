"""How to ask for what a schema declares as entities commonly are, made of the schema itself: arguments by their types, objects by the mutation that creates them.

What it cannot know, such as how to come to a refusal, the tests of an entity say: `ACCESS = {"AlreadyReviewed": "mutation { … { * } }"}`.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any, cast

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_required_argument,
    is_required_input_field,
)

from tests.support.access import Way

TESTS = Path(__file__).parents[1]
SCALARS = {"Int": "1", "Float": "1", "Decimal": "1", "Boolean": "true", "String": "$new_name", "DateTime": '"2026-11-24T08:00:00Z"'}
VERBS = {"Created": "create", "Updated": "update", "Deleted": "delete"}
OTHER = "2"  # What an update gives for a number, in place of what the object was created with.


def declared() -> dict[str, str]:
    """What the tests of entities say of them: by a type's name, or that of a root field, such as `Mutation.createReview`."""
    found: dict[str, str] = {}
    for text in [path.read_text() for path in sorted(TESTS.rglob("test_*.py"))]:
        for statement in ast.parse(text).body if "\nACCESS = " in text else ():
            if isinstance(statement, ast.Assign) and [ast.unparse(each) for each in statement.targets] == ["ACCESS"]:
                found |= ast.literal_eval(statement.value)
    return found


def creatable(schema: GraphQLSchema) -> Iterator[str]:
    """Types of which `create…` makes an object."""
    for name in schema.mutation_type.fields if schema.mutation_type else ():
        made = name.removeprefix("create")
        if made != name and made in {member.name for member in _members(schema.mutation_type, name)}:
            yield made


def roots(schema: GraphQLSchema) -> Iterator[tuple[str, str, str]]:
    """Root, name and text of each field of which every argument that it needs has a sample."""
    types = {made.lower() for made in creatable(schema)}
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        for name, field in root.fields.items() if root else ():
            if (asked := _asked(name, field, types)) is not None:
                yield cast("GraphQLObjectType", root).name, name, asked


def ways(schema: GraphQLSchema, asked: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Way]]:
    """Types and how to come to them: objects that were created, lists, results of mutations, and events. `asked` are the fields of the roots."""
    for made in creatable(schema):
        yield made, Way(f"{{ node(id: $fresh_{made.lower()}) {{ ... on {made} {{ * }} }} }}")
    for name, text in asked["Query"].items():
        yield from _of_list(_named(cast("GraphQLObjectType", schema.query_type).fields[name].type), text)
    for name, text in asked["Mutation"].items():
        results = [member.name for member in _members(schema.mutation_type, name) if not member.interfaces]
        yield from [(each, Way(f"mutation {{ {text} {{ ... on {each} {{ * }} }} }}")) for each in results]
    for name in asked["Subscription"]:
        for member in _members(schema.subscription_type, name):
            yield from _of_event(member.name, name, asked["Mutation"])


def _of_list(type_: GraphQLNamedType, text: str) -> Iterator[tuple[str, Way]]:
    if (listed := type_.name.removesuffix("Connection")) != type_.name:
        yield type_.name, Way(f"{{ {text} {{ * }} }}")
        yield f"{listed}Edge", Way(f"{{ {text} {{ edges {{ * }} }} }}")
        yield listed, Way(f"{{ {text} {{ nodes {{ * }} }} }}")


def _of_event(event: str, subscription: str, mutations: Mapping[str, str]) -> Iterator[tuple[str, Way]]:
    """Of an event such as `ReviewCreated`, which `createReview` makes."""
    for ending, verb in VERBS.items():
        cause = mutations.get(f"{verb}{event.removesuffix(ending)}")
        if event.endswith(ending) and cause:
            before = f"mutation {{ {cause} {{ __typename }} }}"
            yield event, Way(f"subscription {{ {subscription}(after: $now) {{ ... on {event} {{ * }} }} }}", before=before)


def _members(root: GraphQLObjectType | None, name: str) -> Sequence[GraphQLObjectType]:
    """Of the union that a root's field gives."""
    type_ = _named(root.fields[name].type) if root else None
    return type_.types if isinstance(type_, GraphQLUnionType) else ()


def _asked(name: str, field: GraphQLField, types: Collection[str]) -> str | None:
    """An event stream begins with the gap after a cursor that is no longer known."""
    needed: dict[str, Any] = {key: cast("Any", argument).type for key, argument in field.args.items() if is_required_argument(argument)}
    samples = {key: _sample(key, each, name, types) for key, each in needed.items()}
    if "after" in field.args and name.endswith("Events"):
        samples["after"] = "$foreign"
    return None if None in samples.values() else f"{name}({_pairs(samples)})" if samples else name


def _sample(key: str, type_: Any, field: str, types: Collection[str]) -> str | None:
    """A value of the type; None where none is known."""
    named, is_update = _named(type_), field.startswith("update")
    if str(type_).startswith("["):
        return None if (each := _sample(key, named, field, types)) is None else f"[{each}]"
    if named.name == "ID":
        kind = (field.lstrip(ascii_lowercase) if key == "id" else key.removesuffix("Id")).lower()
        return f"$fresh_{kind}" if kind in types else None
    if isinstance(named, GraphQLEnumType):
        return next(iter(named.values))
    if not isinstance(named, GraphQLInputObjectType):
        sample = SCALARS.get(named.name)
        return OTHER if is_update and sample == "1" else sample
    inputs: dict[str, Any] = {name: each for name, each in named.fields.items() if is_update or is_required_input_field(each)}
    samples = {name: _sample(name, each.type, field, types) for name, each in inputs.items()}
    return None if None in samples.values() else f"{{{_pairs(samples)}}}"


def _named(type_: Any) -> GraphQLNamedType:
    return cast("Any", get_named_type)(type_)


def _pairs(samples: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in samples.items())
