"""The declaration of an entity: the table behind a type, and for each field that is no plain column, where it comes from.

    @entity(items.ENTITY)
    @strawberry.type(description="Something in the catalogue.")
    class Item(Node):
        name: str = strawberry.field(description=…)                           # the column of that name
        url: str = computed("filename", compute=download_path, description=…)  # made of columns by Python
        email: str | None = private("email", visible=PRIVATE, description=…)   # null for those who may not see it
        owner: User | None = to_one("owner_id", users.ENTITY, description=…)   # the row that a foreign key points to
        items: Connection[Item] = to_many(listing.BY_OWNER, description=…)     # the rows that point here
        item_count: int = count(listing.BY_OWNER, description=…)               # how many these are
        mean_price: Decimal | None = average(listing.BY_OWNER, "price", description=…)  # of whole numbers a `float`

From it come the resolvers, which read by DataLoaders, and the plans of `graph.kit.planner`, which read by as few statements as there are levels. A resolver
of the type's own that says which attributes of its row it looks at (`metadata=resolved("id")`) is run by plans, too, for all rows at once; any other leaves
the roots above it to the executor. `check` holds at start that a plan would leave no rule out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias, TypeVar, cast

import strawberry
from graphql import GraphQLEnumType, GraphQLField, GraphQLNamedType, GraphQLObjectType, GraphQLSchema, get_named_type
from strawberry.types.field import StrawberryField

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.connections import After, Before, First, Last, connection_by_parent, empty_connection
from graph.kit.context import Context, Info
from graph.kit.entity.visibility import Visibility
from graph.kit.global_ids import Node, global_id, node_type, resolve_node
from graph.kit.limits.cost_rules import AGGREGATE_POINTS, notation
from persistence.kit.database.database import Base
from persistence.kit.query.child_aggregate import AggregateFunction, ChildAggregate
from persistence.kit.query.entity import ChildList, Entity
from persistence.kit.query.paging import PageArguments

T = TypeVar("T", bound=type[Node])

# Types that the database writes, and what their column holds.
KINDS = {
    "String": "String",
    "Int": "Int",
    "ByteCount": "Int",
    "BigInt": "Int",
    "Boolean": "Boolean",
    "Decimal": "Decimal",
    "DateTime": "DateTime",
    "[String!]": "JSON",
}
PAGE_ARGUMENTS = {"first", "after", "last", "before"}


@dataclass(frozen=True)
class StoredValue:
    """An attribute of the row; `value` reads it of a row in Python where that takes more than the attribute."""

    attribute: str
    value: Callable[[Any], Any] | None = None

    def of(self, row: Any) -> Any:
        return self.value(row) if self.value else getattr(row, self.attribute)


@dataclass(frozen=True)
class ComputedValue:
    """What Python makes of some attributes; with `visible`, for those only who may see it, and null for others."""

    attributes: tuple[str, ...]
    compute: Callable[..., Any]
    visible: Visibility | None = None

    def of(self, row: Any) -> Any:
        return self.compute(*[getattr(row, name) for name in self.attributes])


@dataclass(frozen=True)
class ToOne:
    """The row of another entity, also one that has left its lists, whose id is in an attribute."""

    foreign_key: str
    entity: Entity[Any]


@dataclass(frozen=True)
class ToMany:
    """The rows of another entity that point to this one; with `visible`, none of them for those who may not see them."""

    children: ChildList
    visible: Visibility | None = None


@dataclass(frozen=True)
class Aggregated:
    """A number about the rows of another entity that point to this one."""

    aggregate: ChildAggregate


@dataclass(frozen=True)
class ToNode:
    """The object, if the viewer may find it, whose row has the id that `key` reads of an object that is no row, such as an event."""

    key: Callable[[Any], int]
    entity: Entity[Any]


@dataclass(frozen=True)
class ResolvedValue:
    """What the field's resolver makes of some attributes of `self.row`; it looks at nothing else of its object."""

    attributes: tuple[str, ...]


