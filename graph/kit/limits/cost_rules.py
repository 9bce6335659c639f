"""The cost of each field in points: one for each object that it may load, which is about 0.03 ms of a processor.

    scalars, enums, __typename         0
    an object                          1
    a root field                      10, in place of the 1: it runs a statement of its own
    a connection                       1, and its `nodes` or `edges` 1 for each element of the page that is asked for
    an edge's node, a PageInfo         0: the edge was paid for
    a list of objects                  1 for each element; PAGE_SIZE elements, where nothing declared says how many
    an interface, a union              as much as the dearest of its types
    __schema, __type                 200 and 20, whatever is asked below

A page is as long as `first` or `last` says, PAGE_SIZE without either, never more than MAX_PAGE_SIZE, since a longer one is refused by its field.
Where this does not fit, a field declares it: `metadata={"cost": Cost(…)}`, or a number for the weight alone.

An example: `{ items(first: 50) { nodes { name owner { username items { nodes { id } } } } } }` costs 10 for `items`, and 50 times:
1 for the item, 1 for its owner, 1 for the owner's items and 20 times 1 for their nodes. That is 10 + 50 * 23 = 1,160.

An operation costs LEAST_POINTS at least. A field that looks at more rows than it gives declares it by its arguments; a count costs by what it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, TypeAlias, cast

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
)

from persistence.kit.query.paging import MAX_PAGE_SIZE
from persistence.kit.search.tokenizer import QUERY_LENGTH, prefixes

ROOT_WEIGHT = 10  # A statement at least; in a mutation a transaction, in a subscription a stream to keep open.
LEAST_POINTS = 50  # Of an operation, whatever it asks: to take it in and answer takes as long as 50 objects of a long page.
TOKEN_WRITE_POINTS = 220  # A signature, and a transaction that looks for the token.
PASSWORD_POINTS = 4_000  # Hashing one takes 30 ms of a processor, on purpose.
SEARCH_POINTS = 700  # The list is read along, or words are looked up and what is found is sorted, or words near to them: some milliseconds.
SHORT_WORD_POINTS = {1: 1_500, 2: 250}  # More, for a word of so few characters: in a large shop, half of the rows have one that begins so.
FILTER_POINTS = 400  # For each condition: rows that do not fit are passed over until the page is full.
LISTED_POINTS = 50  # For each further value of a condition that takes several, such as tags.
ORDER_POINTS = 20
COUNT_POINTS = 20
AGGREGATE_POINTS = 5  # The rows of one parent are looked at, which an index has side by side.
COUNTED_ROWS_A_POINT = 100
INTROSPECTION_WEIGHTS = {"__schema": 200, "__type": 20}
PAGE_ARGUMENTS = ("first", "last")

ArgumentPrice: TypeAlias = "int | Callable[[Any], int]"
"""Points for an argument that is given, or for its value: as in JSON, and perhaps not what the argument takes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a field costs, where the general rules do not fit.

    `size` names the argument that says how many elements there will be: a number, or a list that has so many. They are the field's own, if it is
    a list, or else those of the lists in its object that are declared `of_parent=True`. `each` is charged for every one of them at once.
    """

    weight: int | None = None
    size: str | None = None
    each: int = 0
    of_parent: bool = False
    supplied: Mapping[str, ArgumentPrice] = field(default_factory=dict[str, "ArgumentPrice"])
    """Points more for each of these arguments that is given and not null: what makes the field look at more rows."""
    counted_rows: int = 0
    """Of a number that is counted: how many rows at most. A point for each COUNTED_ROWS_A_POINT of them; afterwards, as many as were counted."""
    base: int = 0
    """Points for a list, however few elements it has: for a statement that no plan makes."""
    scanned: int = 0
    """Points at most for what the field does beside its objects; what it has cost is told to the context (`Context.scanned`)."""


class Multiplier(Enum):
    ONCE = "once"
    OWN_SIZE = "once for each of the field's own elements"
    PARENT_SIZE = "once for each element that the enclosing field was asked for"


@dataclass(frozen=True)
class CostRule:
    weight: int
    multiplier: Multiplier
    sizes: tuple[str, ...] = ()
    most: int | None = None
    each: int = 0
    supplied: Mapping[str, ArgumentPrice] = field(default_factory=dict[str, "ArgumentPrice"])
    counted_rows: int = 0
    base: int = 0
    scanned: int = 0

    @cached_property
    def is_free(self) -> bool:
        """Whether the field itself costs nothing, whatever is below it."""
        return not (self.weight or self.each or self.base or self.scanned)


class CostRules:
    """The rules of one schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._roots = {type_ for type_ in (schema.query_type, schema.mutation_type, schema.subscription_type) if type_}
        self._rules: dict[tuple[str, str], CostRule] = {}

    def rule(self, parent: GraphQLObjectType | GraphQLInterfaceType, name: str) -> CostRule:
        rule = self._rules.get((parent.name, name))
        if rule is None:
            rule = self._rules[parent.name, name] = self._rule(parent, name)
        return rule

    def _rule(self, parent: GraphQLObjectType | GraphQLInterfaceType, name: str) -> CostRule:
        if name.startswith("__"):
            return CostRule(INTROSPECTION_WEIGHTS.get(name, 0), Multiplier.ONCE)
        definition = parent.fields[name]
        cost = declared(definition)
        weight = self._weight(parent, name) if cost.weight is None else cost.weight
        paged = cost.size is None and type_name(definition).endswith("Connection")
        if cost.of_parent or (parent.name.endswith("Connection") and name in ("edges", "nodes")):
            return CostRule(weight, Multiplier.PARENT_SIZE)
        multiplier = Multiplier.OWN_SIZE if is_list(definition) else Multiplier.ONCE
        sizes = (cost.size,) if cost.size else tuple(name for name in PAGE_ARGUMENTS if paged and name in definition.args)
        most = MAX_PAGE_SIZE if paged else None
        return CostRule(weight, multiplier, sizes, most, cost.each, cost.supplied, cost.counted_rows, cost.base, cost.scanned)

    def _weight(self, parent: GraphQLObjectType | GraphQLInterfaceType, name: str) -> int:
        if parent in self._roots and not is_list(parent.fields[name]):
            return ROOT_WEIGHT
        type_ = type_name(parent.fields[name])
        if not is_composite_type(self.schema.type_map[type_]) or type_ == "PageInfo" or (parent.name.endswith("Edge") and name == "node"):
            return 0
        return 1


