"""Root fields that read an entity, declared: one object by its id, and lists with filter, search, order and pages.

    @strawberry.input(description="Conditions that all hold; what is left out or null is no condition.")
    class ReviewFilter:
        stars_min: int | None = at_least("stars", description="At least so many.")

    @strawberry.enum(description="What a list of reviews can be ordered by.")
    class ReviewOrderField(Enum):
        STARS = strawberry.enum_value("stars", description="By their stars.")

    @strawberry.type
    class ReviewQuery:
        reviews: Connection[Review] = read_list(ALL, filter=ReviewFilter, order=ReviewOrderField, scope=None, description=…)

From it come the field's arguments, its resolver and its plan, its price, and the tables that a cached answer of it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from inspect import Parameter, Signature
from typing import Annotated, Any, cast

import strawberry

from graph.kit.cache_control import reads
from graph.kit.connections import After, Before, First, Last, listed
from graph.kit.context import Context, Info
from graph.kit.entity.declaration import name_of, object_of
from graph.kit.entity.roots import FindByGlobalId, ReadList
from graph.kit.fields import Scopes, query
from graph.kit.global_ids import row_id
from graph.kit.limits.cost_rules import ORDER_POINTS, Cost, filter_points, search_points
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import Comparison, Condition, EntityList, SortOrder, index_of
from persistence.kit.query.paging import PageArguments

PAGE: Mapping[str, Any] = {"first": First, "after": After, "last": Last, "before": Before}
ORDERED = {"String", "Int", "Decimal", "DateTime"}
LOOKING = {"search": search_points, "filter": filter_points, "orderBy": ORDER_POINTS}
NO_ROW = 0  # Ids begin at 1.


@dataclass(frozen=True)
class _Declared:
    """What a field of a filter compares; `type_name` is that of the objects whose global ids it takes, if it takes any."""

    attribute: str
    comparison: Comparison
    type_name: str | None

    def condition(self, name: str, value: Any) -> Condition:
        if self.type_name is not None:
            value = row_id(self.type_name, value) or NO_ROW
        stored = value.value if isinstance(value, Enum) else _stripped(cast("list[str]", value)) if isinstance(value, list) else value
        return Condition(name, self.attribute, self.comparison, stored)


def _stripped(texts: Sequence[str]) -> tuple[str, ...]:
    """Blanks around them do not count: nobody sees them."""
    return tuple(text.strip() for text in texts)


def _condition(comparison: Comparison, attribute: str, description: str, type_name: str | None = None) -> Any:
    metadata = {"condition": _Declared(attribute, comparison, type_name)}
    return strawberry.field(default=None, description=description, metadata=metadata)


def equal(attribute: str, *, description: str) -> Any:
    return _condition(Comparison.EQUAL, attribute, description)


def refers_to(attribute: str, type_name: str, *, description: str) -> Any:
    """A foreign key, for whose value clients give the global id of an object of this type."""
    return _condition(Comparison.EQUAL, attribute, description, type_name)


def at_least(attribute: str, *, description: str) -> Any:
    return _condition(Comparison.AT_LEAST, attribute, description)


def at_most(attribute: str, *, description: str) -> Any:
    return _condition(Comparison.AT_MOST, attribute, description)


def below(attribute: str, *, description: str) -> Any:
    return _condition(Comparison.BELOW, attribute, description)


def any_of(attribute: str, *, description: str) -> Any:
    """Of a column that holds a list, which an index of its elements answers: see `persistence.kit.query.conditions`."""
    return _condition(Comparison.ANY_OF, attribute, description)


def all_of(attribute: str, *, description: str) -> Any:
    return _condition(Comparison.ALL_OF, attribute, description)


@strawberry.enum(description="Which way a list runs.")
class OrderDirection(Enum):
    ASC = strawberry.enum_value("asc", description="Smallest first.")
    DESC = strawberry.enum_value("desc", description="Largest first.")


def read_one(entity: Entity[Any], *, scope: Scopes, description: str) -> Any:
    """The object with the global id in the argument `id`, or null; for entities that everybody with the scope may see."""

    async def resolve(self: Any, info: Info, id: strawberry.ID) -> Any:
        key = row_id(name_of(entity), id)
        row = None if key is None else await info.context.load(entity.by_id, key)
        return None if row is None else object_of(row)

    return query(scope=scope, description=description, cache=reads(entity.model), plan=FindByGlobalId())(resolve)


def read_list(
    rows: EntityList,
    *,
    scope: Scopes,
    description: str,
    search: str | None = None,
    filter: type[Any] | None = None,
    order: type[Enum] | None = None,
    of_viewer: Callable[[Context, Any], EntityList] | None = None,
    cached: bool = True,
) -> Any:
    """`search` describes the words that can be searched for; `filter` is an input type of conditions, `order` an enum of attributes.

    `of_viewer` makes the list of the rows that the viewer may see of the whole one: with the viewer as a value of its statement, which all share.
    Raises: TypeError, for a condition or an order that the entity's table does not bear.
    """
    _check(rows, search, filter, order)
    parameters = _parameters(search, filter, order)

    def query_of(**arguments: Any) -> tuple[EntityList, PageArguments]:
        return _chosen(rows, arguments), PageArguments(*(arguments.get(name) for name in PAGE))

    async def resolve(self: Any, info: Info, **arguments: Any) -> Any:
        found, window = query_of(**arguments)
        return await listed(info, of_viewer(info.context, found) if of_viewer else found, window, of=object_of)

    _sign(query_of, parameters)
    _sign(resolve, {"self": Parameter.empty, "info": Info, **parameters})
    offered = {"search": search, "filter": filter, "orderBy": order}
    supplied = {name: points for name, points in LOOKING.items() if offered[name] is not None}
    declare = query(
        scope=scope,
        description=description,
        cost=Cost(supplied=supplied),
        cache=reads(rows.entity.model) if cached else None,
        plan=ReadList(query_of, of_viewer),
    )
    return declare(resolve)


def _parameters(search: str | None, filter: type[Any] | None, order: type[Enum] | None) -> Mapping[str, Any]:
    """Names and types, in the order of the schema."""
    return {
        **({} if search is None else {"search": Annotated[str | None, strawberry.argument(description=search)]}),
        **({} if filter is None else {"filter": filter | None}),
        **({} if order is None else {"order_by": order_input(order) | None}),
        **PAGE,
    }


def _sign(function: Callable[..., Any], parameters: Mapping[str, Any]) -> None:
    """Give a function with `**arguments` the signature that Strawberry and the planner read."""
    signed = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=Parameter.empty if name in {"self", "info"} else None)
        for name, kind in parameters.items()
    ]
    cast("Any", function).__signature__ = Signature(signed)


def _chosen(rows: EntityList, arguments: Mapping[str, Any]) -> EntityList:
    """The list that the arguments choose."""
    filter_, order_by, search = arguments.get("filter"), arguments.get("order_by"), arguments.get("search")
    if filter_ is None and order_by is None and search is None:
        return rows
    return replace(
        rows,
        conditions=conditions(filter_) if filter_ else (),
        order=SortOrder(order_by.field.value, order_by.direction is OrderDirection.DESC) if order_by else rows.order,
        search=search,
    )


def conditions(filter_: Any) -> tuple[Condition, ...]:
    """Those of a filter's fields that were given and not null."""
    kind = cast("type[Any]", type(filter_))
    values = [(name, declared, getattr(filter_, name)) for name, declared in _declared(kind)]
    return tuple(declared.condition(name, value) for name, declared, value in values if value is not None)


