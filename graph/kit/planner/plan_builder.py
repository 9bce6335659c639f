"""Builds plans: from an operation's selection to levels, what each statement reads of its rows and what stands around them.

The builder goes down the selection once. At a row it names the fields that the statement writes (`RowBuilder`): columns, joined objects, and placeholders for
what comes later. At a connection it begins a new level. Whatever it does not know it refuses (`Unplannable`), for the executor to run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import orjson
import strawberry
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
)
from strawberry.types.field import StrawberryField

from graph.kit.auth import Scope
from graph.kit.entity.declaration import (
    Aggregated,
    ComputedValue,
    EntityType,
    ResolvedValue,
    StoredValue,
    ToMany,
    ToOne,
    as_stored,
    entity_type,
    named_type,
)
from graph.kit.entity.visibility import Visibility
from graph.kit.execution.coercion import Converters
from graph.kit.limits.cost_rules import notation
from graph.kit.planner.arguments import Parameter, parameters
from graph.kit.planner.collect_fields import FieldCollector
from graph.kit.planner.connection_plan import ChildConnectionStep, ConnectionPlan, Show, show_object
from graph.kit.planner.plan_cost import PlanCost, PlanCosts
from graph.kit.planner.plan_execution import FieldArguments, PlanExecution
from graph.kit.planner.splices import ResolvedField, ResolvedStep, Splice, attributes_to_splice
from graph.kit.planner.steps import AggregateStep, ComputedJson, ComputedValueStep, PlanStep, attributes_of
from graph.kit.planner.unplannable import Unplannable
from persistence.kit.json_rows.json_page import JsonPage, RowForm
from persistence.kit.json_rows.lookup import Lookup
from persistence.kit.json_rows.reader import EntityReader
from persistence.kit.json_rows.row_json import (
    Field,
    JsonChoice,
    JsonColumn,
    JsonEdge,
    JsonGlobalId,
    JsonLiteral,
    JsonObject,
    JsonPlaceholder,
)
from persistence.kit.lru_cache import LruCache

QUERIES_BYTES = 8 * 2**20  # Of the lists that arguments have chosen.
QUERY_BYTES, QUERY_COPIES = (
    4_000,
    10,
)  # Of one: what it takes beside its values, which stand in the variables, in conditions, words and parameters.

SHARED_TEXTS = 8  # Of one statement: it makes all of them of each row that it finds.

TYPES: Mapping[str, Callable[[Any], Any]] = {"Decimal": Decimal, "DateTime": datetime.fromisoformat}


class RowBuilder:
    """What one level reads of its rows: texts, each of which is made of columns and placeholders, and the steps that fill these."""

    def __init__(self, declared: EntityType) -> None:
        self._declared = declared
        self.texts: list[Field] = []
        self.steps: list[PlanStep] = []
        self.cursors = self.total = False

    def place(self, text: Field) -> int:
        """Where the text stands in the columns of a page."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def placeholder(self, step: PlanStep, attributes: tuple[str, ...], *, listed: bool) -> JsonPlaceholder:
        self.steps.append(step)
        return JsonPlaceholder(len(self.steps) - 1, attributes, listed)

    @property
    def form(self) -> RowForm:
        return RowForm(self._declared.entity, tuple(self.texts), self.cursors, self.total)


class SharedLookup:
    """One statement for all that an operation's roots show of objects that they find by the same attribute; it is complete when it first runs."""

    def __init__(self, reader: EntityReader, declared: EntityType, attribute: str, *, even_gone: bool) -> None:
        self.rows = RowBuilder(declared)
        self._reader, self._attribute, self._even_gone = reader, attribute, even_gone
        self._lookup: Lookup | None = None

    @property
    def is_open(self) -> bool:
        return self._lookup is None and len(self.rows.texts) < SHARED_TEXTS

    @property
    def lookup(self) -> Lookup:
        if self._lookup is None:
            self._lookup = self._reader.lookup(self.rows.form, self._attribute, even_gone=self._even_gone)
        return self._lookup


