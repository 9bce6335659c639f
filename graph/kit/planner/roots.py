"""Running one planned root: find an object by id, by key or as the viewer, find several, or read a page of a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from graphql import FieldNode, GraphQLField

from graph.kit.entity import roots
from graph.kit.entity.declaration import EntityType, entity_type, named_type
from graph.kit.fields import Planned
from graph.kit.global_ids import is_refetched, split
from graph.kit.limits.cost import Size
from graph.kit.planner.compiler import Compiler, RowBuilder, entity_of, serializer
from graph.kit.planner.connections import ConnectionShape
from graph.kit.planner.fillers import FieldArguments, Filled, Run, fill_rows, together
from graph.kit.planner.prices import Price, Prices
from graph.kit.planner.selection import Unplannable
from persistence.kit.query.reader import Pages
from persistence.kit.query.row_json import JsonColumn

NULL = b"null"


class RootPlan(Protocol):
    async def run(self, run: Run) -> Filled:
        """The field's JSON and its price. Raises: DomainError, GraphQLError, Unplannable, for the executor to say it."""
        ...


class _Found:
    """Objects of one entity, found by a unique attribute."""

    def __init__(
        self,
        compiler: Compiler,
        declared: EntityType,
        nodes: Sequence[FieldNode],
        prices: Prices,
        *,
        by: str = "id",
        open_: bool = False,
        weight: int = 0,
    ) -> None:
        """With `open_`, the field has looked at who asks: the entity's own rule, for those who come by a global id, is not asked."""
        rows = RowBuilder(declared)
        object_, points = compiler.object(rows, declared, nodes, prices)
        self._points = points + weight
        rows.place(object_)
        self._visible = None if open_ else declared.visible
        if self._visible:
            rows.texts += [JsonColumn(name) for name in self._visible.users]
        self._fillers, self._lookup = rows.fillers, compiler.schema.reader.lookup(rows.form, by)

    async def many(self, run: Run, keys: Sequence[Any]) -> Sequence[Filled | None]:
        """For each key what the viewer finds by it."""
        found = dict(zip(keys, await self._lookup.many(keys), strict=True))
        rows = {key: texts for key, texts in found.items() if texts is not None and await self._sees(run, key, texts)}
        if not rows:
            return [None] * len(keys)
        [objects], points = await fill_rows(run, self._fillers, [[texts[0] for texts in rows.values()]])
        shown = {key: (text, cost + self._points) for key, text, cost in zip(rows, objects, points, strict=True)}
        return [shown.get(key) for key in keys]

    async def one(self, run: Run, key: Any) -> Filled | None:
        texts = await self._lookup.one(key)
        if texts is None or not await self._sees(run, key, texts):
            return None
        if not self._fillers:
            return texts[0], self._points
        [[text]], [points] = await fill_rows(run, self._fillers, [[texts[0]]])
        return text, points + self._points

    async def _sees(self, run: Run, key: Any, texts: Sequence[bytes]) -> bool:
        if self._visible is None:
            return True
        return await self._visible.finds(run.context, key, [None if text == NULL else int(text) for text in texts[1:]])


class _FindOne:
    """An object, or null: `key_of` tells by what it is looked up."""

    def __init__(self, found: _Found, key_of: Callable[[Run], Any], weight: int, *, must: bool = False) -> None:
        self._found, self._key_of, self._weight, self._must = found, key_of, weight, must

    async def run(self, run: Run) -> Filled:
        key = self._key_of(run)
        found = None if key is None else await self._found.one(run, key)
        if found is None and self._must:
            raise Unplannable("an object that must be there")
        return (NULL, self._weight) if found is None else (found[0], found[1] + self._weight)


