"""The fast path: a query compiled once, from its selection to columns to JSON, for root fields that declare how.

How it works. `Plans.of(operation)` looks at each root field. If all are declared, and below them stand only declared leaves, declared objects and
`__typename`, the document becomes a `Plan`: the columns that it needs, and functions that make response objects of rows. Running a plan coerces
variables and arguments as the reference executor does, asks for the rows, and encodes.

What keeps it honest. Only public fields without a resolver, arguments or rules of their own may be declared, so there is nothing to skip. On any
doubt the answer is None and the reference executor runs the operation: a directive, an undeclared field, a variable that does not fit, an exception
of any kind. The fast path never makes an error of its own. Limits, budgets and caches stand before it, in the pipeline.
FAST_PATH_ENABLED=false turns it off; tests/test_plans.py compares both paths byte by byte.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import strawberry
import structlog
from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, GraphQLError, GraphQLField, SelectionSetNode
from graphql.execution import get_argument_values, get_variable_values
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from graph.kit.context import Context, Services
from graph.kit.execution import Operation
from persistence.kit.errors import DomainError

log = structlog.get_logger(__name__)

PLANS = 1_000  # As many as there are parsed documents.

Show = Callable[[Any], Any]
Run = Callable[[Context, Mapping[str, Any]], Awaitable[Any]]


class NotPlannable(Exception):
    """The reference executor must run this operation."""


@dataclass(frozen=True)
class Plannable:
    """A type whose fields are columns of a row.

    `leaves` gives the column of each leaf by field name; `objects`, for each to-one object in the same row, the column that is null when there is
    none, and its type; `shown` says how a leaf becomes JSON where the graph decides, not the column.
    """

    name: str
    leaves: Mapping[str, str]
    objects: Mapping[str, tuple[str, Plannable]] = field(default_factory=dict[str, "tuple[str, Plannable]"])
    shown: Mapping[str, Show] = field(default_factory=dict[str, Show])


@dataclass(frozen=True)
class Shape:
    """How a response object is made of a row: the place and form of each leaf, then what is not a leaf, in the place that a leaf kept for it."""

    leaves: Sequence[tuple[str, int, Show | None]]
    others: Sequence[tuple[str, Show]]

    def __call__(self, row: Sequence[Any]) -> dict[str, Any]:
        shown = {name: row[place] if show is None else show(row[place]) for name, place, show in self.leaves}
        for name, show in self.others:
            shown[name] = show(row)
        return shown


class Selection:
    """The selections of one operation, and the columns that they turn out to need."""

    def __init__(self, operation: Operation, services: Services) -> None:
        self.services = services
        definitions = operation.document.definitions
        self._fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}

    def fields(self, type_name: str, nodes: Sequence[FieldNode]) -> dict[str, list[FieldNode]]:
        """What is selected below these fields, merged by response name. Raises: NotPlannable."""
        fields: dict[str, list[FieldNode]] = {}
        for node in nodes:
            if node.selection_set is not None:
                self.gather(type_name, node.selection_set, fields)
        return fields

    def gather(self, type_name: str, selection_set: SelectionSetNode, fields: dict[str, list[FieldNode]]) -> None:
        for node in selection_set.selections:
            if node.directives:
                raise NotPlannable
            if isinstance(node, FieldNode):
                fields.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
                continue
            target: Any = self._fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            if target.directives or (target.type_condition and target.type_condition.name.value != type_name):
                raise NotPlannable
            self.gather(type_name, target.selection_set, fields)

    def shape(self, type_: Plannable, nodes: Sequence[FieldNode], columns: list[str], show: Callable[[str], Show | None]) -> Shape:
        """Raises: NotPlannable. Adds the columns that are needed to `columns`; `show` tells a column's form."""
        leaves: list[tuple[str, int, Show | None]] = []
        others: list[tuple[str, Show]] = []
        for response_name, selected in self.fields(type_.name, nodes).items():
            name = selected[0].name.value
            if name == "__typename":
                leaves.append((response_name, 0, _always(type_.name)))
            elif name in type_.leaves:
                column = type_.leaves[name]
                leaves.append((response_name, _place(columns, column), type_.shown.get(name) or show(column)))
            elif name in type_.objects:
                present, inner = type_.objects[name]
                leaves.append((response_name, _place(columns, present), None))
                others.append((response_name, _unless_null(_place(columns, present), self.shape(inner, selected, columns, show))))
            else:
                raise NotPlannable
        return Shape(leaves, others)


def _place(columns: list[str], column: str) -> int:
    if column not in columns:
        columns.append(column)
    return columns.index(column)


def _always(value: str) -> Show:
    return lambda _: value


def _unless_null(place: int, shape: Shape) -> Show:
    return lambda row: None if row[place] is None else shape(row)


@dataclass(frozen=True)
class Root:
    """One root field of a plan."""

    response_name: str
    definition: GraphQLField
    node: FieldNode
    run: Run


Compile = Callable[[Selection, Sequence[FieldNode]], Run]


class Plans:
    """The plans of one schema; `declared` holds what compiles each root field of Query that has a fast path."""

    def __init__(self, schema: strawberry.Schema, services: Services, declared: Mapping[str, Compile]) -> None:
        self._schema, self._services, self._declared = schema, services, declared
        self._core = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as in graph/schema.py
        self._plans: OrderedDict[Operation, list[Root] | None] = OrderedDict()

    async def answer(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> dict[str, Any] | None:
        """The response's `data`, or None where the reference executor must run."""
        roots = self._roots(operation)
        if roots is None:
            return None
        try:
            return await self._data(roots, operation, variables, context)
        except (NotPlannable, DomainError, GraphQLError):
            return None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the reference executor says it as clients know it
            log.warning("the fast path failed", error=repr(error))
            return None

    def _roots(self, operation: Operation) -> list[Root] | None:
        if operation not in self._plans:
            self._plans[operation] = self._compiled(operation)
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return self._plans[operation]

    def _compiled(self, operation: Operation) -> list[Root] | None:
        selection = Selection(operation, self._services)
        fields: dict[str, list[FieldNode]] = {}
        if not operation.is_query or operation.definition.directives:
            return None
        try:
            selection.gather("Query", operation.definition.selection_set, fields)
            return [self._root(name, nodes, selection) for name, nodes in fields.items()]
        except NotPlannable:
            return None

    def _root(self, response_name: str, nodes: Sequence[FieldNode], selection: Selection) -> Root:
        name = nodes[0].name.value
        if name not in self._declared:
            raise NotPlannable
        definition = cast("Any", self._core.query_type).fields[name]
        return Root(response_name, definition, nodes[0], self._declared[name](selection, nodes))

    async def _data(
        self, roots: Sequence[Root], operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> dict[str, Any]:
        values = get_variable_values(self._core, operation.definition.variable_definitions or (), dict(variables or {}))
        if isinstance(values, list):
            raise NotPlannable
        data: dict[str, Any] = {}
        for root in roots:
            arguments = get_argument_values(root.definition, root.node, values)
            data[root.response_name] = await root.run(context, self._converted(root.definition, arguments))
        return data

    def _converted(self, definition: GraphQLField, arguments: dict[str, Any]) -> dict[str, Any]:
        field_: StrawberryField = definition.extensions["strawberry-definition"]
        registry = self._schema.schema_converter.scalar_registry
        return convert_arguments(arguments, field_.arguments, registry, self._schema.config)
