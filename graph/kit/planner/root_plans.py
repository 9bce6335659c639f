"""Running one planned root: find an object by id, by key or as the viewer, find several, or read a page of a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson
from graphql import FieldNode, GraphQLField, GraphQLObjectType

from graph.kit.entity import roots
from graph.kit.entity.declaration import EntityType, entity_names, entity_type, named_type
from graph.kit.execution.concurrency import gather
from graph.kit.fields import Planned
from graph.kit.global_ids import is_refetched, split
from graph.kit.limits.cost import FieldCost, Size
from graph.kit.limits.rate_limits import LimitedCall, RateLimitRule
from graph.kit.planner.connection_plan import ConnectionPlan
from graph.kit.planner.plan_builder import PlanBuilder, QueryOfArguments, RowBuilder, entity_of, serializer
from graph.kit.planner.plan_cost import PlanCost, PlanCosts
from graph.kit.planner.plan_execution import FieldArguments, PlanExecution
from graph.kit.planner.splices import ResolvedField, points_of
from graph.kit.planner.steps import JsonAndCost, fill_placeholders, prepare_all
from graph.kit.planner.unplannable import Unplannable
from persistence.kit.json_rows.pages import NumberedPages, Pages
from persistence.kit.json_rows.row_json import JsonColumn, JsonExists
from persistence.kit.limits.moving_window import MovingWindow

NULL, TRUE = b"null", b"true"


class RootPlan(Protocol):
    def prepare(self, run: PlanExecution) -> None:
        """Make the statements that it runs with such variables, if they are not made yet. Raises: as `run` does."""
        ...

    async def run(self, run: PlanExecution) -> JsonAndCost:
        """The field's JSON and its price. Raises: DomainError, GraphQLError, Unplannable, for the executor to say it."""
        ...


class FoundObjects:
    """Objects of one entity, found by a unique attribute."""

    def __init__(
        self,
        builder: PlanBuilder,
        declared: EntityType,
        nodes: Sequence[FieldNode],
        plan_costs: PlanCosts,
        *,
        by: str = "id",
        open_: bool = False,
        even_gone: bool = False,
        weight: int = 0,
    ) -> None:
        """With `open_`, the field has looked at who asks: the entity's own rule, for those who come by a global id, is not asked."""
        self._shared = builder.lookup(declared, by, even_gone=even_gone)
        rows = self._shared.rows
        object_, points = builder.object(rows, declared, nodes, plan_costs)
        self._points, self._place, self._steps = points + weight, rows.place(object_), rows.steps
        self._visible = None if open_ else builder.rule(declared.visible)
        known = self._visible.known if self._visible else None
        self._users = [rows.place(JsonColumn(name)) for name in (self._visible.users if self._visible else ())]
        self._known = rows.place(JsonExists(known.entity, known.foreign_key)) if known else None

    def prepare(self, run: PlanExecution) -> None:
        _ = self._shared.lookup
        prepare_all(self._steps, run)

    async def many(self, run: PlanExecution, keys: Sequence[Any]) -> Sequence[JsonAndCost | None]:
        """For each key what the viewer finds by it."""
        found = dict(zip(keys, await self._shared.lookup.many(keys), strict=True))
        rows = {key: texts for key, texts in found.items() if texts is not None and self._sees(run, texts)}
        if not rows:
            return [None] * len(keys)
        [objects], points = await fill_placeholders(run, self._steps, [[texts[self._place] for texts in rows.values()]])
        shown = {key: (text, cost + self._points) for key, text, cost in zip(rows, objects, points, strict=True)}
        return [shown.get(key) for key in keys]

    async def one(self, run: PlanExecution, key: Any) -> JsonAndCost | None:
        texts = await self._shared.lookup.one(key)
        if texts is None or not self._sees(run, texts):
            return None
        if not self._steps:
            return texts[self._place], self._points
        [[text]], [points] = await fill_placeholders(run, self._steps, [[texts[self._place]]])
        return text, points + self._points

    def _sees(self, run: PlanExecution, texts: Sequence[bytes]) -> bool:
        if (visible := self._visible) is None:
            return True
        user_ids = [None if texts[place] == NULL else int(texts[place]) for place in self._users]
        return visible.finds(run.context, user_ids) or (self._known is not None and texts[self._known] == TRUE)


