"""Documents from the grammar of GraphQL's September 2026 edition: of any shape that parses, whether a schema has their names or not.

A document is a list of tokens, so that what the grammar ignores (spaces, line ends, commas, comments, byte order marks) can stand between any two of
them. All is drawn from a `Random`: a seed makes the same document again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from graphql import DirectiveLocation

Tokens = list[str]

IGNORED = (
    " ",
    " ",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    ",",
    ", ",
    ",,",
    "# a comment\n",
    "#\n",
    '#""" { } \ud7ff\r',
    "\ufeff",
    " \ufeff ",
)
STRINGS = (
    '""', '"a"', '"kettle"', '"SXRlbTox"', '"VXNlcjox"', '"1"', '"9.99"', '"-0"', '"2026-11-30T00:00:00Z"', '"\\u0041"', '"\\u{1F600}"',
    '"\\uD83D\\uDE00"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"#,{}"', '"\u00e9\u4e2d\U0001f600"', '"हिन्दी"', '"\u200b"', '"17 w w w"', '"items:read"',
)  # fmt: skip
BLOCK_STRINGS = (
    '""""""', '"""a"""', '"""\n  two\n    lines\n  """', '"""\t\\""" not the end \\"""\n"""', '"""\\u0041 \\ stays"""', '"""\r\n\r one\r"""',
    '""" "" """', '"""\U0001f600 # , { }"""',
)  # fmt: skip
INTS = ("0", "-0", "1", "2", "-1", "10", "100", "101", "2147483647", "2147483648", "-2147483649", "9007199254740993", "1" * 30)
FLOATS = ("0.0", "-0.0", "1.5", "9.99", "1e3", "1E-2", "1.0e+10", "-1.25E2", "1e400", "0.00000000001")
NAMES = (
    "a",
    "b1",
    "_",
    "on",
    "query",
    "fragment",
    "true",
    "null",
    "type",
    "input",
    "id",
    "item",
    "Item",
    "__typename",
    "__schema",
    "x" * 70,
)
DESCRIPTIONS = ('"described"', '"""\n described\n """', '""', '""""""')
MOST_DEPTH = 5
MOST_FIELDS = 4


@dataclass
class Generated:
    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    valid: bool
    """Made to be valid. A few are not: fields of two types may not merge, or the operation may be too big."""

    @property
    def request(self) -> dict[str, Any]:
        return {"query": self.query, "variables": self.variables, "operationName": self.operation_name}


def joined(random: Random, tokens: Sequence[str], *, tight: bool) -> str:
    """Between tokens stands what is ignored; nothing at all only where two stay two."""
    ignored: Callable[[], str] = (lambda: " ") if tight else (lambda: "".join(random.choices(IGNORED, k=random.choice((1, 1, 2)))))
    text = [ignored() if random.random() < 0.1 else ""]
    for token, following in pairwise([*tokens, ""]):
        text.append(token)
        apart = token[-1:] in _PUNCTUATION or following[:1] in _PUNCTUATION
        text.append("" if apart and random.random() < 0.6 else ignored())
    return "".join(text)


_PUNCTUATION = frozenset("{}()[]:=!|@$&")


