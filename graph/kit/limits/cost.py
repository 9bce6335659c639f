"""Static cost analysis of an operation: the requested cost before it runs, the actual cost from its response.

`requested` counts fields under @skip and @include as well. `actual` is counted on the answer: shorter pages, nulls, skipped fields and the
union members that did not come up cost nothing.

Fields are merged as execution merges them, so a fragment spread twice costs once. The work is linear in the operation with its fragments
written out, which `measure` has bounded by then: draw up no bill for a document that was not measured and validated. A bill is drawn up
once for an operation; evaluating it takes a microsecond or two for each field that costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLArgument,
    GraphQLNamedType,
    GraphQLObjectType,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    Undefined,
    ValueNode,
    VariableNode,
    is_abstract_type,
    is_composite_type,
    value_from_ast_untyped,
)
from graphql.utilities.coerce_input_value import coerce_default_value

from graph.kit.limits.cost_rules import COUNTED_ROWS_A_POINT, ArgumentPrice, CostRule, CostRules, Multiplier, is_list, type_name
from persistence.kit.query.paging import PAGE_SIZE

Variables: TypeAlias = Mapping[str, Any]
Size: TypeAlias = Callable[[Variables], int]
FieldCosts: TypeAlias = "tuple[FieldCost, ...]"  # Of the fields of one object.
Below: TypeAlias = "tuple[FieldCosts, ...]"
Named: TypeAlias = "tuple[tuple[str, list[FieldCost]], ...]"

REMEMBERED = 100  # Sizes of which an operation's bill remembers the sum: clients ask for the same few pages.
MAX_COUNT = 1_000_000  # Of elements; a larger number in an argument is as good as this one for a refusal.


@dataclass(frozen=True, slots=True)
class Source:
    """A number of elements, as an argument says it: by a variable that may be absent, or by itself. None is no word on it."""

    variable: str | None
    count: int | None
    listed: bool

    def read(self, variables: Variables) -> int | None:
        if self.variable is None or self.variable not in variables:
            return self.count
        value = variables[self.variable]
        return _length(value) if self.listed else _number(value)


@dataclass(slots=True, eq=False)
class FieldCost:
    """One field of the answer that costs something, itself or below. `below` has the charges of each type that its object may have."""

    key: str
    node: FieldNode
    rule: CostRule
    size: int | Size
    below: Below
    named: Named
    supplied: int | Size = 0
    """Points for arguments that are given."""

    def requested(self, variables: Variables, parent_size: int) -> int:
        rule, size = self.rule, self._elements(variables)
        inside = max([sum([charge.requested(variables, size) for charge in charges]) for charges in self.below], default=0)
        if rule.multiplier is Multiplier.ONCE:
            counted = rule.counted_rows // COUNTED_ROWS_A_POINT
            return rule.weight + self._supplied(variables) + rule.each * size + counted + rule.scanned + inside
        return (size if rule.multiplier is Multiplier.OWN_SIZE else parent_size) * (rule.weight + inside) + rule.base + rule.scanned

    def actual(self, variables: Variables, values: list[Any]) -> int:
        """For all values of this field at once: an answer has few fields and many rows."""
        base = self.rule.base * len(values)
        if self.rule.multiplier is not Multiplier.ONCE:
            values = [element for elements in values if elements for element in elements]
        each = self.rule.each and self.rule.each * self._elements(variables)
        points = base + len(values) * (self.rule.weight + self._supplied(variables) + each)
        if self.rule.counted_rows:
            points += sum([value // COUNTED_ROWS_A_POINT for value in values if isinstance(value, int)])
        return points + _actual(self.named, variables, [value for value in values if value]) if self.named else points

    def _supplied(self, variables: Variables) -> int:
        return self.supplied if isinstance(self.supplied, int) else self.supplied(variables)

    def _elements(self, variables: Variables) -> int:
        return self.size if isinstance(self.size, int) else self.size(variables)


def _named(below: Below) -> Named:
    """The charges by the name that they have in the answer."""
    named: dict[str, list[FieldCost]] = {}
    for charges in below:
        for charge in charges:
            named.setdefault(charge.key, []).append(charge)
    return tuple(named.items())


def _actual(named: Named, variables: Variables, objects: list[Any]) -> int:
    """An object's type is not in the answer, but its fields are: of two types' fields with one name, the dearer is counted."""
    points = 0
    for key, charges in named:
        if values := [value[key] for value in objects if key in value]:
            points += max([charge.actual(variables, values) for charge in charges])
    return points


class CostEstimate:
    def __init__(self, charges: FieldCosts) -> None:
        self._charges = charges
        self._named = _named((charges,))
        self._sizes = tuple(dict.fromkeys(_sizes(charges)))
        self._requested: dict[tuple[int, ...], int] = {}

    @property
    def size_bytes(self) -> int:
        """What the remembered sums take at most."""
        return REMEMBERED * (100 + 8 * len(self._sizes))

    @property
    def named(self) -> Named:
        """The charges of the root fields by the names that these have in the answer."""
        return self._named

    def requested(self, variables: Variables | None) -> int:
        variables = variables or {}
        sizes = tuple([size(variables) for size in self._sizes])
        points = self._requested.get(sizes)
        if points is None:
            if len(self._requested) >= REMEMBERED:
                self._requested.clear()
            points = self._requested[sizes] = sum(charge.requested(variables, 1) for charge in self._charges)
        return points

    def actual(self, variables: Variables | None, data: Mapping[str, Any] | None) -> int:
        return _actual(self._named, variables or {}, [data or {}])

    def event(self, variables: Variables | None, data: Mapping[str, Any] | None) -> int:
        """What one event of a subscription costs: what its selection loaded, without the price of the stream itself."""
        below = [_actual(charge.named, variables or {}, [value]) for charge in self._charges if (value := (data or {}).get(charge.key))]
        return sum(below)

    def most_expensive(self, variables: Variables | None) -> FieldNode:
        """The root field that costs most."""
        return max(self._charges, key=lambda charge: charge.requested(variables or {}, 1)).node


def _sizes(charges: FieldCosts) -> Iterator[Size]:
    for charge in charges:
        yield from (size for size in (charge.size, charge.supplied) if not isinstance(size, int))
        for below in charge.below:
            yield from _sizes(below)


class CostEstimator:
    """Draws up the bill of one operation."""

    def __init__(self, tariff: CostRules, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._tariff, self._schema, self._operation = tariff, tariff.schema, operation
        self._fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        self._defaults = {node.variable.name.value: node.default_value for node in operation.variable_definitions or ()}
        self._default_values = {name: value_from_ast_untyped(node) for name, node in self._defaults.items() if node is not None}
        self._shared: dict[tuple[tuple[Source, ...], int | None], Size] = {}
        self._drawn: dict[tuple[str, tuple[int, ...]], FieldCosts] = {}

    def estimate(self) -> CostEstimate:
        root = self._schema.get_root_type(self._operation.operation)
        assert root is not None, "validated"
        return CostEstimate(self._charges(root, (self._operation.selection_set,)))

    def _charges(self, type_: GraphQLObjectType, selections: Sequence[SelectionSetNode]) -> FieldCosts:
        key = (type_.name, tuple(map(id, selections)))
        charges = self._drawn.get(key)
        if charges is None:
            fields: dict[str, list[FieldNode]] = {}
            seen: set[str] = set()
            for selection_set in selections:
                self._collect(type_, selection_set, fields, seen)
            drawn = [self._charge(type_, key, nodes) for key, nodes in fields.items()]
            charges = self._drawn[key] = tuple(charge for charge in drawn if charge)
        return charges

    def _collect(self, type_: GraphQLObjectType, selections: SelectionSetNode, fields: dict[str, list[FieldNode]], seen: set[str]) -> None:
        for node in selections.selections:
            if isinstance(node, FieldNode):
                fields.setdefault((node.alias or node.name).value, []).append(node)
            elif isinstance(node, InlineFragmentNode):
                if node.type_condition is None or self._applies(node.type_condition.name.value, type_):
                    self._collect(type_, node.selection_set, fields, seen)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                fragment = self._fragments[node.name.value]
                if self._applies(fragment.type_condition.name.value, type_):
                    self._collect(type_, fragment.selection_set, fields, seen)

    def _applies(self, condition: str, type_: GraphQLObjectType) -> bool:
        named = self._schema.type_map[condition]
        return named is type_ or (is_abstract_type(named) and self._schema.is_sub_type(named, type_))

    def _charge(self, parent: GraphQLObjectType, key: str, nodes: Sequence[FieldNode]) -> FieldCost | None:
        """None for a field that costs nothing, as most do."""
        name = nodes[0].name.value
        rule = self._tariff.rule(parent, name)
        selections = [node.selection_set for node in nodes if node.selection_set]
        is_introspection = name.startswith("__")
        below = () if is_introspection or not selections else self._below(self._schema.type_map[type_name(parent.fields[name])], selections)
        if rule.is_free and not below:
            return None
        if is_introspection:
            return FieldCost(key, nodes[0], rule, PAGE_SIZE, (), ())
        field = parent.fields[name]
        sources = tuple(self._source(nodes[0], argument, field.args[argument]) for argument in rule.sizes)
        return FieldCost(key, nodes[0], rule, self._size(sources, rule.most), below, _named(below), self._supplied(nodes[0], rule.supplied))

    def _supplied(self, node: FieldNode, prices: Mapping[str, ArgumentPrice]) -> int | Size:
        """Points for the arguments of these that are given; for those by a variable, or with one inside, when it is known."""
        fixed, by_variable = 0, list[tuple[ValueNode, ArgumentPrice]]()
        for argument in node.arguments or ():
            price = prices.get(argument.name.value, 0)
            if price and _has_variable(argument.value):
                by_variable.append((argument.value, price))
            elif price:
                fixed += _points(price, value_from_ast_untyped(argument.value))
        if not by_variable:
            return fixed

        def size(variables: Variables) -> int:
            known = {**self._default_values, **variables}
            return fixed + sum([_points(price, value_from_ast_untyped(node, known)) for node, price in by_variable])

        return size

    def _below(self, named: GraphQLNamedType, selections: Sequence[SelectionSetNode]) -> Below:
        if not is_composite_type(named):
            return ()
        types = self._schema.get_possible_types(named) if is_abstract_type(named) else (cast("GraphQLObjectType", named),)
        return tuple({charges: None for type_ in types if (charges := self._charges(type_, selections))})

    def _source(self, node: FieldNode, name: str, argument: GraphQLArgument) -> Source:
        """Where an argument's word on the number of elements comes from."""
        supplied = next((supplied.value for supplied in node.arguments or () if supplied.name.value == name), None)
        listed = is_list(argument)
        count = _length if listed else _number
        absent = count(coerce_default_value(argument))
        if isinstance(supplied, VariableNode):
            default = self._defaults.get(supplied.name.value)
            return Source(supplied.name.value, absent if default is None else count(_untyped(default)), listed)
        return Source(None, absent if supplied is None else count(_untyped(supplied)), listed)

    def _size(self, sources: tuple[Source, ...], most: int | None) -> int | Size:
        """Fields that ask in the same way share their size, so that it is worked out once for all of them."""
        if all(source.variable is None for source in sources):
            return _largest([source.count for source in sources], most)
        if (sources, most) not in self._shared:
            self._shared[sources, most] = lambda variables: _largest([source.read(variables) for source in sources], most)
        return self._shared[sources, most]


def _points(price: ArgumentPrice, value: object) -> int:
    if value is None or value is Undefined:
        return 0
    return price if isinstance(price, int) else price(value)


def _has_variable(node: ValueNode) -> bool:
    if isinstance(node, ObjectValueNode):
        return any(_has_variable(field.value) for field in node.fields)
    return isinstance(node, VariableNode) or (isinstance(node, ListValueNode) and any(map(_has_variable, node.values)))


def _largest(counts: Sequence[int | None], most: int | None) -> int:
    largest = max([count for count in counts if count is not None], default=PAGE_SIZE)
    return max(0, largest if most is None else min(largest, most))


def _untyped(value: ValueNode) -> object:
    # Elements of a list may be variables, of which only the number matters here.
    return value.values if isinstance(value, ListValueNode) else value_from_ast_untyped(value)


def _number(value: object) -> int | None:
    return int(max(-MAX_COUNT, min(value, MAX_COUNT))) if isinstance(value, int | float) else None


def _length(value: object) -> int | None:
    if value is None or value is Undefined:
        return None
    return len(cast("list[object]", value)) if isinstance(value, list | tuple) else 1  # A single value stands for a list of one.
