"""Facets of a list, declared: what the whole list holds, counted beside a page of it.

    ALL = EntityList(ENTITY, facets={"stars": Facet(Review.stars, ("stars_min", "stars_max"))})  # in persistence

    @strawberry.type(description="Counts of all reviews that the filter leaves.")
    class ReviewFacets(Facets):
        stars: list[ValueFacet] = count_values("stars", reviews.ENTITY, description="How many reviews give so many stars.")
        precision: Precision = count_precision(reviews.ENTITY)

    @strawberry.type(description="A page of reviews.")
    class ReviewConnection(Connection[Review]):
        facets: ReviewFacets = facets_beside(ReviewFacets)

A list of the connection's type, such as one by `read_list`, then has them on a plan and without, priced by what is counted, and kept until the table changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, cast

import strawberry

from graph.kit.cache_control import reads
from graph.kit.connections import spliced
from graph.kit.context import Context, Info
from graph.kit.limits.cost_rules import Cost
from persistence.kit.finding import facets
from persistence.kit.finding.facet_cache import FacetCache
from persistence.kit.finding.facets import FACET_ROWS, MAX_VALUES, CountRows, CountValues, FacetedList, FacetRequest
from persistence.kit.query.entity import Entity

SCANNED_ROWS_A_POINT = 10  # Each is read, and looked at by each of its facets: 5 µs.
FACET_POINTS = 60  # A statement of its own, for each list that it is asked of.
SCAN = FACET_ROWS // SCANNED_ROWS_A_POINT
FirstValues = Annotated[int, strawberry.argument(description=f"How many: 0 to {MAX_VALUES}.")]


@strawberry.enum(description="How exact counts are.")
class Precision(Enum):
    EXACT = strawberry.enum_value("exact", description="Each is the number of all objects.")
    AT_LEAST = strawberry.enum_value(
        "at_least", description=f"Counting ended at {FACET_ROWS:,} objects: there are so many of each, or more."
    )


@strawberry.type(description="Counts of one list.")
class Facets:
    """Of one list."""

    query: strawberry.Private[FacetedList]


@strawberry.type(description="How many objects have a value.")
class ValueFacet:
    value: str = strawberry.field(description="The value.")
    count: int = strawberry.field(description="How many objects have it.")


def scanning(entity: Entity[Any], *, values: bool = False) -> Mapping[str, Any]:
    """The metadata of a facet: what it costs, and the table that a cached answer of it depends on. With `values`, of a list of `first` values."""
    cost = Cost(size="first", base=FACET_POINTS, scanned=SCAN) if values else Cost(weight=FACET_POINTS, scanned=SCAN)
    return {"cost": cost, "cache": reads(entity.model)}


def count_values(facet: str, entity: Entity[Any], *, description: str) -> Any:
    """The most frequent values of a column of texts or whole numbers, or of a list of texts: by count, then by value."""

    async def resolve(self: Facets, info: Info, first: FirstValues = 20) -> list[ValueFacet]:
        found = await counted(info.context, self.query, CountValues(facet, first))
        return [ValueFacet(value=value, count=count) for value, count in found]

    return strawberry.field(resolver=resolve, description=description, metadata=scanning(entity, values=True))


def count_precision(entity: Entity[Any]) -> Any:
    async def resolve(self: Facets, info: Info) -> Precision:
        most = await counted(info.context, self.query, CountRows())
        return Precision.AT_LEAST if most >= FACET_ROWS else Precision.EXACT

    return strawberry.field(resolver=resolve, description="Whether these counts are exact.", metadata=scanning(entity))


def facets_beside(kind: type[Any]) -> Any:
    """The field of a connection that has them."""

    async def resolve(self: Any) -> Any:
        return kind(query=self.query)

    resolve.__annotations__["return"] = kind
    return strawberry.field(resolver=resolve, description="What the whole list holds, counted.", metadata=spliced())


async def counted(context: Context, query: FacetedList, what: facets.What) -> Any:
    """Raises: InvalidInput."""
    request = FacetRequest.of(query, what)

    async def count() -> facets.Counted:
        return cast("facets.Counted", await context.load(facets.counts, request))

    found = await context.port(FacetCache).find(request, (query.entity.model.__tablename__,), count)
    context.scanned += found.rows // SCANNED_ROWS_A_POINT
    return found.value
