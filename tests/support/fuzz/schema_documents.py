"""Documents of this schema, valid and nearly valid, beside those of `fuzz_grammar`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    Undefined,
    get_named_type,
    is_abstract_type,
    is_composite_type,
)

from graph.schema import executable
from tests.support.fuzz.grammar import INTS, MOST_FIELDS, STRINGS, Free, Generated, Grammar, Tokens, damaged, joined

MOST_DEPTH = 5


def generated(random: Random) -> Generated:
    """A document of one of the kinds that there are; three of five are valid."""
    way = random.random()
    if way < 0.35:
        return Guided(random, mistakes=0).document()
    if way < 0.6:
        return Guided(random, mistakes=0, lean=True).document()
    if way < 0.8:
        return Guided(random, mistakes=0.04, lean=random.random() < 0.3).document()
    if way < 0.9:
        return Free(random).document()
    broken = (Guided(random, mistakes=0) if random.random() < 0.7 else Free(random)).document(damage=True)
    broken.valid = False
    return broken


@dataclass
class Operation:
    """What is declared for one operation while its selections are made."""

    variables: dict[str, tuple[Any, Tokens]] = field(default_factory=dict[str, "tuple[Any, Tokens]"])
    values: dict[str, Any] = field(default_factory=dict[str, Any])


class Guided(Grammar):
    """Documents of this schema. Each decision is taken wrongly with the probability `mistakes`.

    A lean one asks what most clients ask: few roots, with arguments, and below them plain fields without conditions.
    """

    def __init__(self, random: Random, *, mistakes: float, lean: bool = False) -> None:
        super().__init__(random)
        self._mistakes, self._lean = mistakes, lean
        # Some documents are deep and wide, some ask one thing with many arguments.
        self._depth, self._fields, self._argued = self.pick((2, 2, 0.6), (3, 2, 0.5), (3, MOST_FIELDS, 0.3), (MOST_DEPTH, MOST_FIELDS, 0.2))
        self._conditional = 0 if lean else self.pick(0, 0.1)
        self._fragments: list[Tokens] = []
        self._named = 0
        self._operation = Operation()

    def document(self, *, damage: bool = False) -> Generated:
        operations: list[Tokens] = []
        several = self.chance(0.15) and not self._lean
        kinds = [
            self.pick("query", "query", "query", "query", "mutation", "subscription") for _ in range(self.pick(2, 3) if several else 1)
        ]
        for place, kind in enumerate(kinds):
            operations.append(self.operation(kind, f"Q{place}" if several or self.chance(0.5) else None))
        parts = [*operations, *self._fragments]
        self.random.shuffle(parts)
        tokens = [token for part in parts for token in part]
        tokens = damaged(self.random, tokens) if damage else tokens
        name = self.pick("Q0", "Q1") if several else None
        text = joined(self.random, tokens, tight=self.chance(0.2))
        return Generated(text, self._operation.values or self.pick(None, {}), name, valid=not self._mistakes)

    def wrong(self) -> bool:
        return bool(self._mistakes) and self.chance(self._mistakes)

    def operation(self, kind: str, name: str | None) -> Tokens:
        shared, self._operation = self._operation.values, Operation()
        self._operation.values = shared
        kind = "query" if self._lean and self.chance(0.8) else kind
        root = {"query": executable.query_type, "mutation": executable.mutation_type, "subscription": executable.subscription_type}[kind]
        assert root is not None
        selections = self.root_of_subscription(root) if kind == "subscription" else self.selections(root, 0)
        variables = self.declared()
        if kind == "query" and name is None and not variables and self.chance(0.5):
            return selections
        return [
            *self.described(0.2),
            kind,
            *([name] if name else []),
            *variables,
            *(["@", self.name()] if self.wrong() else []),
            *selections,
        ]

    def declared(self) -> Tokens:
        if not self._operation.variables:
            return []
        each: Tokens = []
        for name, (type_, default) in self._operation.variables.items():
            if not self.wrong():
                each += [*self.described(0.1), "$", name, ":", *self.type(type_), *default]
        return ["(", *each, ")"] if each else []

    def type(self, type_: Any) -> Tokens:
        if _is_non_null(type_):
            return [*self.type(type_.of_type), *([] if self.wrong() else ["!"])]
        if _is_list(type_):
            return ["[", *self.type(type_.of_type), "]"]
        return [self.name() if self.wrong() else type_.name]

    def root_of_subscription(self, root: GraphQLObjectType) -> Tokens:
        name = self.random.choice(list(root.fields))
        one = self.field(root, name, 0, conditional=False)
        match self.random.randrange(4):
            case 0:
                return ["{", "...", "{", "}", *one, "}"]
            case 1:
                return ["{", "...", "on", root.name, "{", *one, "}", "}"]
            case 2:
                return ["{", "...", self.fragment(root.name, ["{", *one, "}"]), "}"]
            case _:
                return ["{", *one, "}"]

    def selections(self, type_: GraphQLNamedType, depth: int) -> Tokens:
        if self._lean and depth == 0:
            count = self.pick(1, 1, 2)
        else:
            count = self.pick(0, *range(1, self._fields + 1), *range(1, self._fields + 1)) if depth < self._depth else self.pick(0, 1, 1)
        return ["{", *(token for _ in range(count) for token in self.selection(type_, depth)), "}"]

    def selection(self, type_: GraphQLNamedType, depth: int) -> Tokens:
        if depth < self._depth and (isinstance(type_, GraphQLUnionType) or self.chance(0.2)):
            return self.inner(type_, depth)
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) or self.chance(0.02 if self._lean else 0.08):
            return [*self.alias(0.3), "__typename", *self.directives()]
        if self.wrong():
            return [self.name(), *self.arguments({"a": None})]
        fields = [name for name, each in type_.fields.items() if depth < self._depth or not is_composite_type(get_named_type(each.type))]
        if type_ is executable.query_type and self.chance(0.05):
            return ["__type", "(", "name", ":", '"Item"', ")", "{", "name", "fields", "{", "name", "}", "}"]
        if self._lean and depth:
            fields = [name for name in fields if not type_.fields[name].args] or fields
        # What has more arguments has more that can go wrong.
        weights = [(1 + len(type_.fields[name].args)) ** (2 if self._lean else 1) for name in fields]
        return self.field(type_, self.random.choices(fields, weights)[0], depth) if fields else ["__typename"]

    def inner(self, type_: GraphQLNamedType, depth: int) -> Tokens:
        """A fragment on this type, on one that may stand in its place, or on an interface of it."""
        types = (
            [type_.name] if self._lean else [type_.name, *self.narrower(type_), *(each.name for each in getattr(type_, "interfaces", ()))]
        )
        on = self.pick("Nothing", "Int", "SignupInput", "Query") if self.wrong() else self.random.choice(types)
        named = executable.type_map.get(on, type_)
        below = self.selections(named, depth + 1) if is_composite_type(named) else ["{", "}"]
        if self.chance(0.4):
            return ["...", "missing" if self.wrong() else self.fragment(on, below), *self.directives()]
        condition = [] if on == type_.name and self.chance(0.5) else ["on", on]
        return ["...", *condition, *self.directives(), *below]

    def narrower(self, type_: GraphQLNamedType) -> list[str]:
        return [each.name for each in executable.get_possible_types(cast("Any", type_))] if is_abstract_type(type_) else []

    def fragment(self, on: str, selections: Tokens) -> str:
        name = f"F{len(self._fragments)}"
        self._fragments.append(
            [*self.described(0.2), "fragment", name, "on", on, *(self.directives() if self.wrong() else []), *selections]
        )
        return name

    def field(self, type_: GraphQLObjectType | GraphQLInterfaceType, name: str, depth: int, *, conditional: bool = True) -> Tokens:
        found = type_.fields[name]
        arguments = self.arguments(found.args)
        named = cast("GraphQLNamedType", get_named_type(found.type))
        below = self.selections(named, depth + 1) if is_composite_type(named) != self.wrong() else []
        alias = self.alias(1 if found.args or below else 0.3)
        return [*alias, name, *arguments, *(self.directives() if conditional else []), *below]

    def alias(self, probability: float) -> Tokens:
        self._named += 1
        return [f"a{self._named}", ":"] if self.chance(probability) else []

    def directives(self) -> Tokens:
        tokens: Tokens = []
        for name in ("skip", "include"):
            if self.chance(self._conditional):
                tokens += ["@", self.name() if self.wrong() else name, *self.arguments({"if": _IF})]
        return tokens * 2 if self.wrong() else tokens

    def arguments(self, arguments: dict[str, Any]) -> Tokens:
        each: Tokens = []
        for name, argument in arguments.items():
            required = argument is None or (_is_non_null(argument.type) and _undefaulted(argument))
            if (required or self.chance(self._argued)) != self.wrong():
                value = self.value() if argument is None or self.wrong() else self.given(argument.type, argument)
                each += [self.name() if self.wrong() else name, ":", *value]
        return ["(", *each, ")"] if each else []

    def given(self, type_: Any, place: Any) -> Tokens:
        """A variable or a literal in the place of an argument."""
        if not self.chance(0.35):
            return self.literal(type_)
        name = f"v{len(self._operation.variables)}"
        nullable = not _is_non_null(type_)
        default = ["=", *self.literal(type_, constant=True)] if self.chance(0.3) else []
        self._operation.variables[name] = (type_, default)
        if not (self.chance(0.3) and (nullable or default)):
            self._operation.values[name] = self.pick(None, [], {}, "x", 1.5, True) if self.wrong() else self.json(type_)
        return ["$", name]

    def literal(self, type_: Any, depth: int = 0, *, constant: bool = False) -> Tokens:
        if self.wrong():
            return self.value(constant=constant)
        if _is_non_null(type_):
            return self.literal_of(type_.of_type, depth, constant=constant)
        return ["null"] if self.chance(0.1) else self.literal_of(type_, depth, constant=constant)

    def literal_of(self, type_: Any, depth: int, *, constant: bool) -> Tokens:
        if _is_list(type_):
            if self.chance(0.2):  # One value stands for a list of one.
                return self.literal_of(_nullable(type_.of_type), depth, constant=constant)
            each = [self.literal(type_.of_type, depth + 1, constant=constant) for _ in range(self.random.randrange(4))]
            return ["[", *(token for part in each for token in part), "]"]
        if isinstance(type_, GraphQLInputObjectType):
            return ["{", *self.members(type_, lambda inner: self.literal(inner, depth + 1, constant=constant)), "}"]
        if isinstance(type_, GraphQLEnumType):
            return [self.random.choice(list(type_.values))]
        forms: dict[str, Sequence[str]] = {
            "Int": INTS[:9],
            "Boolean": ("true", "false"),
            "ID": (*STRINGS, *INTS[:9]),
            "Decimal": ('"9.99"', "9.99", "1", '"1e2"', '"-0"', "1e1"),
            "DateTime": ('"2026-11-30T00:00:00Z"', '"2026-11-30T00:00:00.500+01:00"'),
            "BigInt": (*INTS, '"12"'),
            "JSON": ("{}", "{a: 1}"),
        }
        return [self.random.choice(forms[type_.name])] if type_.name in forms else self.string()

    def members(self, type_: GraphQLInputObjectType, value: Callable[[Any], Tokens]) -> Tokens:
        tokens: Tokens = []
        for name, each in type_.fields.items():
            required = _is_non_null(each.type) and _undefaulted(each)
            if (required or self.chance(0.4)) != self.wrong():
                tokens += [self.name() if self.wrong() else name, ":", *value(each.type)]
        return tokens

    def json(self, type_: Any) -> Any:
        if _is_non_null(type_):
            return self.json_of(type_.of_type)
        return None if self.chance(0.15) else self.json_of(type_)

    def json_of(self, type_: Any) -> Any:
        if _is_list(type_):
            return [self.json(type_.of_type) for _ in range(self.random.randrange(3))]
        if isinstance(type_, GraphQLInputObjectType):
            fields = type_.fields.items()
            return {name: self.json(each.type) for name, each in fields if _is_non_null(each.type) or self.chance(0.4)}
        if isinstance(type_, GraphQLEnumType):
            return self.random.choice(list(type_.values))
        if type_.name == "JSON":
            return {"a": [1, None, {"b": "c"}]}
        known = {
            "Int": (0, 1, 2, -1, 2**31 - 1),
            "Boolean": (True, False),
            "Decimal": ("9.99", 1, 0.5),
            "DateTime": ("2026-11-30T00:00:00Z",),
            "BigInt": (1, "2"),
        }
        texts = tuple(json.loads(each) for each in STRINGS if "uD83D" not in each and "{1F600}" not in each)
        return self.random.choice(known.get(type_.name, texts))


def _is_non_null(type_: Any) -> bool:
    return isinstance(type_, GraphQLNonNull)


def _is_list(type_: Any) -> bool:
    return isinstance(type_, GraphQLList)


def _undefaulted(place: GraphQLArgument | GraphQLInputField) -> bool:
    return place.default_value is Undefined


def _nullable(type_: Any) -> Any:
    return type_.of_type if _is_non_null(type_) else type_


_IF = executable.get_directive("skip").args["if"]  # type: ignore[union-attr]