def search_points(query: object) -> int:
    """A word costs the more, the shorter it is."""
    words = prefixes(query[:QUERY_LENGTH]) if isinstance(query, str) else ()
    return SEARCH_POINTS + sum(SHORT_WORD_POINTS.get(len(word), 0) for word in words)


def filter_points(conditions: object) -> int:
    """Of the fields of an input that are given, and of the values of those that are lists."""
    values = cast("dict[str, object]", conditions).values() if isinstance(conditions, dict) else ()
    return sum(FILTER_POINTS + LISTED_POINTS * (_length(value) - 1) for value in values if value is not None)


def _length(value: object) -> int:
    return max(1, len(cast("list[object]", value))) if isinstance(value, list) else 1


def notation(element: GraphQLField | GraphQLArgument) -> str:
    """The type of a field or argument as the schema language writes it: `[Item!]!`."""
    return str(element.type)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] -- graphql-core's lists are generic


def is_list(element: GraphQLField | GraphQLArgument) -> bool:
    return notation(element).startswith("[")


def type_name(element: GraphQLField | GraphQLArgument) -> str:
    """The name of the type, or of what the list is a list of."""
    return cast("Any", get_named_type)(cast("Any", element).type).name


def declared(field: GraphQLField) -> Cost:
    definition = field.extensions.get("strawberry-definition")
    cost = cast("Cost | int | None", getattr(definition, "metadata", {}).get("cost"))
    return cost if isinstance(cost, Cost) else Cost(weight=cost)
