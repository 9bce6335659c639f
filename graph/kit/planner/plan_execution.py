"""One execution of a plan: whose it is, its variables, and the arguments of fields, coerced as the reference executor coerces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from graphql import GraphQLField, GraphQLSchema
from graphql.execution import get_argument_values, get_variable_values

from graph.kit.context import Context
from graph.kit.execution.engine import Operation
from graph.kit.planner.arguments import Parameter, Plain, reader
from graph.kit.planner.unplannable import Unplannable


class PlanExecution:
    """One run of a plan."""

    def __init__(
        self, schema: GraphQLSchema, operation: Operation, is_plain: Plain, variables: Mapping[str, Any], context: Context
    ) -> None:
        self._schema, self._operation = schema, operation
        self.variables, self.context = variables, context
        self.is_plain = is_plain(variables)
        """Whether all variables arrived as what they must be, so that nothing is to be coerced."""

    @cached_property
    def coerced(self) -> Any:
        """Raises: Unplannable."""
        values = get_variable_values(self._schema, self._operation.definition.variable_definitions or (), dict(self.variables))
        if isinstance(values, list):
            raise Unplannable("variables that do not fit")
        return values


class FieldArguments:
    """The arguments of one field, as its resolver would get them."""

    def __init__(
        self, definition: GraphQLField, node: Any, parameters: Sequence[Parameter], convert: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self._definition, self._node, self._convert = definition, node, convert
        self._plain = reader(parameters, node)

    def __call__(self, run: PlanExecution) -> dict[str, Any]:
        """Raises: GraphQLError, Unplannable."""
        if self._plain and run.is_plain:
            return self._plain(run.variables)
        return self._convert(get_argument_values(self._definition, self._node, run.coerced))