@cache
def _declared(filter: type[Any]) -> Sequence[tuple[str, _Declared]]:
    """Raises: TypeError, for a field that is no condition."""
    fields = filter.__strawberry_definition__.fields
    if strange := [each.python_name for each in fields if "condition" not in each.metadata]:
        raise TypeError(
            f"{filter.__name__}.{strange[0]} is no condition: declare it by equal, at_least, … of graph/kit/operations/lists.py"
        )
    return [(each.python_name, each.metadata["condition"]) for each in fields]


@cache
def order_input(order: type[Enum]) -> Any:
    """The input type of an order: `ReviewOrder` for `ReviewOrderField`."""
    namespace = {
        "__annotations__": {"field": order, "direction": OrderDirection},
        "field": strawberry.field(description="What to order by."),
        "direction": strawberry.field(default=OrderDirection.ASC, description="Which way."),
    }
    made = type(order.__name__.removesuffix("Field"), (), namespace)
    return strawberry.input(made, description="The order of a list. Objects with equal values follow in the order they were added.")


def _check(rows: EntityList, search: str | None, filter: type[Any] | None, order: type[Enum] | None) -> None:
    entity, table = rows.entity, rows.entity.model.__name__
    if search is not None and entity.words is None:
        raise TypeError(f"{table} has no words to search for: name the column in Entity({table}, words=…)")
    for name, declared in _declared(filter) if filter else ():
        if not entity.has(declared.attribute):
            raise TypeError(f"{cast('Any', filter).__name__}.{name} compares {declared.attribute}, which is no column of {table}")
    for each in [each for each in order or () if each.value not in rows.computed_orders]:
        if not entity.has(each.value) or entity.is_nullable(each.value) or entity.kind(each.value) not in ORDERED:
            raise TypeError(
                f"{each} orders by {each.value}: it must be a column of {table} that holds texts, numbers or instants and no null"
            )
        if not entity.is_indexed(each.value):
            raise TypeError(f"{each} orders by {each.value}, with which no index of {table} begins: {index_of(entity, each.value)}")