class _FindOne:
    """An object, or null: `key_of` tells by what it is looked up."""

    def __init__(self, found: FoundObjects, key_of: Callable[[PlanExecution], Any], weight: int, *, must: bool = False) -> None:
        self._found, self._key_of, self._weight, self._must = found, key_of, weight, must
        self.prepare = found.prepare

    async def run(self, run: PlanExecution) -> JsonAndCost:
        key = self._key_of(run)
        found = None if key is None else await self._found.one(run, key)
        if found is None and self._must:
            raise Unplannable("an object that must be there")
        return (NULL, self._weight) if found is None else (found[0], found[1] + self._weight)


class _FindNodes:
    """Objects of any entity by their global ids; for each type that comes up the selection is compiled when it first does."""

    def __init__(
        self,
        compile_: Callable[[EntityType], FoundObjects],
        arguments: FieldArguments,
        weight: int,
        most: int | None,
        likely: Sequence[str],
    ) -> None:
        """`likely` are types that other roots look up: compiled now, they share those roots' statements."""
        self._compile, self._arguments, self._weight, self._most = compile_, arguments, weight, most
        self._by_type: dict[str, FoundObjects] = {}
        for name in likely:
            with suppress(Unplannable):
                self._found((name, 0))

    def prepare(self, run: PlanExecution) -> None:
        for name in entity_names():
            with suppress(Unplannable):
                if found := self._found((name, 0)):
                    found.prepare(run)

    async def run(self, run: PlanExecution) -> JsonAndCost:
        arguments = self._arguments(run)
        if self._most is None:
            place = split(arguments["id"])
            objects = self._found(place)
            found = None if place is None or objects is None else await objects.one(run, place[1])
            return (NULL, self._weight) if found is None else (found[0], found[1] + self._weight)
        if len(arguments["ids"]) > self._most:
            raise Unplannable("more ids than the field takes")
        objects = await self._objects(run, arguments["ids"])
        json = b"[%b]" % b",".join([NULL if each is None else each[0] for each in objects])
        return json, sum([self._weight + (0 if each is None else each[1]) for each in objects])

    async def _objects(self, run: PlanExecution, ids: Sequence[str]) -> Sequence[JsonAndCost | None]:
        keys: dict[str, dict[int, None]] = {}
        places = [split(id_) for id_ in ids]
        for place in places:
            if place is not None and self._found(place):  # For all before any of them reads: the next one may refuse.
                keys.setdefault(place[0], {})[place[1]] = None
        answers = await gather([self._by_type[name].many(run, list(each)) for name, each in keys.items()])
        found = {
            (name, key): answer
            for (name, each), some in zip(keys.items(), answers, strict=True)
            for key, answer in zip(each, some, strict=True)
        }
        return [None if place is None else found.get(place) for place in places]

    def _found(self, place: tuple[str, int] | None) -> FoundObjects | None:
        """What finds the object of a global id; None where there is none. Raises: Unplannable."""
        if place is None:
            return None
        name = place[0]
        if name not in self._by_type:
            declared = entity_type(name)
            if declared is None and not is_refetched(name):
                return None
            if declared is None:
                raise Unplannable(f"{name} is no entity")
            self._by_type[name] = self._compile(declared)
        return self._by_type[name]


class _ReadList:
    def __init__(self, shape: ConnectionPlan, pages: Pages, query_of: QueryOfArguments, root: roots.ReadList) -> None:
        self._shape, self._pages, self._query_of, self._root = shape, pages, query_of, root

    def prepare(self, run: PlanExecution) -> None:
        self._shape.prepare(run)
        if self._root.of_viewer is None:  # A viewer's list may be of another form than everybody's.
            self._pages.prepare(*self._query_of(run))

    async def run(self, run: PlanExecution) -> JsonAndCost:
        query, window = self._query_of(run)
        if self._root.of_viewer:
            query = self._root.of_viewer(run.context, query)
        [filled] = await self._shape.json(run, [await self._pages.page(query, window)])
        return filled