def damaged(random: Random, tokens: Tokens) -> Tokens:
    tokens = list(tokens)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(tokens))
        match random.choice(("drop", "double", "swap", "replace", "cut")):
            case "drop":
                del tokens[at]
            case "double":
                tokens[at:at] = tokens[at : at + random.choice((1, 3, 8))]
            case "swap":
                tokens[at], tokens[-1] = tokens[-1], tokens[at]
            case "replace":
                tokens[at] = random.choice(
                    (*_PUNCTUATION, "...", "0x1", "01", "1a", ".5", '"', '"\\x"', '"\\uD800"', '"""', "?", "\0", *NAMES, *FLOATS)
                )
            case _:
                tokens[at] = tokens[at][: len(tokens[at]) // 2]
        tokens = [token for token in tokens if token] or ["{"]
    return tokens


class Grammar:
    """What both kinds of documents are made of."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, *among: Any) -> Any:
        return self.random.choice(among)

    def name(self) -> str:
        return self.random.choice(NAMES)

    def string(self) -> Tokens:
        return [self.random.choice(STRINGS if self.chance(0.7) else BLOCK_STRINGS)]

    def value(self, depth: int = 0, *, constant: bool = False) -> Tokens:
        """Any literal."""
        if depth < 3 and self.chance(0.3):
            parts = [self.value(depth + 1, constant=constant) for _ in range(self.random.randrange(4))]
            if self.chance(0.5):
                return ["[", *(token for part in parts for token in part), "]"]
            return ["{", *(token for place, part in enumerate(parts) for token in (f"f{place}", ":", *part)), "}"]
        if not constant and self.chance(0.15):
            return ["$", self.name()]
        plain = (*INTS, *FLOATS, "true", "false", "null", "ENUM", "on", "ASC")
        return self.string() if self.chance(0.3) else [self.random.choice(plain)]

    def described(self, probability: float) -> Tokens:
        return [self.random.choice(DESCRIPTIONS)] if self.chance(probability) else []


class Free(Grammar):
    """Any document that parses, whether the schema has its names or not."""

    def document(self, *, damage: bool = False) -> Generated:
        tokens = [token for _ in range(self.pick(1, 1, 2, 4)) for token in self.definition()]
        tokens = damaged(self.random, tokens) if damage else tokens
        name = self.pick(None, None, "a", "query", "")
        return Generated(
            joined(self.random, tokens, tight=self.chance(0.2)), self.pick(None, {}, {"a": 1, "id": "SXRlbTox"}), name, valid=False
        )

    def definition(self) -> Tokens:
        kind = self.pick("short", "operation", "operation", "operation", "fragment", "type system")
        if kind == "short":
            return self.selections(0)
        if kind == "fragment":
            name = self.pick("a", "b1", "type", "input")
            return [*self.described(0.3), "fragment", name, "on", self.type_name(), *self.directives(), *self.selections(0)]
        if kind == "operation":
            operation = self.pick("query", "query", "mutation", "subscription")
            name = [self.name()] if self.chance(0.6) else []
            return [*self.described(0.3), operation, *name, *self.variables(), *self.directives(), *self.selections(0)]
        return self.type_system()

    def type_name(self) -> str:
        return self.pick("Query", "Item", "Node", "Error", "CreateItemResult", "Mutation", "Subscription", self.name().replace("on", "o"))

    def variables(self) -> Tokens:
        if self.chance(0.5):
            return []
        each = [
            token
            for _ in range(self.pick(1, 1, 2, 3))
            for token in (*self.described(0.2), "$", self.name(), ":", *self.type(), *self.default(), *self.directives(constant=True))
        ]
        return ["(", *each, ")"]

    def type(self) -> Tokens:
        named = self.pick("Int", "ID", "String", "Boolean", "ItemFilter", "Item", "Decimal", self.name())
        inner = ["[", *self.type(), "]"] if self.chance(0.2) else [named]
        return [*inner, "!"] if self.chance(0.3) else inner

    def default(self) -> Tokens:
        return ["=", *self.value(constant=True)] if self.chance(0.4) else []

    def directives(self, *, constant: bool = False) -> Tokens:
        tokens: Tokens = []
        while self.chance(0.2):
            tokens += ["@", self.pick("skip", "include", "deprecated", "specifiedBy", "oneOf", "defer", "requiresScopes", self.name())]
            tokens += self.arguments(constant=constant)
        return tokens

    def arguments(self, *, constant: bool = False) -> Tokens:
        if self.chance(0.5):
            return []
        names = [self.pick("if", "id", "first", "label", "reason", "search", self.name()) for _ in range(self.pick(1, 1, 2))]
        return ["(", *(token for name in names for token in (name, ":", *self.value(constant=constant))), ")"]

    def selections(self, depth: int) -> Tokens:
        count = 0 if depth > MOST_DEPTH else self.random.randrange(MOST_FIELDS)
        return ["{", *(token for _ in range(count) for token in self.selection(depth)), "}"]

    def selection(self, depth: int) -> Tokens:
        kind = self.pick("field", "field", "field", "spread", "inline")
        if kind == "spread":
            return ["...", self.pick("a", "b1", "type", "missing"), *self.directives()]
        if kind == "inline":
            condition = ["on", self.type_name()] if self.chance(0.6) else []
            return ["...", *condition, *self.directives(), *self.selections(depth + 1)]
        alias = [self.name(), ":"] if self.chance(0.3) else []
        name = self.pick("items", "item", "nodes", "me", "node", "createItem", "echo", self.name())
        below = self.selections(depth + 1) if self.chance(0.4) else []
        return [*alias, name, *self.arguments(), *self.directives(), *below]

    def type_system(self) -> Tokens:
        """What a service does not execute: every definition and extension, with descriptions and directives on each of their places."""
        extend = self.chance(0.4)
        kind = self.pick("schema", "scalar", "type", "interface", "union", "enum", "input", "directive")
        name = {"schema": [], "directive": ["@", self.name()]}.get(kind, [self.name()])
        rest = self.type_system_rest(kind, extend=extend)
        return [*(["extend"] if extend else self.described(0.5)), kind, *name, *rest, *(["@", self.name()] if extend and not rest else ())]

    def type_system_rest(self, kind: str, *, extend: bool) -> Tokens:
        """What follows the name."""
        match kind:
            case "schema":
                roots = self.block(lambda: [self.pick("query", "mutation", "subscription"), ":", self.type_name()])
                return [*self.where(), *(roots or ([] if extend else ["{", "query", ":", "Query", "}"]))]
            case "directive":
                return self.where() if extend else [*self.parameters(), *self.where(), *self.places()]
            case "type" | "interface":
                return [*self.joined_by("&", "implements"), *self.where(), *self.block(self.field_definition)]
            case "union":
                return [*self.where(), *self.joined_by("|", "=")]
            case "enum":
                return [*self.where(), *self.block(lambda: [*self.described(0.2), self.pick("A", "B", "on", "type"), *self.where()])]
            case "input":
                return [*self.where(), *self.block(self.input_value)]
            case _:
                return self.where()

    def where(self) -> Tokens:
        return self.directives(constant=True)

    def block(self, each: Callable[[], Tokens], brackets: str = "{}") -> Tokens:
        """One or more of them in brackets, or nothing."""
        parts = [each() for _ in range(self.pick(0, 1, 1, 2, 3))]
        return [brackets[0], *(token for part in parts for token in part), brackets[1]] if parts else []

    def joined_by(self, mark: str, opening: str) -> Tokens:
        """Names of types behind a keyword, with a mark between them and perhaps before the first; or nothing."""
        names = [token for _ in range(self.pick(0, 1, 2, 3)) for token in (mark, self.type_name())]
        return [opening, *names[self.pick(0, 1) :]] if names else []

    def field_definition(self) -> Tokens:
        return [*self.described(0.2), self.name(), *self.parameters(), ":", *self.type(), *self.where()]

    def input_value(self) -> Tokens:
        return [*self.described(0.2), self.name(), ":", *self.type(), *self.default(), *self.where()]

    def parameters(self) -> Tokens:
        return self.block(self.input_value, "()")

    def places(self) -> Tokens:
        """Where a directive may stand."""
        where = self.random.sample([place.name for place in DirectiveLocation], self.pick(1, 1, 2, 5))
        tokens = [token for place in where for token in ("|", place)]
        return [*(["repeatable"] if self.chance(0.4) else []), "on", *tokens[self.pick(0, 1) :]]
