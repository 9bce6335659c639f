"""From text to results: parse and validate once for each document, then run it.

Strawberry builds the schema; graphql-core runs it directly, so that no hook stands between an operation and its fields, and each event of a
subscription gets a fresh context.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    execution,
    get_operation_ast,
    parse,
    validate,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext as Executor

from graph.kit.completion import LeafExecutor
from graph.kit.context import Context
from graph.kit.errors import BAD_USER_INPUT, INTERNAL, PARSE_FAILED, VALIDATION_FAILED, Refused, as_error, refusal
from persistence.kit.errors import DomainError

log = structlog.get_logger(__name__)

_core: Any = execution  # Partly untyped there.

DOCUMENTS = 1_000  # Parsed documents that are kept: about 20 kB each.
MAX_ERRORS = 20


@dataclass(frozen=True, eq=False)
class Operation:
    """One validated operation of a document."""

    source: str
    document: DocumentNode
    definition: OperationDefinitionNode

    @property
    def name(self) -> str | None:
        return self.definition.name.value if self.definition.name else None

    @property
    def kind(self) -> OperationType:
        return self.definition.operation

    @property
    def is_query(self) -> bool:
        return self.kind is OperationType.QUERY


class Engine:
    def __init__(self, schema: GraphQLSchema, *, suggestions: bool, fast: bool) -> None:
        self.schema = schema
        self._suggestions = suggestions
        self._builder: Any = LeafExecutor if fast else Executor
        self._operations: OrderedDict[tuple[str, str | None], Operation] = OrderedDict()

    def prepare(self, source: str, operation_name: str | None) -> Operation:
        """Raises: Refused, if the document cannot be parsed, is invalid, or has no such operation."""
        key = (source, operation_name)
        operation = self._operations.get(key)
        if operation is None:
            operation = self._operations[key] = self._prepared(source, operation_name)
            if len(self._operations) > DOCUMENTS:
                self._operations.popitem(last=False)
        else:
            self._operations.move_to_end(key)
        return operation

    def _prepared(self, source: str, operation_name: str | None) -> Operation:
        try:
            document = parse(source)
        except GraphQLSyntaxError as error:
            raise Refused([_coded(error, PARSE_FAILED)]) from error
        if errors := validate(self.schema, document, max_errors=MAX_ERRORS, hide_suggestions=not self._suggestions):
            raise Refused([_coded(error, VALIDATION_FAILED) for error in errors])
        definition = get_operation_ast(document, operation_name)
        if definition is None:
            wanted = f"no operation {operation_name!r}" if operation_name else "several operations: say which with operationName"
            raise refusal(BAD_USER_INPUT, f"The document has {wanted}.")
        return Operation(source, document, definition)

    async def execute(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> ExecutionResult:
        """Run a query or a mutation. Raises: Refused, if the variables do not fit."""
        executor = self._executor(operation, variables, context)
        return self._masked(await _completed(executor.execute_operation()), context)

    async def subscribe(
        self, operation: Operation, variables: Mapping[str, Any] | None, fresh: Callable[[], Context]
    ) -> AsyncGenerator[ExecutionResult]:
        """Run a subscription: one result an event, each in a fresh context. Raises: Refused, before the first event."""
        context = fresh()
        executor = self._executor(operation, variables, context)
        stream = await _completed(_core.create_source_event_stream(executor))
        if isinstance(stream, ExecutionResult):
            raise Refused(self._masked(stream, context).errors or [])
        async with aclosing(cast("AsyncGenerator[Any]", stream)) as events:
            try:
                async for event in events:
                    yield await self._one(executor, event, fresh())
            except DomainError as error:
                yield ExecutionResult(errors=[as_error(error)])
            except Exception as error:  # noqa: BLE001 -- whatever breaks a source, its subscribers get one masked error
                located = GraphQLError(str(error), original_error=error)
                yield self._masked(ExecutionResult(errors=[located]), context)

    async def _one(self, executor: Executor, event: object, context: Context) -> ExecutionResult:
        executor = self._builder.build_per_event_executor(executor, event)
        executor.context_value = context
        return self._masked(await _completed(_core.execute_subscription_event(executor)), context)

    def _executor(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Executor:
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

    def _masked(self, result: Any, context: Context) -> ExecutionResult:
        if result.errors:
            result.errors = mask(result.errors, context.caller.request_id)
        return result


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
    log.error("unexpected error in a resolver", path=error.path, request_id=request_id, exc_info=cause)
    return _located(GraphQLError(f"Internal error. Request id: {request_id}", extensions={"code": INTERNAL}), error)


def _located(error: GraphQLError, at: GraphQLError) -> GraphQLError:
    return GraphQLError(error.message, nodes=at.nodes, path=at.path, extensions=error.extensions)


def _coded(error: GraphQLError, code: str) -> GraphQLError:
    error.extensions = {"code": code, **(error.extensions or {})}
    return error


async def _completed(value: Any) -> Any:
    return await cast("Awaitable[Any]", value) if isinstance(value, Awaitable) else value