class _FindNodes:
    """Objects of any entity by their global ids; for each type that comes up the selection is compiled when it first does."""

    def __init__(self, compile_: Callable[[EntityType], _Found], arguments: FieldArguments, weight: int, most: int | None) -> None:
        self._compile, self._arguments, self._weight, self._most = compile_, arguments, weight, most
        self._by_type: dict[str, _Found] = {}

    async def run(self, run: Run) -> Filled:
        arguments = self._arguments(run)
        if self._most is None:
            [found] = await self._objects(run, [arguments["id"]])
            return (NULL, self._weight) if found is None else (found[0], found[1] + self._weight)
        if len(arguments["ids"]) > self._most:
            raise Unplannable("more ids than the field takes")
        objects = await self._objects(run, arguments["ids"])
        json = b"[%b]" % b",".join([NULL if each is None else each[0] for each in objects])
        return json, sum([self._weight + (0 if each is None else each[1]) for each in objects])

    async def _objects(self, run: Run, ids: Sequence[str]) -> Sequence[Filled | None]:
        requested: dict[str, list[int]] = {}
        places = [split(id_) for id_ in ids]
        for place in places:
            if place is not None and entity_type(place[0]) is None and is_refetched(place[0]):
                raise Unplannable(f"{place[0]} is no entity")
            if place is not None and entity_type(place[0]) is not None:
                requested.setdefault(place[0], []).append(place[1])
        keys = {name: list(dict.fromkeys(each)) for name, each in requested.items()}
        compiled = [self._of(name) for name in keys]  # Before any of them reads: the next one may refuse.
        answers = await together([found.many(run, each) for found, each in zip(compiled, keys.values(), strict=True)])
        found = {
            (name, key): answer
            for (name, each), some in zip(keys.items(), answers, strict=True)
            for key, answer in zip(each, some, strict=True)
        }
        return [None if place is None else found.get(place) for place in places]

    def _of(self, name: str) -> _Found:
        if name not in self._by_type:
            declared = entity_type(name)
            assert declared is not None, "looked at before"
            self._by_type[name] = self._compile(declared)
        return self._by_type[name]


class _ReadList:
    def __init__(self, shape: ConnectionShape, pages: Pages, arguments: FieldArguments, root: roots.ReadList) -> None:
        self._shape, self._pages, self._arguments, self._root = shape, pages, arguments, root

    async def run(self, run: Run) -> Filled:
        query, window = self._root.query_of(**self._arguments(run))
        if self._root.of_viewer:
            query = self._root.of_viewer(run.context, query)
        [filled] = await self._shape.json(run, [await self._pages.page(query, window)])
        return filled


class _ReadObject:
    """An object whose fields are a row's object and values of other sources; `shown` has what each field of the response shows."""

    def __init__(
        self, key_of: Callable[[Run], int | None], root: roots.ReadObject, shown: Mapping[str, _Found | _Value | bytes], weight: int
    ) -> None:
        self._key_of, self._values, self._shown, self._weight = key_of, root.values, shown, weight

    async def run(self, run: Run) -> Filled:
        key = self._key_of(run)
        if key is None:
            return NULL, self._weight
        found = {name: each for name, each in self._shown.items() if isinstance(each, _Found)}
        rows, values = await asyncio.gather(together([each.one(run, key) for each in found.values()]), self._read(run, key))
        if None in rows or None in values.values():
            return NULL, self._weight
        return self._object(dict(zip(found, rows, strict=True)), values)

    async def _read(self, run: Run, key: int) -> Mapping[str, Any]:
        try:
            return dict(zip(self._values, await together([read(run.context, key) for read in self._values.values()]), strict=True))
        except Exception as error:
            raise Unplannable("a source that failed: the resolver says how") from error

    def _object(self, rows: Mapping[str, Filled | None], values: Mapping[str, Any]) -> Filled:
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


class _Charged:
    """A root that costs more for some of its arguments."""

    def __init__(self, plan: RootPlan, supplied: int | Size) -> None:
        self._plan, self._supplied = plan, supplied

    async def run(self, run: Run) -> Filled:
        json, points = await self._plan.run(run)
        return json, points + (self._supplied if isinstance(self._supplied, int) else self._supplied(run.variables))


