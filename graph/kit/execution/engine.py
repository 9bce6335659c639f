"""The GraphQL engine: parses, measures, validates and prices each document once, then executes its operations.

Strawberry builds the schema; graphql-core runs it directly, so that no hook stands between an operation and its fields, and each event of a
subscription gets a fresh context.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b
from typing import Any, cast

import structlog
from graphql import (
    DirectiveNode,
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    Visitor,
    execution,
    get_operation_ast,
    visit,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext as Executor

from graph.kit.cache_control import CacheDependencies, DependencyAnalyzer
from graph.kit.context import Context
from graph.kit.deprecations import Deprecations
from graph.kit.errors import BAD_USER_INPUT, Refused, as_error, internal, refusal, unavailable
from graph.kit.execution.leaf_executor import EdgeReader, LeafExecutor
from graph.kit.execution.validation import parsed, problems
from graph.kit.instrumentation import Observer
from graph.kit.limits.cost import CostEstimate, CostEstimator
from graph.kit.limits.cost_rules import CostRules
from persistence.kit.errors import DomainError
from persistence.kit.lru_cache import LruCache
from persistence.kit.transient_errors import is_transient

log = structlog.get_logger(__name__)

_core: Any = execution  # Partly untyped there.

DOCUMENT_BYTES = 64 * 2**20  # For the documents that are kept: some thirteen hundred of the usual 30 tokens.
TOKEN_BYTES = 500  # Measured: what one token takes in a parsed document, and a comment.
OPERATION_BYTES = 10_000  # Measured: what the smallest document takes.
PLAN_TOKEN_BYTES = 450  # Measured, at most: what it takes in a plan.
MAX_PLANS = 4  # Of one operation: for sets of values of the variables in its @skip and @include, and for viewers who hold scopes or not.
NO_FIELD = "{}"  # In the place of a field's name, for an operation that selects nothing.


@dataclass(frozen=True, eq=False)
class Operation:
    """One validated operation of a document."""

    source: str
    document: DocumentNode
    definition: OperationDefinitionNode
    cost: CostEstimate
    deprecated: tuple[str, ...] = ()  # What it uses of the schema that is deprecated.
    reads: CacheDependencies | None = None  # What its answer is made of; None if that must not be kept.
    derived: dict[str, Any] = field(default_factory=dict[str, Any])  # What is worked out of it once: few and small things.
    plans: list[Any] = field(default_factory=list[Any])  # Of `graph.kit.planner`, which end with the operation.

    @property
    def name(self) -> str | None:
        return self.definition.name.value if self.definition.name else None

    @property
    def kind(self) -> OperationType:
        return self.definition.operation

    @cached_property
    def first_root_field(self) -> FieldNode | None:
        """The first field of the root, inside fragments or not; None if it selects none, as `{}` does."""
        fragments = {each.name.value: each for each in self.document.definitions if isinstance(each, FragmentDefinitionNode)}
        return _first_field(self.definition.selection_set, fragments)

    @property
    def root_field(self) -> str:
        """The name of that field: what it is about, in one of few words."""
        return self.first_root_field.name.value if self.first_root_field else NO_FIELD

    @cached_property
    def digest(self) -> bytes:
        return blake2b(self.source.encode(), digest_size=16).digest()

    @cached_property
    def variable_names(self) -> tuple[str, ...]:
        return tuple(node.variable.name.value for node in self.definition.variable_definitions or ())

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """The variables that decide @skip and @include, anywhere in the document."""
        if "@" not in self.source:
            return ()
        found = _Conditions()
        visit(self.document, found)
        return tuple(found.names)

    @cached_property
    def size_bytes(self) -> int:
        """What it takes in memory, with its plans. Its text counts twice: tokens and nodes have a copy of each part."""
        plans = (MAX_PLANS if self.conditions else 2) * PLAN_TOKEN_BYTES * self.document.token_count
        nodes = TOKEN_BYTES * (self.document.token_count + self.source.count("#"))
        return 2 * sys.getsizeof(self.source) + nodes + plans + self.cost.size_bytes + OPERATION_BYTES

    @property
    def is_query(self) -> bool:
        return self.kind is OperationType.QUERY


class _Conditions(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, None] = {}

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.names[argument.value.name.value] = None


@dataclass(frozen=True, slots=True)
class SubscriptionEvent:
    """One event of a subscription's source, and its execution."""

    event: object
    execute: Callable[[Context, EdgeReader | None], Awaitable[ExecutionResult]]


