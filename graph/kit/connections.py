"""Relay connections: pages of a list, with cursors. Source: GraphQL Cursor Connections Specification (Relay)."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from graph.kit.cache_control import reads
from graph.kit.context import Info
from graph.kit.limits.cost_rules import COUNT_POINTS, Cost
from persistence.kit.query import entity
from persistence.kit.query.entity import ChildList, ListQuery
from persistence.kit.query.paging import COUNT_ROWS, MAX_PAGE_SIZE, PAGE_SIZE, OrderedQuery, Page, PageArguments

T = TypeVar("T")
Row = TypeVar("Row")


def spliced(*attributes: str, **metadata: Any) -> dict[str, Any]:
    """The metadata of a connection's or an edge's own field, whose resolver a plan runs too.

    It looks at nothing but the list in `self.query` and, on an edge, at these attributes of `self.row`.
    """
    return {"spliced": attributes, "cache": reads(), **metadata}


First = Annotated[
    int | None,
    strawberry.argument(description=f"How many from the start: 0 to {MAX_PAGE_SIZE}. Without `first` and `last`: {PAGE_SIZE}."),
]
After = Annotated[str | None, strawberry.argument(description="Only what follows this cursor.")]
Last = Annotated[int | None, strawberry.argument(description=f"How many from the end: 0 to {MAX_PAGE_SIZE}. Not together with `first`.")]
Before = Annotated[str | None, strawberry.argument(description="Only what precedes this cursor.")]


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follows; after a page taken with `last`, whether `before` was given.")
    has_previous_page: bool = strawberry.field(
        description="Whether more precedes; after a page taken with `first`, whether `after` was given."
    )
    start_cursor: str | None = strawberry.field(description="The first edge's cursor; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="The last edge's cursor; null on an empty page.")


@strawberry.type(description="One object of a page, and its place.")
class Edge(Generic[T]):
    node: T = strawberry.field(description="The object.")
    cursor: str = strawberry.field(description="Its place in this list with this filter and order: for `after` and `before`.")


# The field that gives a connection says which tables it reads: they are those of the rows and of their count.
@strawberry.type(description=f"A page of a list: at most {MAX_PAGE_SIZE} objects.")
class Connection(Generic[T]):
    page: strawberry.Private[Page[Any]]
    of: strawberry.Private[Callable[[Any], Any]]
    count: strawberry.Private[Callable[[], Awaitable[int]]]
    query: strawberry.Private[ListQuery | None] = None
    """The list of which this is a page, where it is a whole one."""

    @strawberry.field(description="The objects with their cursors, in the list's order.", metadata={"cache": reads()})
    def edges(self) -> list[Edge[T]]:
        return [Edge(node=self.of(row), cursor=self.page.listing.cursor(row)) for row in self.page.rows]

    @strawberry.field(description="The objects alone, in the list's order.", metadata={"cache": reads()})
    def nodes(self) -> list[T]:
        return [self.of(row) for row in self.page.rows]

    @strawberry.field(description="Where the page stands.", metadata={"cache": reads()})
    def page_info(self) -> PageInfo:
        rows, cursor = self.page.rows, self.page.listing.cursor
        return PageInfo(
            has_next_page=self.page.has_next,
            has_previous_page=self.page.has_previous,
            start_cursor=cursor(rows[0]) if rows else None,
            end_cursor=cursor(rows[-1]) if rows else None,
        )

    @strawberry.field(
        description=f"How many objects the whole list holds, counted up to {COUNT_ROWS:,}: that number stands for so many or more. "
        "Counted only when asked for, which costs a look at each of them.",
        metadata={"cost": Cost(weight=COUNT_POINTS, counted_rows=COUNT_ROWS), "cache": reads()},
    )
    async def total_count(self) -> int:
        return min(COUNT_ROWS, await self.count())


async def connection_by_parent(
    info: Info, children: ChildList, owner_id: int, window: PageArguments, *, of: Callable[[Any], Any]
) -> Connection[Any]:
    """A page of what one owner has; beside the pages of other owners it costs no statement of its own."""

    async def count() -> int:
        return await info.context.load(children.counts, owner_id) or 0

    page: Any = await info.context.load(children.pages, (owner_id, window))
    return Connection[Any](page=page, of=of, count=count, query=children.query_of(owner_id) if children.query_of else None)


async def listed(info: Info, query: ListQuery, window: PageArguments, *, of: Callable[[Any], Any]) -> Connection[Any]:
    """A page of a whole list. Raises: InvalidInput."""
    async with info.context.database.reading() as session:
        page = await entity.page(session, query, window)

    async def count() -> int:
        async with info.context.database.reading() as session:
            return await entity.count(session, page.query)

    return Connection[Any](page=page, of=of, count=count, query=page.query)


def empty_connection(listing: OrderedQuery[Any]) -> Connection[Any]:
    """Of a list whose rows the viewer may not see: they are missing, not forbidden."""

    async def none() -> int:
        return 0

    return Connection[Any](page=Page((), listing, has_next=False, has_previous=False), of=listing.cursor, count=none)
