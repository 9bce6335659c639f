"""Answers queries by plans, root by root; what cannot be planned goes to the executor, and both are joined in the order of the selection."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, product
from typing import Any, ClassVar, NamedTuple, cast

import orjson
import strawberry
import structlog
from graphql import DocumentNode, ExecutionResult, FieldNode, FragmentDefinitionNode, GraphQLError, GraphQLObjectType, SelectionSetNode

from graph.kit.auth import Scope
from graph.kit.context import Context, Services
from graph.kit.entity.declaration import shown_entity
from graph.kit.entity.roots import FindByKey, ReadList, ReadNumberedPage, RunResolver
from graph.kit.execution.concurrency import gather
from graph.kit.execution.engine import MAX_PLANS, Engine, Operation
from graph.kit.fields import Planned
from graph.kit.planner.arguments import Plain, sample_values
from graph.kit.planner.collect_fields import FieldCollector
from graph.kit.planner.payloads import PayloadPlan, PayloadReader
from graph.kit.planner.plan_builder import PlanBuilder, PlannerSchema
from graph.kit.planner.plan_cost import PlanCosts
from graph.kit.planner.plan_execution import PlanExecution
from graph.kit.planner.root_plans import ROOT_ARGUMENTS, RootPlan, build_root
from graph.kit.planner.steps import JsonAndCost
from graph.kit.planner.unplannable import Unplannable
from persistence.kit.errors import DomainError
from persistence.kit.json_rows.placeholders import BrokenRow
from persistence.kit.json_rows.reader import EntityReader
from persistence.kit.transient_errors import is_transient

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PlannedAnswer:
    """A response's `data` as JSON, null without any, its errors, and what it cost."""

    json: bytes
    points: int
    errors: Sequence[GraphQLError] = ()


class Plan:
    """The roots of an operation by their names in the response: planned ones, constants, and the rest, which the executor runs."""

    def __init__(self, roots: Mapping[str, RootPlan | bytes | None], nodes: Mapping[str, Sequence[FieldNode]]) -> None:
        self.names, self.nodes = tuple(roots), nodes
        self.planned: dict[str, RootPlan] = {}
        self.constants: dict[str, bytes] = {}
        self.rest: list[str] = []
        self.rest_operation: Operation | None = None
        for name, root in roots.items():
            if root is None:
                self.rest.append(name)
            elif isinstance(root, bytes):
                self.constants[name] = root
            else:
                self.planned[name] = root


class PlanKey(NamedTuple):
    """The values of the conditions, and the scopes whose holders the plan is for: what these open is read without asking."""

    conditions: tuple[bool, ...]
    held: frozenset[Scope] = frozenset()


@dataclass
class OperationPlans:
    """The plans of one operation, which end with it."""

    is_plain: Plain
    by_key: OrderedDict[PlanKey, Plan | None] = field(default_factory=OrderedDict[PlanKey, "Plan | None"])
    rule_scopes: set[Scope] = field(default_factory=set[Scope])
    """The scopes that open a private row or field to those who hold them, as far as plans have met them."""
    payloads: OrderedDict[tuple[bool, ...], PayloadPlan] = field(default_factory=OrderedDict[tuple[bool, ...], PayloadPlan])
    """Of a mutation or a subscription."""

    def key(self, conditions: tuple[bool, ...], context: Context) -> PlanKey:
        """Who holds some of the scopes of its rules, and not all, has the plan of those who hold none."""
        return PlanKey(conditions, frozenset(self.rule_scopes) if all(map(context.holds, self.rule_scopes)) else frozenset())