Source: TypeAlias = "StoredValue | ComputedValue | ToOne | ToMany | Aggregated | ResolvedValue"


@dataclass(frozen=True, eq=False)
class EntityType:
    """A type of the schema and the table behind it."""

    name: str
    entity: Entity[Any]
    visible: Visibility | None
    """Who finds an object by its global id; everybody without a rule."""
    sources: dict[str, Source] = field(default_factory=dict[str, "Source"])
    """Of the fields that can be planned, by their name in GraphQL."""


_types: dict[str, EntityType] = {}
_classes: dict[type[Base], type[Node]] = {}


def entity_type(name: str) -> EntityType | None:
    return _types.get(name)


def entity_names() -> Sequence[str]:
    return list(_types)


def entity_classes() -> Sequence[type[Node]]:
    return list(_classes.values())


def name_of(entity: Entity[Any]) -> str:
    """Of the type whose objects stand for the entity's rows."""
    return type_name_of(entity.model)


def type_name_of(model: type[Base]) -> str:
    return _classes[model].__name__


def object_of(row: Base) -> Node:
    """The object of the graph that stands for a row."""
    return _classes[type(row)].of(row)


def entity(rows: Entity[Any], *, visible: Visibility | None = None) -> Callable[[T], T]:
    """Declare what is behind a type, and who finds its objects by their global ids."""

    def register(cls: T) -> T:
        async def seen(info: Info, row: Any) -> Any:
            user_ids = [getattr(row, name) for name in visible.users] if visible else []
            if visible is None or visible.finds(info.context, user_ids) or await visible.is_known(info.context, row.id):
                return cls.of(row)
            return None

        _types[cls.__name__] = EntityType(cls.__name__, rows, visible)
        _classes[rows.model] = cls
        cls.values_of = _reader_of_rows(cls)
        return node_type(rows.by_id, seen)(cls)

    return register


def _reader_of_rows(cls: type[Node]) -> Callable[[Any], dict[str, Any]]:
    """What makes the values of a type's plain fields of a row."""
    fields = [each for each in cast("Any", cls).__strawberry_definition__.fields if each.is_basic_field and each.python_name != "id"]
    values: list[tuple[str, Callable[[Any], Any]]] = []
    for each in fields:
        source = each.metadata.get("source") or StoredValue(each.python_name)
        values.append((each.python_name, _typed(source.of, each)))
    name = cls.__name__
    return lambda row: {"id": global_id(name, row.id), **{attribute: value(row) for attribute, value in values}}


def _typed(read: Callable[[Any], Any], declared: StrawberryField) -> Callable[[Any], Any]:
    kind = getattr(declared.type, "wrapped_cls", declared.type)
    return (lambda row: kind(read(row))) if isinstance(kind, type) and issubclass(kind, Enum) else read


def stored(attribute: str, *, description: str, value: Callable[[Any], Any] | None = None) -> Any:
    """A column under another name, or one whose value in Python is not simply the attribute."""
    return strawberry.field(description=description, metadata={"source": StoredValue(attribute, value)})


def computed(*attributes: str, compute: Callable[..., Any], description: str) -> Any:
    return strawberry.field(description=description, metadata={"source": ComputedValue(attributes, compute)})


def as_stored(value: Any) -> Any:
    """What a field shows that is nothing but its column."""
    return value


def private(attribute: str, *, visible: Visibility, description: str, compute: Callable[[Any], Any] = as_stored) -> Any:
    source = ComputedValue((attribute,), compute, visible)

    def resolve(self: Any, info: Info) -> Any:
        return source.of(self.row) if is_open(self, info.context, visible) else None

    metadata = {"source": source, "cache": reads(personal=True)}
    return strawberry.field(resolver=resolve, description=description, metadata=metadata)


def resolved(*attributes: str, **metadata: Any) -> dict[str, Any]:
    """The metadata of a field whose resolver looks at these attributes of `self.row` and at its context alone, so that a plan can run it."""
    return {"source": ResolvedValue(attributes), **metadata}