class PlannerSchema:
    """What compiling needs of the schema and of the database, the same for all operations."""

    def __init__(self, schema: strawberry.Schema, reader: EntityReader) -> None:
        self.core: GraphQLSchema = schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as in graph/schema.py
        self.reader = reader
        self.queries = LruCache[tuple[object, bytes], Any](QUERIES_BYTES, lambda key, _: QUERY_BYTES + QUERY_COPIES * len(key[1]))
        self._computed = dict[tuple[EntityType, str], ComputedJson]()
        self._arguments = dict[StrawberryField, tuple[Sequence[Parameter], Callable[[dict[str, Any]], dict[str, Any]]]]()
        self._converters, self._names = Converters(schema), schema.config.name_converter

    def computed(self, declared: EntityType, source: ComputedValue, definition: GraphQLField, name: str) -> ComputedJson:
        """One for all operations, which share what it remembers."""
        known = self._computed.get((declared, name))
        if known is None:
            kinds = [TYPES.get(declared.entity.kind(name)) for name in source.attributes]
            known = self._computed[declared, name] = ComputedJson(source.compute, kinds, serializer(definition.type))  # pyright: ignore[reportUnknownMemberType] -- graphql-core's lists are generic
        return known

    def arguments(self, definition: GraphQLField, node: FieldNode) -> FieldArguments:
        declared: StrawberryField = definition.extensions["strawberry-definition"]
        known = self._arguments.get(declared)
        if known is None:
            names = {self._names.get_graphql_name(each): each.python_name for each in declared.arguments}
            known = self._arguments[declared] = parameters(definition, names), self._converters.of_arguments(declared.arguments)
        return FieldArguments(definition, node, *known)


class QueryOfArguments:
    """The list that a root's arguments choose, remembered by the variables: clients ask for the same few."""

    def __init__(self, schema: PlannerSchema, arguments: FieldArguments, query_of: Callable[..., Any]) -> None:
        self._queries, self._arguments, self._query_of = schema.queries, arguments, query_of

    def __call__(self, run: PlanExecution) -> Any:
        """Raises: GraphQLError, InvalidInput, Unplannable."""
        try:
            key = self, orjson.dumps(run.variables)
        except orjson.JSONEncodeError:
            return self._query_of(**self._arguments(run))
        known = self._queries.get(key)
        if known is None:
            known = self._query_of(**self._arguments(run))
            self._queries.put(key, known)
        return known