class Planner:
    strict: ClassVar[bool] = False
    """Whether a plan that fails is an error, as it is in tests."""

    def __init__(self, schema: strawberry.Schema, engine: Engine, services: Services) -> None:
        """Raises: TypeError, for a root field whose plan does not know its arguments."""
        self._schema = PlannerSchema(schema, EntityReader(services.database))
        self._engine, self._observer = engine, services.observer
        self._query = cast("GraphQLObjectType", self._schema.core.query_type)
        check_roots(self._query)

    async def answer(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> PlannedAnswer | None:
        """None where the executor must run the whole operation. Raises: Refused, if the variables do not fit."""
        if not operation.is_query or operation.definition.directives:
            return None
        if (begun := self._begin(operation, variables, context)) is None:
            return None
        plans, run, conditions = begun
        known = self._plan(operation, plans, key := plans.key(conditions, context))
        if key != (asking := plans.key(conditions, context)):  # Making the plan has told of scopes, which this viewer holds.
            known = self._plan(operation, plans, key := asking)
        return None if known is None else await self._answer(known, plans, key, operation, run)

    def edges(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> PayloadReader | None:
        """What reads the edges of a mutation's payload, or of one event of a subscription."""
        if (begun := self._begin(operation, variables, context)) is None:
            return None
        plans, run, conditions = begun
        if conditions in plans.payloads:
            plans.payloads.move_to_end(conditions)
        else:
            plans.payloads[conditions] = PayloadPlan(self._builder(operation, plans, PlanKey(conditions)))
            if len(plans.payloads) > MAX_PLANS:
                plans.payloads.popitem(last=False)
        return PayloadReader(plans.payloads[conditions], run, partial(self._failed, operation))

    def _begin(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> tuple[OperationPlans, PlanExecution, tuple[bool, ...]] | None:
        """The operation's plans, this execution of one, and the values of its conditions; None where one has no value."""
        plans = self._plans(operation)
        run = PlanExecution(self._schema.core, operation, plans.is_plain, variables or {}, context)
        try:
            return plans, run, _conditions(operation, run)
        except Unplannable:
            return None

    def prepare(self, operation: Operation, context: Context) -> None:
        """Make the plans of an operation and their statements before it is asked for, as far as these do not depend on values of variables."""
        if not operation.is_query or operation.definition.directives:
            return
        plans, samples = self._plans(operation), sample_values(operation.definition.variable_definitions or ())
        for conditions in islice(product((True, False), repeat=len(operation.conditions)), MAX_PLANS):
            variables = samples | dict(zip(operation.conditions, conditions, strict=True))
            run = PlanExecution(self._schema.core, operation, plans.is_plain, variables, context)
            for held in (frozenset[Scope](), plans.rule_scopes):  # Which the first of both plans fills.
                if plan := self._plan(operation, plans, PlanKey(conditions, frozenset(held))):
                    self._prepare(plan, operation, run)

    def _prepare(self, plan: Plan, operation: Operation, run: PlanExecution) -> None:
        for root in plan.planned.values():
            try:
                root.prepare(run)
            except (Unplannable, DomainError, GraphQLError):
                continue  # The first request with better values makes them.
            except Exception as error:  # noqa: BLE001 -- the service starts without them
                self._failed(operation, error)

    def _plans(self, operation: Operation) -> OperationPlans:
        if not operation.plans:
            operation.plans.append(OperationPlans(Plain(operation.definition.variable_definitions or ())))
        return operation.plans[0]

    def _plan(self, operation: Operation, plans: OperationPlans, key: PlanKey) -> Plan | None:
        known = plans.by_key
        if key in known:
            known.move_to_end(key)
        else:
            plan = self._built(operation, self._builder(operation, plans, key))
            known[key] = plan if plan and plan.planned else None
            self._observer.plan("refused" if known[key] is None else "made")
            if len(known) > MAX_PLANS:
                known.popitem(last=False)
        return known[key]

    def _builder(self, operation: Operation, plans: OperationPlans, key: PlanKey) -> PlanBuilder:
        selection = FieldCollector(self._schema.core, operation, dict(zip(operation.conditions, key.conditions, strict=True)))
        return PlanBuilder(self._schema, selection, plans.rule_scopes, key.held)

    def _built(self, operation: Operation, builder: PlanBuilder) -> Plan | None:
        plan_costs = PlanCosts(operation.cost.named, of_roots=True)
        try:
            fields = builder.selection.fields(self._query, [operation.definition.selection_set])
        except Unplannable:
            return None
        return Plan({name: self._root(builder, plan_costs, name, nodes) for name, nodes in fields.items()}, fields)

    def _root(self, builder: PlanBuilder, plan_costs: PlanCosts, response_name: str, nodes: Sequence[FieldNode]) -> RootPlan | bytes | None:
        name = nodes[0].name.value
        if name == "__typename":
            return b'"%b"' % self._query.name.encode()
        if name.startswith("__"):
            return None
        try:
            return build_root(builder, self._query.fields[name], nodes, plan_costs.of(response_name))
        except Unplannable:
            return None

    async def _answer(
        self, plan: Plan, plans: OperationPlans, key: PlanKey, operation: Operation, run: PlanExecution
    ) -> PlannedAnswer | None:
        """What is not planned runs beside what is; what a plan refused, afterwards."""
        works: list[Any] = [self._one(root, run, plans, key, operation) for root in plan.planned.values()]
        results: list[ExecutionResult] = []
        if plan.rest:
            *answers, executed = await gather([*works, self._execute(plan, plan.rest, operation, run)])
            results.append(executed)
        else:
            answers = await gather(works)
        found = dict(zip(plan.planned, answers, strict=True))
        refused = [name for name, answer in found.items() if answer is None]
        if len(refused) == len(found) and not plan.rest:
            return None
        if refused:
            results.append(await self._execute(plan, refused, operation, run))
        return _combine(plan, found, results, operation, run)

    async def _one(
        self, root: RootPlan, run: PlanExecution, plans: OperationPlans, key: PlanKey, operation: Operation
    ) -> JsonAndCost | None:
        """None where the executor must run this root."""
        try:
            return await root.run(run)
        except (Unplannable, BrokenRow, DomainError, GraphQLError):
            return None
        except Exception as error:  # noqa: BLE001 -- whatever it is, the reference executor says it as clients know it
            if not is_transient(error):
                plans.by_key[key] = None
                self._failed(operation, error)
            return None

    def _failed(self, operation: Operation, error: Exception) -> None:
        """A plan is not tried again. Raises: Exception, in tests."""
        self._observer.plan("failed")
        log.error("a plan failed and is dropped", operation=operation.root_field, exc_info=error)
        if self.strict:
            raise error

    async def _execute(self, plan: Plan, names: Sequence[str], operation: Operation, run: PlanExecution) -> ExecutionResult:
        """Some roots of the operation. Raises: Refused."""
        if names is not plan.rest:
            part = _part(plan, names, operation)
        elif (part := plan.rest_operation) is None:
            part = plan.rest_operation = _part(plan, names, operation)
        return await self._engine.execute(part, run.variables, run.context)


def _part(plan: Plan, names: Sequence[str], operation: Operation) -> Operation:
    nodes = tuple(node for name in names for node in plan.nodes[name])
    definition = _with(operation.definition, selection_set=SelectionSetNode(selections=nodes))
    fragments = [each for each in operation.document.definitions if isinstance(each, FragmentDefinitionNode)]
    return replace(operation, document=DocumentNode(definitions=(definition, *fragments)), definition=definition, plans=[])


def _conditions(operation: Operation, run: PlanExecution) -> tuple[bool, ...]:
    """The values of the variables in @skip and @include. Raises: Unplannable."""
    names = operation.conditions
    if not names:
        return ()
    values = run.variables if run.is_plain else run.coerced.coerced
    found = tuple(values.get(name) for name in names)
    if not all(isinstance(value, bool) for value in found):
        raise Unplannable("a condition without a value")
    return cast("tuple[bool, ...]", found)


def _combine(
    plan: Plan, found: Mapping[str, JsonAndCost | None], results: Sequence[ExecutionResult], operation: Operation, run: PlanExecution
) -> PlannedAnswer:
    for result in results:
        if result.data is None:  # A root that must not be null has failed: there is nothing beside it.
            return PlannedAnswer(b"null", 0, result.errors or ())
    errors = [error for result in results for error in result.errors or ()]
    executed: dict[str, Any] = {name: value for result in results for name, value in (result.data or {}).items()}
    parts: list[bytes] = []
    points = operation.cost.actual(run.variables, executed) if executed else 0
    for name in plan.names:
        if answer := found.get(name):
            json, cost = answer
            points += cost
        else:
            json = plan.constants.get(name) or orjson.dumps(executed[name])
        parts.append(b'"%b":%b' % (name.encode(), json))
    return PlannedAnswer(b"{%b}" % b",".join(parts), points, errors)


def _with(node: Any, **values: Any) -> Any:
    """A syntax node with other values."""
    return type(node)(**{key: getattr(node, key) for key in node.keys if key not in values}, **values)


def check_roots(query: GraphQLObjectType) -> None:
    """Raises: TypeError, for a root whose plan does not know its arguments, or has a rule beside its scopes that the plan would leave out."""
    for name, definition in query.fields.items():
        declared: Any = definition.extensions["strawberry-definition"]
        planned: Planned | None = declared.metadata.get("plan")
        if planned is None:
            continue
        root, arguments = planned.root, {each.python_name for each in declared.arguments}
        read = root.query_of if isinstance(root, ReadList | ReadNumberedPage) else root.key if isinstance(root, FindByKey) else None
        known = ROOT_ARGUMENTS.get(type(root), arguments) if read is None else set(inspect.signature(read).parameters)
        if arguments != known:
            raise TypeError(f"Query.{name} has arguments that its plan does not know, or the other way round: {sorted(arguments ^ known)}")
        if declared.extensions or declared.permission_classes:
            raise TypeError(f"Query.{name} has a rule that its plan would leave out")
        if isinstance(root, RunResolver) and planned.limits:
            raise TypeError(f"Query.{name} counts its calls, and its plan may run it twice")
        dependencies, shown = declared.metadata.get("cache"), shown_entity(definition)
        if dependencies is not None and (shown is None or shown.entity.model.__tablename__ not in dependencies.tables):
            raise TypeError(f"Query.{name} is kept until other tables change than the one that it reads: name that in cache=reads(…)")