class _Permitted:
    """A root whose field needs a token with these scopes."""

    def __init__(self, plan: RootPlan, scopes: Sequence[Any]) -> None:
        self._plan, self._scopes = plan, scopes

    async def run(self, run: Run) -> Filled:
        run.context.require(*self._scopes)
        return await self._plan.run(run)


def compile_root(compiler: Compiler, definition: GraphQLField, nodes: Sequence[FieldNode], price: Price) -> RootPlan:
    """Raises: Unplannable."""
    planned: Planned | None = definition.extensions["strawberry-definition"].metadata.get("plan")
    if planned is None:
        raise Unplannable(f"{nodes[0].name.value} is a resolver")
    plan = _compiled(compiler, planned.root, definition, nodes, price)
    if price.supplied:
        plan = _Charged(plan, price.supplied)
    return plan if planned.scopes is None else _Permitted(plan, planned.scopes)


def _compiled(compiler: Compiler, root: roots.Root, definition: GraphQLField, nodes: Sequence[FieldNode], price: Price) -> RootPlan:
    arguments = compiler.schema.arguments(definition, nodes[0])

    def found(declared: EntityType) -> _Found:
        return _Found(compiler, declared, nodes, price.below)

    match root:
        case roots.FindByGlobalId() if (declared := entity_type(named_type(definition).name)) is not None:
            return _FindOne(found(declared), _row_id_in(arguments, declared.name), price.weight)
        case roots.FindByGlobalId():
            return _FindNodes(found, arguments, price.weight, None)
        case roots.FindAllByGlobalId(most):
            return _FindNodes(found, arguments, price.weight, most)
        case roots.FindViewer():
            viewer = _Found(compiler, entity_of(definition), nodes, price.below, open_=True)
            return _FindOne(viewer, lambda run: run.context.require().user_id, price.weight, must=True)
        case roots.FindByKey(attribute, key):
            by_key = _Found(compiler, entity_of(definition), nodes, price.below, by=attribute, open_=True)
            return _FindOne(by_key, lambda run: key(**arguments(run)), price.weight)
        case roots.ReadList():
            shape = compiler.connection(named_type(definition).name, nodes, price)
            return _ReadList(shape, compiler.schema.reader.pages(shape.form), arguments, root)
        case roots.ReadObject():
            return _object_root(compiler, root, definition, nodes, price)


def _object_root(
    compiler: Compiler, root: roots.ReadObject, definition: GraphQLField, nodes: Sequence[FieldNode], price: Price
) -> RootPlan:
    type_ = compiler.type_of(named_type(definition).name)
    declared = entity_of(type_.fields[root.row])
    shown: dict[str, _Found | _Value | bytes] = {"": _Found(compiler, declared, (), price.below)}
    for response_name, selected in compiler.selection.below(type_, nodes).items():
        name, below = selected[0].name.value, price.below.of(response_name)
        if name == "__typename":
            shown[response_name] = b'"%b"' % type_.name.encode()
        elif name == root.row:
            shown[response_name] = _Found(compiler, declared, selected, below.below, weight=below.weight)
        elif name in root.values:
            shown[response_name] = _Value(name, serializer(type_.fields[name].type))
        else:
            raise Unplannable(f"{type_.name}.{name} is a resolver")
    return _ReadObject(_row_id_in(compiler.schema.arguments(definition, nodes[0]), declared.name), root, shown, price.weight)


def _row_id_in(arguments: FieldArguments, type_name: str) -> Callable[[Run], int | None]:
    def key(run: Run) -> int | None:
        place = split(arguments(run)["id"])
        return place[1] if place is not None and place[0] == type_name else None

    return key


ROOT_ARGUMENTS: Mapping[type[Any], set[str]] = {
    roots.FindByGlobalId: {"id"},
    roots.FindAllByGlobalId: {"ids"},
    roots.FindViewer: set(),
    roots.ReadObject: {"id"},
}
