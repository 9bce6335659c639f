"""The fast path: a query compiled once, from its selection to columns to JSON, for root fields that declare how.

How it works. `Plans.of(operation)` looks at each root field. If all are declared, and below them stand only declared leaves, declared objects and
`__typename`, the document becomes a plan: the objects that it wants of the database as JSON, and what stands around them. Running a plan coerces
variables and arguments as the reference executor does, asks for the rows, and puts their JSON together.

What keeps it honest. Only public fields without a resolver, arguments or rules of their own may be declared, so there is nothing to skip. On any
doubt the answer is None and the reference executor runs the operation: a directive, an undeclared field, a variable that does not fit, an exception
of any kind. The fast path never makes an error of its own. Limits, budgets and caches stand before it, in the pipeline.
FAST_PATH_ENABLED=false turns it off; tests/kit/planner/test_plans.py compares both paths byte by byte.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import strawberry
import structlog
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    SelectionSetNode,
)
from graphql.execution import get_argument_values, get_variable_values
from strawberry.types.field import StrawberryField

from graph.kit.context import Context, Services
from graph.kit.errors import out_of_service
from graph.kit.execution.coercion import Converters
from graph.kit.execution.engine import Operation
from graph.kit.planner.arguments import Plain, reader
from persistence.kit.errors import DomainError
from persistence.kit.query.json_object import Constant, Field, Value, Written
from persistence.kit.transient_errors import is_outage

log = structlog.get_logger(__name__)

PLANS = 1_000  # As many as there are parsed documents.


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the response's JSON, and its outline: the same with null for each leaf, by which the operation is charged."""

    json: bytes
    outline: Any


Run = Callable[[Context, Mapping[str, Any]], Awaitable[Part]]

NULL = Part(b"null", None)


class NotPlannable(Exception):
    """The reference executor must run this operation."""


@dataclass(frozen=True)
class Plannable:
    """A type whose fields are columns of a row.

    `leaves` gives the column of each leaf by field name; `objects`, for each to-one object in the same row, the column that is null when there is
    none, and its type. The field `id` is the type's name and the column, as global ids are made.
    """

    name: str
    leaves: Mapping[str, str]
    objects: Mapping[str, tuple[str, Plannable]] = field(default_factory=dict[str, "tuple[str, Plannable]"])


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

    def written(self, type_: Plannable, nodes: Sequence[FieldNode], present: str | None = None) -> Written:
        """How the database writes such an object. Raises: NotPlannable."""
        fields: list[tuple[str, Field]] = []
        for response_name, selected in self.fields(type_.name, nodes).items():
            name = selected[0].name.value
            if name == "__typename":
                fields.append((response_name, Constant(f'"{type_.name}"')))
            elif name in type_.leaves:
                fields.append((response_name, Value(type_.leaves[name], f"{type_.name}:" if name == "id" else None)))
            elif name in type_.objects:
                column, inner = type_.objects[name]
                fields.append((response_name, self.written(inner, selected, column)))
            else:
                raise NotPlannable
        return Written(tuple(fields), present)


def outline(written: Written) -> dict[str, Any]:
    """Of an object that the database writes. One that turns out to be null is charged as well."""
    return {name: outline(field) if isinstance(field, Written) else None for name, field in written.fields}


def joined(parts: Mapping[str, Part]) -> Part:
    """An object of these fields."""
    json = b",".join([b'"%b":%b' % (name.encode(), part.json) for name, part in parts.items()])
    return Part(b"{%b}" % json, {name: part.outline for name, part in parts.items()})


@dataclass(frozen=True)
class Root:
    """One root field of a plan."""

    response_name: str
    definition: GraphQLField
    node: FieldNode
    run: Run
    plain: Callable[[Mapping[str, Any]], dict[str, Any]] | None
    """Makes the arguments of plain variables, where that is possible."""
    convert: Callable[[dict[str, Any]], dict[str, Any]]

    def arguments(self, variables: Any) -> dict[str, Any]:
        """As the resolver would get them. Raises: GraphQLError."""
        return self.convert(get_argument_values(self.definition, self.node, variables))


@dataclass(frozen=True)
class Plan:
    is_plain: Plain
    roots: Sequence[Root]


Compile = Callable[[Selection, Sequence[FieldNode]], Run]


class Plans:
    """The plans of one schema; `declared` holds what compiles each root field of Query that has a fast path."""

    def __init__(self, schema: strawberry.Schema, services: Services, declared: Mapping[str, Compile]) -> None:
        self._schema, self._services, self._declared = schema, services, declared
        self._core = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as in graph/schema.py
        self._converters = Converters(schema)
        self._plans: OrderedDict[Operation, Plan | None] = OrderedDict()

    async def answer(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Part | None:
        """The response's `data`, or None where the reference executor must run. Raises: Refused, while the database is away."""
        plan = self._plan(operation)
        if plan is None:
            return None
        try:
            return await self._data(plan, operation, variables or {}, context)
        except (NotPlannable, DomainError, GraphQLError):
            return None
        except Exception as error:
            if is_outage(error):  # It would wait for the same database once more.
                raise out_of_service(error) from error
            log.warning("the fast path failed", error=repr(error))
            return None

    def _plan(self, operation: Operation) -> Plan | None:
        if operation not in self._plans:
            self._plans[operation] = self._compiled(operation)
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return self._plans[operation]

    def _compiled(self, operation: Operation) -> Plan | None:
        selection = Selection(operation, self._services)
        fields: dict[str, list[FieldNode]] = {}
        if not operation.is_query or operation.definition.directives:
            return None
        try:
            selection.gather("Query", operation.definition.selection_set, fields)
            roots = [self._root(name, nodes, selection) for name, nodes in fields.items()]
            return Plan(Plain(operation.definition.variable_definitions or ()), roots)
        except NotPlannable:
            return None

    def _root(self, response_name: str, nodes: Sequence[FieldNode], selection: Selection) -> Root:
        name = nodes[0].name.value
        if name not in self._declared:
            raise NotPlannable
        definition: Any = cast("Any", self._core.query_type).fields[name]
        field_: StrawberryField = definition.extensions["strawberry-definition"]
        name_of = self._schema.config.name_converter.get_graphql_name
        names = {name_of(argument): argument.python_name for argument in field_.arguments}
        return Root(
            response_name,
            definition,
            nodes[0],
            self._declared[name](selection, nodes),
            reader(definition, nodes[0], names),
            self._converters.of_arguments(field_.arguments),
        )

    async def _data(self, plan: Plan, operation: Operation, variables: Mapping[str, Any], context: Context) -> Part:
        parts: dict[str, Part] = {}
        coerced: Any = None
        for root in plan.roots:
            if root.plain and plan.is_plain(variables):
                arguments = root.plain(variables)
            else:
                coerced = coerced or self._coerced(operation, variables)
                arguments = root.arguments(coerced)
            parts[root.response_name] = await root.run(context, arguments)
        return joined(parts)

    def _coerced(self, operation: Operation, variables: Mapping[str, Any]) -> Any:
        """Raises: NotPlannable."""
        values = get_variable_values(self._core, operation.definition.variable_definitions or (), dict(variables))
        if isinstance(values, list):
            raise NotPlannable
        return values