class PlanBuilder:
    """Of one operation, for one set of values of its conditions, for everybody or for those who hold some scopes.

    `rule_scopes` gets the scopes that open a row or a field to those who hold them. What `held` opens is read as any other value: nothing of it is left to ask.
    """

    def __init__(
        self, schema: PlannerSchema, selection: FieldCollector, rule_scopes: set[Scope], held: frozenset[Scope] = frozenset()
    ) -> None:
        self.schema, self.selection = schema, selection
        self._rule_scopes, self._held = rule_scopes, held
        self._lookups: dict[tuple[str, str, bool], SharedLookup] = {}

    def rule(self, visible: Visibility | None) -> Visibility | None:
        """The rule as it is left to be asked for each row."""
        if visible is None:
            return None
        self._rule_scopes.add(visible.scope)
        return None if visible.scope in self._held else visible

    def lookup(self, declared: EntityType, attribute: str, *, even_gone: bool) -> SharedLookup:
        key = declared.name, attribute, even_gone
        known = self._lookups.get(key)
        if known is None or not known.is_open:
            known = self._lookups[key] = SharedLookup(self.schema.reader, declared, attribute, even_gone=even_gone)
        return known

    @property
    def found_by_id(self) -> Sequence[str]:
        """The entities of which objects are found by their ids so far."""
        return [name for name, attribute, even_gone in self._lookups if attribute == "id" and not even_gone]

    def type_of(self, name: str) -> GraphQLObjectType:
        return cast("GraphQLObjectType", self.schema.core.type_map[name])

    def object(self, rows: RowBuilder, declared: EntityType, nodes: Sequence[FieldNode], plan_costs: PlanCosts) -> tuple[JsonObject, int]:
        """An object of an entity, and what it costs beyond its field. Raises: Unplannable."""
        type_, points = self.type_of(declared.name), 0
        fields: list[tuple[str, Field]] = []
        for response_name, selected in self.selection.below(type_, nodes).items():
            field, cost = self.field(rows, declared, type_, selected, plan_costs.of(response_name))
            fields.append((response_name, field))
            points += cost
        return JsonObject(tuple(fields)), points

    def field(
        self, rows: RowBuilder, declared: EntityType, type_: GraphQLObjectType, nodes: Sequence[FieldNode], plan_cost: PlanCost
    ) -> tuple[Field, int]:
        name = nodes[0].name.value
        if name == "__typename":
            return JsonLiteral(f'"{type_.name}"'), 0
        source, definition = declared.sources.get(name), type_.fields[name]
        match source:
            case StoredValue():
                return _stored(declared, source, definition), plan_cost.weight
            case ComputedValue():
                return self._computed(rows, declared, source, definition, name), plan_cost.weight
            case ToOne():
                return self._to_one(rows, declared, source, definition, nodes, plan_cost)
            case ToMany():
                return self._to_many(rows, source, definition, nodes, plan_cost), 0
            case ResolvedValue(attributes):
                step = ResolvedStep(ResolvedField(self, type_, nodes), attributes, plan_cost.charges)
                return rows.placeholder(step, attributes, listed=True), 0
            case Aggregated(aggregate):
                # The step bears the cost, as that of a list does.
                step = AggregateStep(self.schema.reader.aggregates(aggregate), serializer(definition.type), plan_cost.weight)
                return rows.placeholder(step, ("id",), listed=False), 0
            case None:
                raise Unplannable(f"{type_.name}.{name} is a resolver")

    def _computed(self, rows: RowBuilder, declared: EntityType, source: ComputedValue, definition: GraphQLField, name: str) -> Field:
        source = replace(source, visible=self.rule(source.visible))
        in_database = source.compute is as_stored and _is_database_json(declared, source, definition)
        if in_database and source.visible is None:
            return JsonColumn(source.attributes[0])
        computed = None if in_database else self.schema.computed(declared, source, definition, name)
        return rows.placeholder(ComputedValueStep(computed, source.visible), attributes_of(source), listed=True)

    def _to_one(
        self,
        rows: RowBuilder,
        declared: EntityType,
        source: ToOne,
        definition: GraphQLField,
        nodes: Sequence[FieldNode],
        plan_cost: PlanCost,
    ) -> tuple[Field, int]:
        target, nullable = entity_of(definition), declared.entity.is_nullable(source.foreign_key)
        inner, points = self.object(rows, target, nodes, plan_cost.below)
        if nullable and points:
            raise Unplannable("a price that depends on whether an edge is null")
        return JsonEdge(source.foreign_key, target.entity, inner, nullable), plan_cost.weight + points

    def _to_many(
        self, rows: RowBuilder, source: ToMany, definition: GraphQLField, nodes: Sequence[FieldNode], plan_cost: PlanCost
    ) -> Field:
        """The step bears the whole cost: where the row is missing there is neither."""
        has_query = source.children.query_of is not None and source.visible is None
        shape = self.connection(named_type(definition).name, nodes, plan_cost, has_query=has_query)
        reader = self.schema.reader
        step = ChildConnectionStep(
            shape,
            self.schema.arguments(definition, nodes[0]),
            reader.children(shape.form, source.children),
            replace(source, visible=self.rule(source.visible)),
        )
        return rows.placeholder(step, ("id",), listed=False)

    def connection(self, name: str, nodes: Sequence[FieldNode], plan_cost: PlanCost, *, has_query: bool = True) -> ConnectionPlan:
        """A page of a whole list, or of the rows of one parent; `has_query` says that its pages know their list. Raises: Unplannable."""
        type_ = self.type_of(name)
        target = entity_of(type_.fields["nodes"]) if "nodes" in type_.fields else None
        if target is None:
            raise Unplannable(f"{name} is no connection of an entity")
        building = _Connection(self, type_, target, has_query=has_query)
        for response_name, selected in self.selection.below(type_, nodes).items():
            building.add(response_name, selected, plan_cost.below)
        return building.shape(plan_cost.weight)