class Engine:
    """Keeps prepared documents, at most DOCUMENT_BYTES of them."""

    def __init__(self, schema: GraphQLSchema, observer: Observer, *, suggestions: bool, introspection: bool, fast: bool) -> None:
        self.schema, self._observer = schema, observer
        self._tariff, self._deprecations, self._reader = CostRules(schema), Deprecations(schema), DependencyAnalyzer(schema)
        self._suggestions, self._introspection = suggestions, introspection
        self._builder: Any = LeafExecutor if fast else Executor
        self._operations = LruCache[tuple[str, str | None], Operation](DOCUMENT_BYTES, lambda _, operation: operation.size_bytes)

    def prepare(self, source: str, operation_name: str | None) -> Operation:
        """Raises: Refused, if the document cannot be parsed, is too big or invalid, or has no such operation."""
        key = (source, operation_name)
        operation = self._operations.get(key)
        if operation is None:
            operation = self._prepared(source, operation_name)
            self._operations.put(key, operation)
        return operation

    def knows(self, source: str, operation_name: str | None) -> bool:
        """Whether `prepare` has nothing to do."""
        return (source, operation_name) in self._operations

    def _prepared(self, source: str, operation_name: str | None) -> Operation:
        try:
            with self._observer.phase("parse"):
                document = parsed(source)
        except GraphQLError as error:
            raise Refused([error]) from None
        with self._observer.phase("validate"):
            errors = problems(self.schema, document, introspection=self._introspection, suggestions=self._suggestions)
        if errors:
            raise Refused(errors)
        definition = get_operation_ast(document, operation_name)
        if definition is None:
            requested = f"no operation {operation_name!r}" if operation_name else "several operations: say which with operationName"
            raise refusal(BAD_USER_INPUT, f"The document has {requested}.")
        cost_estimate = CostEstimator(self._tariff, document, definition).estimate()
        deprecated, reads = self._deprecations.used(document, definition), self._reader.of(document, definition)
        return Operation(source, document, definition, cost_estimate, deprecated, reads)

    async def execute(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context, edges: EdgeReader | None = None
    ) -> ExecutionResult:
        """Run a query or a mutation; `edges` reads those of objects in place of their resolvers. Raises: Refused, if the variables do not fit."""
        executor = self._executor(operation, variables, context)
        executor.edges = edges
        return self._mask_error(await _completed(executor.execute_operation()), context)

    async def subscribe(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> AsyncGenerator[SubscriptionEvent | ExecutionResult]:
        """Run a subscription: what occurs, to be executed in a fresh context each, and at most one error, which ends it.

        Raises: Refused, before the first event.
        """
        executor = self._executor(operation, variables, context)
        stream = await _completed(_core.create_source_event_stream(executor))
        if isinstance(stream, ExecutionResult):
            raise Refused(self._mask_error(stream, context).errors or [])
        async with aclosing(cast("AsyncGenerator[Any]", stream)) as events:
            try:
                async for event in events:
                    yield SubscriptionEvent(event, partial(self._one, operation, executor, event))
            except DomainError as error:
                yield ExecutionResult(errors=[as_error(error)])
            except Exception as error:  # noqa: BLE001 -- whatever breaks a source, its subscribers get one masked error
                located = GraphQLError(str(error), original_error=error)
                yield self._mask_error(ExecutionResult(errors=[located]), context)

    async def _one(self, operation: Operation, executor: Any, event: object, context: Context, edges: EdgeReader | None) -> ExecutionResult:
        executor = self._builder.build_per_event_executor(executor, event)
        executor.context_value, executor.edges = context, edges
        with self._observer.phase("event", operation):
            return self._mask_error(await _completed(_core.execute_subscription_event(executor)), context)

    def _executor(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Any:
        built: Executor | list[GraphQLError] = self._builder.build(
            self.schema,
            operation.document,
            context_value=context,
            raw_variable_values=dict(variables or {}),
            operation_name=operation.name,
            hide_suggestions=not self._suggestions,
        )
        if isinstance(built, list):
            raise Refused([_coded(error, BAD_USER_INPUT) for error in built])
        return built

    def _mask_error(self, result: Any, context: Context) -> ExecutionResult:
        if result.errors:
            result.errors = mask(result.errors, context.caller.request_id)
        return result


def _first_field(selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode]) -> FieldNode | None:
    """Takes each fragment that it enters out of `fragments`: one without a field is not entered again, however often it is spread."""
    for selection in selections.selections:
        if isinstance(selection, FieldNode):
            return selection
        target = fragments.pop(selection.name.value, None) if isinstance(selection, FragmentSpreadNode) else selection
        inner = cast("FragmentDefinitionNode | InlineFragmentNode | None", target)
        if inner and (field := _first_field(inner.selection_set, fragments)):
            return field
    return None


def mask(errors: Sequence[GraphQLError], request_id: str) -> list[GraphQLError]:
    """Give each error a code. One that nobody meant is logged with its traceback, and the client is told its request id only."""
    return [_masked(error, request_id) for error in errors]


def _masked(error: GraphQLError, request_id: str) -> GraphQLError:
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, DomainError):
        return _located(as_error(cause), error)
    if (error.extensions or {}).get("code"):
        return error
    if cause is None or isinstance(cause, GraphQLError):
        return _coded(error, BAD_USER_INPUT)
    if is_transient(cause):
        return _located(unavailable(cause), error)
    log.error("unexpected error in a resolver", path=error.path, request_id=request_id, exc_info=cause)
    return _located(internal(request_id), error)


def _located(error: GraphQLError, at: GraphQLError) -> GraphQLError:
    return GraphQLError(error.message, nodes=at.nodes, path=at.path, extensions=error.extensions)


def _coded(error: GraphQLError, code: str) -> GraphQLError:
    error.extensions = {"code": code, **(error.extensions or {})}
    return error


async def _completed(value: Any) -> Any:
    return await cast("Awaitable[Any]", value) if isinstance(value, Awaitable) else value
