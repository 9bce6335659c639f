"""The fast path: a query compiled once, from its selection to columns to JSON, for root fields that declare how.

How it works. `Plans.of(operation)` looks at each root field. If all are declared, and below them stand only declared leaves, declared objects and
`__typename`, the document becomes a plan: the objects that it wants of the database as JSON, and what stands around them. Running a plan coerces
variables and arguments as the reference executor does, asks for the rows, and puts their JSON together.

What keeps it honest. Only public fields without a resolver, arguments or rules of their own may be declared (`check`), so there is nothing to skip. On any
doubt the answer is None and the reference executor runs the operation: a directive, an undeclared field, a variable that does not fit, an exception
of any kind. A plan that raises what it should not is dropped for good and counted. The fast path never makes an error of its own. Limits, budgets
and caches stand before it, in the pipeline.
FAST_PATH_ENABLED=false turns it off; tests/kit/planner/test_plans.py compares both paths byte by byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import strawberry
import structlog
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLSchema,
    SelectionSetNode,
)
from graphql.execution import get_argument_values, get_variable_values
from strawberry.types.field import StrawberryField

from graph.kit.context import Context, Services
from graph.kit.execution.coercion import Converters
from graph.kit.execution.engine import Operation
from graph.kit.planner.arguments import Plain, reader
from persistence.kit.errors import DomainError
from persistence.kit.query.json_object import Constant, Field, Value, Written
from persistence.kit.transient_errors import is_outage

log = structlog.get_logger(__name__)

WRITTEN = {"ID", "String", "Decimal", "Int", "Boolean", "DateTime", "[String!]"}  # Types of leaves that the database writes.


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


def check(schema: GraphQLSchema, plannable: Plannable) -> None:
    """Raises: TypeError, if a field has a rule that a plan would leave out: a resolver, arguments, directives, extensions, permissions."""
    type_ = cast("Any", schema.type_map[plannable.name])
    for name in plannable.leaves:
        field_ = cast("GraphQLField", type_.fields[name])
        definition: StrawberryField = field_.extensions["strawberry-definition"]
        ruled = field_.args or definition.directives or definition.extensions or definition.permission_classes
        kind = str(field_.type).removesuffix("!")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] -- graphql-core's lists are generic
        if not definition.is_basic_field or ruled or kind not in WRITTEN:
            raise TypeError(f"{plannable.name}.{name} has a rule or a type that no plan knows: leave it to the reference executor")
    for _, inner in plannable.objects.values():
        check(schema, inner)


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
    """The plans of one schema; `declared` holds what compiles each root field of Query that has a fast path.

    A plan is kept by its operation, and so bounded with the parsed documents.
    """

    strict: ClassVar[bool] = False
    """Whether a plan that fails is an error, as it is in tests."""

    def __init__(
        self, schema: strawberry.Schema, services: Services, declared: Mapping[str, Compile], plannable: Sequence[Plannable] = ()
    ) -> None:
        """Raises: TypeError, if one of the `plannable` types has a field that no plan may serve."""
        self._schema, self._services, self._declared = schema, services, declared
        self._core = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as in graph/schema.py
        self._converters = Converters(schema)
        for each in plannable:
            check(self._core, each)

    async def answer(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Part | None:
        """The response's `data`, or None where the reference executor must run."""
        plan = self._plan(operation)
        if plan is None:
            return None
        try:
            return await self._data(plan, operation, variables or {}, context)
        except (NotPlannable, DomainError, GraphQLError):
            return None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the reference executor says it as clients know it
            if not is_outage(error):
                self._drop(operation, error)
            return None

    def _plan(self, operation: Operation) -> Plan | None:
        if not operation.plans:
            plan = operation.plans[()] = self._compiled(operation)
            self._services.observer.plan("refused" if plan is None else "made")
        return operation.plans[()]

    def _drop(self, operation: Operation, error: Exception) -> None:
        """It is not tried again. Raises: Exception, in tests."""
        operation.plans[()] = None
        self._services.observer.plan("failed")
        log.error("a plan failed and is dropped", operation=operation.root_field, exc_info=error)
        if self.strict:
            raise error

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
        arguments = self._arguments(plan, operation, variables)
        runs = [root.run(context, given) for root, given in zip(plan.roots, arguments, strict=True)]
        parts = [await runs[0]] if len(runs) == 1 else await _together(runs)
        return joined(dict(zip([root.response_name for root in plan.roots], parts, strict=True)))

    def _arguments(self, plan: Plan, operation: Operation, variables: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Of each root. Raises: NotPlannable, GraphQLError."""
        if plan.is_plain(variables) and all(root.plain for root in plan.roots):
            return [root.plain(variables) for root in plan.roots if root.plain]
        coerced = self._coerced(operation, variables)
        return [root.arguments(coerced) for root in plan.roots]

    def _coerced(self, operation: Operation, variables: Mapping[str, Any]) -> Any:
        """Raises: NotPlannable."""
        values = get_variable_values(self._core, operation.definition.variable_definitions or (), dict(variables))
        if isinstance(values, list):
            raise NotPlannable
        return values


async def _together(runs: Sequence[Awaitable[Part]]) -> Sequence[Part]:
    """All at once, so that what they look up shares statements. None is left running when one fails, and the first failure is raised."""
    parts = await asyncio.gather(*runs, return_exceptions=True)
    for part in parts:
        if isinstance(part, BaseException):
            raise part
    return cast("Sequence[Part]", parts)