class _Connection:
    """One connection, while its fields are looked at."""

    def __init__(self, builder: PlanBuilder, type_: GraphQLObjectType, target: EntityType, *, has_query: bool) -> None:
        self._builder, self._type, self._target, self._has_query = builder, type_, target, has_query
        self._splices: list[Splice] = []
        self._rows = RowBuilder(target)
        self._shows: dict[str, Show] = {}
        self._points = self._points_of_row = self._counts = 0

    def shape(self, weight: int) -> ConnectionPlan:
        points = weight + self._points
        return ConnectionPlan(self._rows.form, self._rows.steps, self._shows, points, self._points_of_row, self._counts, self._splices)

    def add(self, response_name: str, nodes: Sequence[FieldNode], plan_costs: PlanCosts) -> None:
        if self._is_spliced(self._type, nodes):
            self._shows[response_name] = self._spliced(self._type, response_name, nodes, plan_costs)
            return
        plan_cost = plan_costs.of(response_name)
        match nodes[0].name.value:
            case "nodes":
                self._shows[response_name] = _list_of(self._node(nodes, plan_cost.below))
                self._points_of_row += plan_cost.weight
            case "edges":
                self._shows[response_name] = self._edges(nodes, plan_cost.below)
                self._points_of_row += plan_cost.weight
            case "pageInfo":
                self._shows[response_name] = self._page_info(nodes)
                self._points += plan_cost.weight
            case "totalCount":
                self._rows.total = True
                self._shows[response_name] = lambda pages: [b"%d" % page.total for page in pages]
                self._points += plan_cost.weight
                self._counts += plan_cost.counted
            case "__typename":
                self._shows[response_name] = _always(self._type.name)
            case other:
                raise Unplannable(f"{self._type.name}.{other} is a resolver")

    def _is_spliced(self, type_: GraphQLObjectType, nodes: Sequence[FieldNode]) -> bool:
        return nodes[0].name.value in type_.fields and attributes_to_splice(type_.fields[nodes[0].name.value]) is not None

    def _spliced(self, type_: GraphQLObjectType, response_name: str, nodes: Sequence[FieldNode], plan_costs: PlanCosts) -> Any:
        """What shows a field that is a resolver. Raises: Unplannable."""
        if not self._has_query:
            raise Unplannable("a resolver that asks for the whole list, of rows that the viewer may not see or whose list has no query")
        attributes = attributes_to_splice(type_.fields[nodes[0].name.value]) or ()
        places = [self._rows.place(JsonColumn(attribute)) for attribute in attributes] if type_ is not self._type else None
        value = ResolvedField(self._builder, type_, nodes)
        self._splices.append(
            Splice(value, dict(zip(attributes, places, strict=True)) if places is not None else None, plan_costs.charges(response_name))
        )
        number = len(self._splices) - 1

        def shown(pages: Sequence[JsonPage]) -> Any:
            return [page.spliced[number] for page in pages]

        return shown

    def _node(self, nodes: Sequence[FieldNode], plan_costs: PlanCosts) -> int:
        """The place of the objects' texts in a page."""
        object_, points = self._builder.object(self._rows, self._target, nodes, plan_costs)
        self._points_of_row += points
        return self._rows.place(object_)

    def _edges(self, nodes: Sequence[FieldNode], plan_costs: PlanCosts) -> Show:
        type_ = named_type(self._type.fields["edges"])
        fields = self._builder.selection.below(cast("GraphQLObjectType", type_), nodes)
        columns = {name: self._edge(cast("GraphQLObjectType", type_), name, selected, plan_costs) for name, selected in fields.items()}
        shape = b"{%b}" % b",".join([b'"%b":%%b' % name.encode() for name in columns])
        of_rows = list(columns.values())
        if not of_rows:  # All of them are skipped.
            return lambda pages: [b"[%b]" % b",".join([shape] * len(page)) for page in pages]

        def show(pages: Sequence[JsonPage]) -> list[bytes]:
            of_pages = zip(*[column(pages) for column in of_rows], strict=True)
            return [b"[%b]" % b",".join([shape % row for row in zip(*cells, strict=True)]) for cells in of_pages]

        return show

    def _edge(
        self, type_: GraphQLObjectType, response_name: str, nodes: Sequence[FieldNode], plan_costs: PlanCosts
    ) -> Callable[[Sequence[JsonPage]], Sequence[Sequence[bytes]]]:
        """What a field of an edge is in each row of each page."""
        if self._is_spliced(type_, nodes):
            return self._spliced(type_, response_name, nodes, plan_costs)
        plan_cost = plan_costs.of(response_name)
        match nodes[0].name.value:
            case "node":
                place = self._node(nodes, plan_cost.below)
                self._points_of_row += plan_cost.weight
                return lambda pages: [page.columns[place] for page in pages]
            case "cursor":
                self._rows.cursors = True
                return lambda pages: [page.cursors for page in pages]
            case "__typename":
                name = b'"%b"' % type_.name.encode()
                return lambda pages: [[name] * len(page) for page in pages]
            case other:
                raise Unplannable(f"{type_.name}.{other} is a resolver")

    def _page_info(self, nodes: Sequence[FieldNode]) -> Show:
        type_ = cast("GraphQLObjectType", named_type(self._type.fields["pageInfo"]))
        fields = self._builder.selection.below(type_, nodes)
        return show_object({name: self._info(type_.name, selected[0].name.value) for name, selected in fields.items()})

    def _info(self, type_name: str, name: str) -> Show:
        match name:
            case "hasNextPage":
                return lambda pages: [b"true" if page.has_next else b"false" for page in pages]
            case "hasPreviousPage":
                return lambda pages: [b"true" if page.has_previous else b"false" for page in pages]
            case "startCursor" | "endCursor":
                self._rows.cursors = True
                place = 0 if name == "startCursor" else -1
                return lambda pages: [page.cursor(place) if len(page) else b"null" for page in pages]
            case "__typename":
                return _always(type_name)
            case other:
                raise Unplannable(f"{type_name}.{other} is a resolver")


