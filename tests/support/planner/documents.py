"""Queries made of the schema: any selection of fields, arguments, variables, fragments and directives that is valid, and values that are good or bad."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

from graphql import GraphQLField, GraphQLNamedType, GraphQLObjectType, get_named_type, is_abstract_type, is_leaf_type
from hypothesis import strategies as st

from graph.schema import executable

ROOTS = ["item", "items", "node", "nodes", "me", "user", "users", "files", "purchases", "auditLog", "itemSummary", "compute", "__typename"]
DEPTH = 9
# By the argument's name, values as they are written in variables. Ids and cursors are names that the test fills in.
IDS = ["{item}", "{other}", "{deleted}", "{ada}", "{bob}", "{purchase}", "{bobs}", "{file}", "{audit}", "x", "SXRlbTo5OTk5OTk="]
VALUES: dict[str, list[Any]] = {
    "id": IDS,
    "ids": [[], ["{item}"], ["{item}", "x", "{ada}", "{item}", "{deleted}"], ["{purchase}", "{bobs}", "{file}", "{audit}", "{bob}"]],
    "first": [0, 1, 2, 3, 3, 100, 101, -1, None],
    "last": [None, None, None, 0, 1, 2, 101],
    "after": [None, None, None, "{cursor}", "{adas_cursor}", "bad"],
    "before": [None, None, None, None, "{cursor}"],
    "username": ["ada", "BOB", "nobody", ""],
    "search": [None, "moth", "a", " ", "x" * 300],
    "filter": [None, {}, {"inStock": True}, {"inStock": False}, {"priceMin": "1", "priceMax": "5"}, {"tagsAny": []}, {"priceMin": "-1"}],
    "filter: PurchaseFilter": [
        None,
        {},
        *({"status": status} for status in ("QUEUED", "COMPLETED", "CANCELLED")),
        {"itemId": "{item}", "buyerId": "{ada}"},
        {"sellerId": "{bob}", "createdAfter": "2020-01-01T00:00:00Z"},
        {"createdBefore": "2020-01-01T00:00:00Z"},
        {"itemId": "x"},
    ],
    "orderBy: PurchaseOrder": [None, *({"field": "CREATED_AT", "direction": way} for way in ("ASC", "DESC"))],
    "orderBy": [None, *({"field": name, "direction": way} for name in ("NAME", "PRICE") for way in ("ASC", "DESC"))],
    "bounds": [None, [], ["1", "5.01"], ["5", "1"], ["0.001"]],
    "n": [5, 9, -1],
}

# What stands around the selection, and the types of which it is.
PAYLOADS = {
    "mutation of an item": ('updateItem(id: "{item}", input: {}, idempotencyKey: "once") { __typename SELECTION }', ["Item"]),
    "mutation of several items": (
        'bulkCreateItems(inputs: [{name: "a", price: "1"}], idempotencyKey: "once") { ... on BulkCreateItems { results { __typename SELECTION } } }',
        ["Item"],
    ),
    "mutation of a purchase": ('purchaseItem(itemId: "{item}", idempotencyKey: "once") { __typename SELECTION }', ["Purchase"]),
    "mutation of oneself": ('updateMe(input: {}, idempotencyKey: "once") { __typename SELECTION }', ["User"]),
    "subscription to items": ('itemEvents(after: "{start}") { __typename SELECTION }', ["ItemCreated", "ItemDeleted", "ItemPurchased"]),
    "subscription to a purchase": ('purchaseStatus(id: "{purchase}") { __typename SELECTION }', ["Purchase"]),
}


@dataclass
class Document:
    query: str
    variables: dict[str, Any]


@dataclass
class _Making:
    draw: st.DrawFn
    names: int = 0
    declared: list[str] = field(default_factory=list[str])
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    fragments: list[str] = field(default_factory=list[str])

    def chance(self, percent: int) -> bool:
        return self.draw(st.integers(0, 99)) >= 100 - percent  # So that what is drawn shrinks to the plain way.

    def one(self, options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def document(self) -> Document:
        query = cast("GraphQLObjectType", executable.query_type)
        roots = " ".join(self.field(query, name, 0) for name in self.draw(st.lists(st.sampled_from(ROOTS), min_size=1, max_size=4)))
        declared = f"({', '.join(self.declared)})" if self.declared else ""
        return Document(" ".join([f"query{declared} {{ {roots} }}", *self.fragments]), self.variables)

    def payload(self, kind: str) -> Document:
        """A mutation that changes nothing when it is sent again, or a subscription to what has been."""
        root, types = PAYLOADS[kind]
        inside = " ".join(self.fragment(cast("GraphQLObjectType", executable.type_map[name]), 0) for name in types)
        declared = f"({', '.join(self.declared)})" if self.declared else ""
        operation = kind.partition(" ")[0]
        return Document(" ".join([f"{operation}{declared} {{ {root.replace('SELECTION', inside)} }}", *self.fragments]), self.variables)

    def selection(self, type_: GraphQLNamedType, depth: int) -> str:
        if is_abstract_type(type_):
            kinds = self.draw(st.lists(st.sampled_from(executable.get_possible_types(type_)), max_size=3, unique=True))
            parts = [self.one(["id", "__typename", "id x: __typename"]), *(self.fragment(kind, depth) for kind in kinds)]
            return " ".join(parts)
        object_ = cast("GraphQLObjectType", type_)
        names = self.draw(st.lists(st.sampled_from([*self._fields(object_, depth), "__typename"]), min_size=1, max_size=4))
        parts = [self.field(object_, name, depth) for name in names]
        if self.chance(15):
            parts.append(self.fragment(object_, depth))
        if self.chance(5) and object_.interfaces:
            parts.append("... on Node { id __typename }")
        return " ".join(parts)

    def _fields(self, type_: GraphQLObjectType, depth: int) -> list[str]:
        leaves = [name for name, each in type_.fields.items() if is_leaf_type(_named(each))]
        return leaves if depth > DEPTH and leaves else list(type_.fields)

    def fragment(self, type_: GraphQLObjectType, depth: int) -> str:
        inside, directive = self.selection(type_, depth + 1), self.directive()
        if self.chance(50):
            return f"... on {type_.name}{directive} {{ {inside} }}"
        name = self.name("F")
        self.fragments.append(f"fragment {name} on {type_.name} {{ {inside} }}")
        return f"...{name}{directive}"

    def field(self, type_: GraphQLObjectType, name: str, depth: int) -> str:
        if name == "__typename":
            return self.one(["__typename", f"{self.name('t')}: __typename"])
        definition = type_.fields[name]
        arguments, named = self.arguments(definition), _named(definition)
        alias = f"{self.name('a')}: " if arguments or self.chance(10) else ""
        inside = "" if is_leaf_type(named) else f" {{ {self.selection(named, depth + 1)} }}"
        return f"{alias}{name}{arguments}{self.directive()}{inside}"

    def arguments(self, definition: GraphQLField) -> str:
        given: list[str] = []
        for name, argument in definition.args.items():
            notation = str(cast("Any", argument).type)
            if not notation.endswith("!") and self.chance(60):
                continue
            value = self.one(VALUES.get(f"{name}: {notation}") or VALUES[name])
            if value is None and notation.endswith("!"):
                continue
            given.append(f"{name}: {self.value(notation, value)}")
        return f"({', '.join(given)})" if given else ""

    def value(self, notation: str, value: Any) -> str:
        if self.chance(40) or isinstance(value, dict):
            name = self.name("v")
            self.declared.append(f"${name}: {notation}")
            if value is not None or self.chance(50):
                self.variables[name] = value
            return f"${name}"
        return json.dumps(value)

    def directive(self) -> str:
        if not self.chance(15):
            return ""
        name, value = self.one(["skip", "include"]), self.chance(50)
        if self.chance(50):
            return f" @{name}(if: {json.dumps(value)})"
        variable = self.name("c")
        default = self.chance(30)
        self.declared.append(f"${variable}: Boolean{f' = {json.dumps(value)}' if default else '!'}")
        if not default:
            self.variables[variable] = value
        return f" @{name}(if: ${variable})"


def _named(definition: GraphQLField) -> GraphQLNamedType:
    return cast("GraphQLNamedType", get_named_type(cast("Any", definition).type))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    return _Making(draw).document()


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, Document]:
    kind = draw(st.sampled_from(sorted(PAYLOADS)))
    return kind, _Making(draw).payload(kind)