def to_one(foreign_key: str, entity: Entity[Any], *, description: str) -> Any:
    """The row that a foreign key points to, also when it has left its lists."""

    async def resolve(self: Any, info: Info) -> Any:
        key = getattr(self.row, foreign_key)
        row = None if key is None else await info.context.load(entity.by_id_even_gone, key)
        return None if row is None else object_of(row)

    metadata = {"source": ToOne(foreign_key, entity), "cache": reads(entity.model)}
    return strawberry.field(resolver=resolve, description=description, metadata=metadata)


def to_node(key: Callable[[Any], int], entity: Entity[Any], *, description: str) -> Any:
    """What an event refers to by a row's id: the object as `node` finds it for the viewer, or null."""

    async def resolve(self: Any, info: Info) -> Any:
        return await resolve_node(info, global_id(name_of(entity), key(self)))

    return strawberry.field(resolver=resolve, description=description, metadata={"source": ToNode(key, entity)})


def to_many(children: ChildList, *, description: str, visible: Visibility | None = None) -> Any:
    """The rows that point to this one; with `visible`, none of them for those who may not see them."""

    async def resolve(self: Any, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None) -> Any:
        window = PageArguments(first, after, last, before)
        if visible is not None and not is_open(self, info.context, visible):
            return empty_connection(children.listing_of(self.row.id))
        return await connection_by_parent(info, children, self.row.id, window, of=object_of)

    metadata = {"source": ToMany(children, visible), "cache": reads(children.entity.model, personal=visible is not None)}
    return strawberry.field(resolver=resolve, description=description, metadata=metadata)


def count(children: ChildList, *, description: str) -> Any:
    """How many rows point to this one."""
    return _aggregated(ChildAggregate(children, AggregateFunction.COUNT), description)


def average(children: ChildList, attribute: str, *, description: str) -> Any:
    """The mean of a column of the rows that point to this one; null without any."""
    return _aggregated(ChildAggregate(children, AggregateFunction.AVERAGE, attribute), description)


def _aggregated(aggregate: ChildAggregate, description: str) -> Any:
    async def resolve(self: Any, info: Info) -> Any:
        return await info.context.load(aggregate.by_parent, self.row.id)

    metadata = {"source": Aggregated(aggregate), "cache": reads(aggregate.children.entity.model), "cost": AGGREGATE_POINTS}
    return strawberry.field(resolver=resolve, description=description, metadata=metadata)


def is_open(node: Any, context: Context, visible: Visibility) -> bool:
    """Whether the private fields of an object are open to whoever asks."""
    return node.opened or visible.sees(context, getattr(node.row, visible.own) if visible.own else None)


def check(schema: GraphQLSchema) -> None:
    """Work out the sources of all entities' fields. Raises: TypeError, for one that a plan would not serve as its resolver does."""
    _check_roots(schema.query_type)
    for type_ in schema.type_map.values():
        declared = _types.get(type_.name)
        if declared is None or not isinstance(type_, GraphQLObjectType):
            _check_events(type_)
            continue
        for name, each in type_.fields.items():
            source = _source(each)
            if source is None:
                continue
            if reason := _invalid_reason(declared, each, source):
                raise TypeError(f"{type_.name}.{name} {reason}: declare where it comes from, or write a resolver for it")
            declared.sources[name] = source


def _check_roots(roots: GraphQLObjectType | None) -> None:
    """Raises: TypeError, for a root field that takes a scope to show rows that `node` finds without it: whoever knows an id would read them."""
    for name, each in roots.fields.items() if roots else ():
        definition: StrawberryField = each.extensions["strawberry-definition"]
        declared, scopes = shown_entity(each), cast("tuple[Scope, ...] | None", definition.metadata.get("scopes"))
        if declared is None or scopes is None:
            continue
        if declared.visible is None or (scopes and declared.visible.scope not in scopes):
            needed = f"the scope {' and '.join(scope.value for scope in scopes)}" if scopes else "a token"
            raise TypeError(
                f"Query.{name} takes {needed}, and node(id:) finds its rows without: declare who does by @entity(…, visible=Visibility(…)) "
                f"at {declared.name}, or give {name} scope=None"
            )