def _list_of(place: int) -> Show:
    return lambda pages: [b"[%b]" % b",".join(page.columns[place]) for page in pages]


def _always(name: str) -> Show:
    text = b'"%b"' % name.encode()
    return lambda pages: [text] * len(pages)


def _is_database_json(declared: EntityType, source: ComputedValue, definition: GraphQLField) -> bool:
    """Whether the database writes the column's JSON as this field shows it."""
    [attribute] = source.attributes
    return declared.entity.kind(attribute) == notation(definition) and notation(definition) in {
        "String",
        "Boolean",
        "Int",
        "Decimal",
        "DateTime",
    }


def _stored(declared: EntityType, source: StoredValue, definition: GraphQLField) -> Field:
    named = named_type(definition)
    if source.attribute == "id" and named.name == "ID":
        return JsonGlobalId("id", declared.name)
    if isinstance(named, GraphQLEnumType):
        return JsonChoice(source.attribute, tuple((str(each.value), f'"{name}"') for name, each in named.values.items()))
    return JsonColumn(source.attribute, big=named.name in {"BigInt", "ByteCount"})


def entity_of(definition: GraphQLField) -> EntityType:
    """Raises: Unplannable."""
    declared = entity_type(named_type(definition).name)
    if declared is None:
        raise Unplannable(f"{notation(definition)} is no entity")
    return declared


def serializer(type_: Any) -> Callable[[Any], Any]:
    """What brings a value of this type into the form of the response, as the reference executor does."""
    if isinstance(type_, GraphQLNonNull):
        return serializer(cast("Any", type_).of_type)
    if isinstance(type_, GraphQLList):
        each = serializer(cast("Any", type_).of_type)
        return lambda values: None if values is None else [each(value) for value in values]
    return lambda value: None if value is None else type_.serialize(value)
