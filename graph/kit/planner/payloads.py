"""Payloads of mutations and events of subscriptions: what they select beyond the objects at hand is read by the planner's statements.

The executor runs the field and completes its objects, whose own values are there. For an edge of theirs, such as the owner of a new item or its other
items, it asks here (`graph.kit.execution.leaf_executor`): all objects of a level wait for one statement, and what is selected below the edge is planned
as in a query. On any doubt the executor runs the edge's resolver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from graphql import FieldNode, GraphQLError, GraphQLObjectType
from strawberry.dataloader import DataLoader

from graph.kit.entity.declaration import Aggregated, Source, ToMany, ToNode, ToOne, entity_type
from graph.kit.execution.leaf_executor import Read, UnexpectedValue
from graph.kit.limits.cost_rules import notation
from graph.kit.planner.plan_builder import PlanBuilder, RowBuilder, entity_of
from graph.kit.planner.plan_cost import NO_COST
from graph.kit.planner.plan_execution import PlanExecution
from graph.kit.planner.root_plans import FoundObjects
from graph.kit.planner.steps import JsonAndCost, PlanStep
from graph.kit.planner.unplannable import Unplannable
from persistence.kit.errors import DomainError
from persistence.kit.json_rows.placeholders import BrokenRow

Key = tuple[str, tuple[int, ...]]


class Edge(Protocol):
    def key_of(self, source: Any, /) -> int | None:
        """Raises: UnexpectedValue, for an object whose edge the plan does not read."""
        ...

    async def read(self, run: PlanExecution, keys: Sequence[int]) -> Sequence[JsonAndCost | None]: ...


class _ToObject:
    def __init__(self, key_of: Callable[[Any], int | None], found: FoundObjects, *, nullable: bool) -> None:
        self.key_of, self._found, self._nullable = key_of, found, nullable

    async def read(self, run: PlanExecution, keys: Sequence[int]) -> Sequence[JsonAndCost | None]:
        objects = await self._found.many(run, keys)
        if None in objects and not self._nullable:
            raise Unplannable("an object that must be there")
        return objects


class _OfRow:
    """A list or a number of the rows that point to the object's."""

    def __init__(self, step: PlanStep, *, private: bool) -> None:
        self._step, self._private = step, private

    def key_of(self, source: Any) -> int:
        if self._private and source.opened:
            raise UnexpectedValue
        return source.row.id

    async def read(self, run: PlanExecution, keys: Sequence[int]) -> Sequence[JsonAndCost | None]:
        return await self._step.execute(run, [b"%d" % key for key in keys])


class PayloadPlan:
    """The edges of one operation, for one set of values of its conditions; each is compiled when it is first met."""

    def __init__(self, builder: PlanBuilder) -> None:
        self._builder = builder
        self._edges: dict[Key, Edge | None] = {}

    def edge(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> Edge | None:
        key = type_.name, tuple(map(id, nodes))
        if key not in self._edges:
            try:
                self._edges[key] = self._built(type_, nodes)
            except Unplannable:
                self._edges[key] = None
        return self._edges[key]

    def drop(self, edge: Edge) -> None:
        self._edges = {key: None if each is edge else each for key, each in self._edges.items()}

    def _built(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> Edge | None:
        definition = type_.fields[nodes[0].name.value]
        source: Source | ToNode | None = definition.extensions["strawberry-definition"].metadata.get("source")
        nullable = not notation(definition).endswith("!")
        match source:
            case ToOne(foreign_key):
                found = FoundObjects(self._builder, entity_of(definition), nodes, NO_COST.below, open_=True, even_gone=True)
                return _ToObject(lambda node: getattr(node.row, foreign_key), found, nullable=nullable)
            case ToNode(key):
                return _ToObject(key, FoundObjects(self._builder, entity_of(definition), nodes, NO_COST.below), nullable=nullable)
            case ToMany() | Aggregated():
                return self._of_row(type_, nodes, private=isinstance(source, ToMany) and source.visible is not None)
            case _:
                return None

    def _of_row(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode], *, private: bool) -> Edge:
        declared = entity_type(type_.name)
        if declared is None:
            raise Unplannable(f"{type_.name} is no entity")
        rows = RowBuilder(declared)
        self._builder.field(rows, declared, type_, nodes, NO_COST)
        [step] = rows.steps
        return _OfRow(step, private=private)


class PayloadReader:
    """The edges of one payload, or of one event."""

    def __init__(self, plan: PayloadPlan, run: PlanExecution, failed: Callable[[Exception], None]) -> None:
        """`failed` is told of an error that no plan should raise, and may raise it."""
        self._plan, self._run, self._failed = plan, run, failed

    def reader(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> Read | None:
        """What reads a field of objects of this type; None for one that the executor must run."""
        edge = self._plan.edge(type_, nodes)
        if edge is None:
            return None
        # Without a cache: the next mutation of the same request may change what this one has shown.
        loader: DataLoader[int, Any] = DataLoader(lambda keys: self._loaded(edge, keys), cache=False)

        async def read(source: Any) -> Any:
            key = edge.key_of(source)
            return None if key is None else await loader.load(key)

        return read

    async def _loaded(self, edge: Edge, keys: list[int]) -> list[Any]:
        distinct = list(dict.fromkeys(keys))
        found: Mapping[int, Any] = dict(zip(distinct, await self._values(edge, distinct), strict=True))
        return [found[key] for key in keys]

    async def _values(self, edge: Edge, keys: Sequence[int]) -> Sequence[Any]:
        """Raises: UnexpectedValue."""
        try:
            read = await edge.read(self._run, keys)
        except (Unplannable, BrokenRow, DomainError, GraphQLError) as error:
            raise UnexpectedValue from error
        except Exception as error:
            self._plan.drop(edge)
            self._failed(error)
            raise UnexpectedValue from error
        return [None if each is None else orjson.loads(each[0]) for each in read]