class _ReadNumberedPage:
    """`shown` has what each field of the response shows: its name, or the place of the rows' texts and what each row costs beside its field."""

    def __init__(
        self,
        rows: RowBuilder,
        pages: NumberedPages,
        query_of: QueryOfArguments,
        shown: Mapping[str, str | tuple[int, int] | bytes],
        weight: int,
    ) -> None:
        self._steps, self._pages, self._query_of, self._shown, self._weight = rows.steps, pages, query_of, shown, weight

    def prepare(self, run: PlanExecution) -> None:
        prepare_all(self._steps, run)
        self._pages.prepare(self._query_of(run)[0])

    async def run(self, run: PlanExecution) -> JsonAndCost:
        query, number, size = self._query_of(run)
        page = await self._pages.page(query, number, size)
        columns, costs = await fill_placeholders(run, self._steps, page.columns) if len(page) else (page.columns, ())
        values = {"page": number, "pageSize": size, "total": page.total, "pages": -(-page.total // size)}
        parts, points = list[bytes](), self._weight + sum(costs)
        for name, shown in self._shown.items():
            if isinstance(shown, tuple):
                place, cost = shown
                json, points = b"[%b]" % b",".join(columns[place]), points + cost * len(page)
            else:
                json = shown if isinstance(shown, bytes) else b"%d" % values[shown]
            parts.append(b'"%b":%b' % (name.encode(), json))
        return b"{%b}" % b",".join(parts), points


class _ReadObject:
    """An object whose fields are a row's object and values of other sources; `shown` has what each field of the response shows."""

    def __init__(
        self,
        key_of: Callable[[PlanExecution], int | None],
        root: roots.ReadObject,
        shown: Mapping[str, FoundObjects | _Value | bytes],
        weight: int,
    ) -> None:
        self._key_of, self._values, self._shown, self._weight = key_of, root.values, shown, weight

    def prepare(self, run: PlanExecution) -> None:
        for each in self._shown.values():
            if isinstance(each, FoundObjects):
                each.prepare(run)

    async def run(self, run: PlanExecution) -> JsonAndCost:
        key = self._key_of(run)
        if key is None:
            return NULL, self._weight
        found = {name: each for name, each in self._shown.items() if isinstance(each, FoundObjects)}
        rows, values = await asyncio.gather(gather([each.one(run, key) for each in found.values()]), self._read(run, key))
        if None in rows or None in values.values():
            return NULL, self._weight
        return self._object(dict(zip(found, rows, strict=True)), values)

    async def _read(self, run: PlanExecution, key: int) -> Mapping[str, Any]:
        try:
            return dict(zip(self._values, await gather([read(run.context, key) for read in self._values.values()]), strict=True))
        except Exception as error:
            raise Unplannable("a source that failed: the resolver says how") from error

    def _object(self, rows: Mapping[str, JsonAndCost | None], values: Mapping[str, Any]) -> JsonAndCost:
        parts, points = list[bytes](), self._weight
        for name, each in self._shown.items():
            json: bytes = (
                each if isinstance(each, bytes) else orjson.dumps(each.serialize(values[each.name])) if isinstance(each, _Value) else NULL
            )
            if row := rows.get(name):
                json, cost = row
                points += cost
            if name:  # The row is looked for also where nothing of it is shown.
                parts.append(b'"%b":%b' % (name.encode(), json))
        return b"{%b}" % b",".join(parts), points


@dataclass(frozen=True)
class _Value:
    """What a source knows, in the form of the response."""

    name: str
    serialize: Callable[[Any], Any]


class _RunResolver:
    """What the field's resolver finds, priced as the reference executor's answer is."""

    def __init__(self, field: ResolvedField, charges: Sequence[FieldCost]) -> None:
        self._field, self._charges = field, charges

    def prepare(self, run: PlanExecution) -> None:
        """There is nothing to make."""

    async def run(self, run: PlanExecution) -> JsonAndCost:
        try:
            value = await self._field.value(run, None)
        except Exception as error:
            raise Unplannable("a resolver that failed: the reference executor says how") from error
        return orjson.dumps(value), points_of(self._charges, run, [value])


class _Charged:
    """A root that costs more for some of its arguments."""

    def __init__(self, plan: RootPlan, supplied: int | Size) -> None:
        self._plan, self._supplied, self.prepare = plan, supplied, plan.prepare

    async def run(self, run: PlanExecution) -> JsonAndCost:
        json, points = await self._plan.run(run)
        return json, points + (self._supplied if isinstance(self._supplied, int) else self._supplied(run.variables))


class _Permitted:
    """A root whose field needs a token with these scopes."""

    def __init__(self, plan: RootPlan, scopes: Sequence[Any]) -> None:
        self._plan, self._scopes, self.prepare = plan, scopes, plan.prepare

    async def run(self, run: PlanExecution) -> JsonAndCost:
        run.context.require(*self._scopes)
        return await self._plan.run(run)


class _Limited:
    """A root that may be asked so often and no more. What the plan leaves to the executor is counted there."""

    def __init__(self, plan: RootPlan, name: str, limits: Sequence[RateLimitRule], arguments: FieldArguments) -> None:
        self._plan, self._name, self._limits, self._arguments, self.prepare = plan, name, limits, arguments, plan.prepare

    async def run(self, run: PlanExecution) -> JsonAndCost:
        call = LimitedCall(run.context.port(MovingWindow), self._name, run.context.caller, self._arguments(run))
        async with call.answered(self._limits):
            return await self._plan.run(run)


def build_root(builder: PlanBuilder, definition: GraphQLField, nodes: Sequence[FieldNode], plan_cost: PlanCost) -> RootPlan:
    """Raises: Unplannable."""
    planned: Planned | None = definition.extensions["strawberry-definition"].metadata.get("plan")
    if planned is None:
        raise Unplannable(f"{nodes[0].name.value} is a resolver")
    if isinstance(planned.root, roots.RunResolver):
        plan = _resolver_root(builder, nodes, plan_cost)
    else:
        plan = _built(builder, planned.root, definition, nodes, plan_cost)
    if plan_cost.supplied:
        plan = _Charged(plan, plan_cost.supplied)
    if planned.limits:
        plan = _Limited(plan, nodes[0].name.value, planned.limits, builder.schema.arguments(definition, nodes[0]))
    return plan if planned.scopes is None else _Permitted(plan, planned.scopes)


def _built(
    builder: PlanBuilder, root: roots.RootOfRows, definition: GraphQLField, nodes: Sequence[FieldNode], plan_cost: PlanCost
) -> RootPlan:
    arguments = builder.schema.arguments(definition, nodes[0])

    def found(declared: EntityType) -> FoundObjects:
        return FoundObjects(builder, declared, nodes, plan_cost.below)

    match root:
        case roots.FindByGlobalId() if (declared := entity_type(named_type(definition).name)) is not None:
            return _FindOne(found(declared), _row_id_in(arguments, declared.name), plan_cost.weight)
        case roots.FindByGlobalId():
            return _FindNodes(found, arguments, plan_cost.weight, None, builder.found_by_id)
        case roots.FindAllByGlobalId(most):
            return _FindNodes(found, arguments, plan_cost.weight, most, builder.found_by_id)
        case roots.FindViewer():
            viewer = FoundObjects(builder, entity_of(definition), nodes, plan_cost.below, open_=True)
            return _FindOne(viewer, lambda run: run.context.require().user_id, plan_cost.weight, must=True)
        case roots.FindByKey(attribute, key):
            by_key = FoundObjects(builder, entity_of(definition), nodes, plan_cost.below, by=attribute, open_=True)
            return _FindOne(by_key, lambda run: key(**arguments(run)), plan_cost.weight)
        case roots.ReadList():
            shape = builder.connection(named_type(definition).name, nodes, plan_cost)
            return _ReadList(
                shape, builder.schema.reader.pages(shape.form), QueryOfArguments(builder.schema, arguments, root.query_of), root
            )
        case roots.ReadNumberedPage():
            return _numbered_page_root(builder, root, definition, nodes, plan_cost)
        case roots.ReadObject():
            return _object_root(builder, root, definition, nodes, plan_cost)


def _resolver_root(builder: PlanBuilder, nodes: Sequence[FieldNode], plan_cost: PlanCost) -> RootPlan:
    if nodes[0].arguments:
        raise Unplannable("a resolver whose arguments say what it does")
    query = cast("GraphQLObjectType", builder.schema.core.query_type)
    return _RunResolver(ResolvedField(builder, query, nodes), plan_cost.charges)


def _numbered_page_root(
    builder: PlanBuilder, root: roots.ReadNumberedPage, definition: GraphQLField, nodes: Sequence[FieldNode], plan_cost: PlanCost
) -> RootPlan:
    type_ = builder.type_of(named_type(definition).name)
    declared = entity_of(type_.fields[root.rows])
    rows, shown, weight = RowBuilder(declared), dict[str, str | tuple[int, int] | bytes](), plan_cost.weight
    for response_name, selected in builder.selection.below(type_, nodes).items():
        name, below = selected[0].name.value, plan_cost.below.of(response_name)
        if name == "__typename":
            shown[response_name] = b'"%b"' % type_.name.encode()
        elif name == root.rows:
            object_, points = builder.object(rows, declared, selected, below.below)
            shown[response_name] = rows.place(object_), below.weight + points
        elif name in NUMBERS_OF_PAGE:
            shown[response_name], weight = name, weight + below.weight
        else:
            raise Unplannable(f"{type_.name}.{name} is a resolver")
    rows.total = any(name in {"total", "pages"} for name in shown.values())
    query_of = QueryOfArguments(builder.schema, builder.schema.arguments(definition, nodes[0]), root.query_of)
    return _ReadNumberedPage(rows, builder.schema.reader.numbered(rows.form), query_of, shown, weight)


def _object_root(
    builder: PlanBuilder, root: roots.ReadObject, definition: GraphQLField, nodes: Sequence[FieldNode], plan_cost: PlanCost
) -> RootPlan:
    type_ = builder.type_of(named_type(definition).name)
    declared = entity_of(type_.fields[root.row])
    shown: dict[str, FoundObjects | _Value | bytes] = {"": FoundObjects(builder, declared, (), plan_cost.below)}
    for response_name, selected in builder.selection.below(type_, nodes).items():
        name, below = selected[0].name.value, plan_cost.below.of(response_name)
        if name == "__typename":
            shown[response_name] = b'"%b"' % type_.name.encode()
        elif name == root.row:
            shown[response_name] = FoundObjects(builder, declared, selected, below.below, weight=below.weight)
        elif name in root.values:
            shown[response_name] = _Value(name, serializer(type_.fields[name].type))
        else:
            raise Unplannable(f"{type_.name}.{name} is a resolver")
    return _ReadObject(_row_id_in(builder.schema.arguments(definition, nodes[0]), declared.name), root, shown, plan_cost.weight)


def _row_id_in(arguments: FieldArguments, type_name: str) -> Callable[[PlanExecution], int | None]:
    def key(run: PlanExecution) -> int | None:
        place = split(arguments(run)["id"])
        return place[1] if place is not None and place[0] == type_name else None

    return key


ROOT_ARGUMENTS: Mapping[type[Any], set[str]] = {
    roots.FindByGlobalId: {"id"},
    roots.FindAllByGlobalId: {"ids"},
    roots.FindViewer: set(),
    roots.ReadObject: {"id"},
}
NUMBERS_OF_PAGE = {"page", "pageSize", "total", "pages"}