def _check_events(type_: GraphQLNamedType) -> None:
    """Raises: TypeError, for a field that refers to a row of another entity than it shows, or that may not be null."""
    for name, each in type_.fields.items() if isinstance(type_, GraphQLObjectType) else ():
        definition: StrawberryField | None = each.extensions.get("strawberry-definition")
        source = definition.metadata.get("source") if definition else None
        if isinstance(source, ToNode) and (notation(each).endswith("!") or not _is_of(each, source.entity)):
            raise TypeError(f"{type_.name}.{name} must show an object of the entity that it refers to, or null")


def _source(each: GraphQLField) -> Source | None:
    definition: StrawberryField = each.extensions["strawberry-definition"]
    source: Source | None = definition.metadata.get("source")
    return source or (StoredValue(definition.python_name) if definition.is_basic_field else None)


def _invalid_reason(declared: EntityType, each: GraphQLField, source: Source) -> str | None:
    definition: StrawberryField = each.extensions["strawberry-definition"]
    if definition.directives or definition.extensions or definition.permission_classes:
        return "has a rule that a plan would leave out"
    if set(each.args) != (PAGE_ARGUMENTS if isinstance(source, ToMany) else set()):
        return "has arguments that no plan knows"
    match source:
        case StoredValue(attribute):
            return _mismatch(declared.entity, attribute, each)
        case ComputedValue(attributes) | ResolvedValue(attributes):
            return next((f"names {name}, which is no column" for name in attributes if not declared.entity.has(name)), None)
        case ToOne(foreign_key, target):
            nullable = not notation(each).endswith("!")
            fits = _is_of(each, target) and nullable == declared.entity.is_nullable(foreign_key)
            return None if fits else "is of another entity, or may be null where its column may not, or the other way round"
        case ToMany(children, visible):
            if visible and visible.own not in {None, "id"}:
                return "is seen by a rule that looks at more than the row's id"
            return None if notation(each).endswith("Connection!") and _is_of(each, children.entity) else "is no connection of its entity"
        case Aggregated(aggregate):
            due = _number_type(aggregate)
            return None if notation(each) == due else f"is {notation(each)}, and its number {due}"


def _number_type(aggregate: ChildAggregate) -> str:
    if aggregate.function is AggregateFunction.COUNT:
        return "Int!"
    kind = aggregate.children.entity.kind(aggregate.attribute) if aggregate.children.entity.has(aggregate.attribute) else ""
    return {"Int": "Float", "Decimal": "Decimal"}.get(kind, "of a column of numbers")


def _is_of(each: GraphQLField, target: Entity[Any]) -> bool:
    """Whether the field shows objects of the entity, by itself or as a connection."""
    return (declared := shown_entity(each)) is not None and declared.entity == target


def shown_entity(each: GraphQLField) -> EntityType | None:
    """The entity whose objects a field shows, by itself or as a connection."""
    named: Any = named_type(each)
    nodes = named.fields.get("nodes") if isinstance(named, GraphQLObjectType) and named.name.endswith("Connection") else None
    return _types.get(named.name if nodes is None else named_type(nodes).name)


def _mismatch(entity: Entity[Any], attribute: str, each: GraphQLField) -> str | None:
    if not entity.has(attribute):
        return "is no column"
    shown, kind = notation(each), entity.kind(attribute)
    if shown.endswith("!") and entity.is_nullable(attribute):
        return "must not be null, and its column may be"
    if attribute == "id" and shown == "ID!":
        return None
    if isinstance(named_type(each), GraphQLEnumType):
        shown = "String"
    return None if kind == KINDS.get(shown.removesuffix("!")) else f"is {shown}, and its column {kind}"


def named_type(each: GraphQLField) -> GraphQLNamedType:
    return cast("Any", get_named_type)(cast("Any", each).type)
