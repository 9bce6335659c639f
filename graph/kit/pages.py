"""Connections: pages of a list, with cursors. Source: GraphQL Cursor Connections Specification (Relay)."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from persistence.kit.paging import MAX_PAGE_SIZE, PAGE_SIZE, Page, Window

T = TypeVar("T")
Row = TypeVar("Row")

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


@strawberry.type(description=f"A page of a list: at most {MAX_PAGE_SIZE} objects.")
class Connection(Generic[T]):
    edges: list[Edge[T]] = strawberry.field(description="The objects with their cursors, in the list's order.")
    nodes: list[T] = strawberry.field(description="The objects alone, in the list's order.")
    page_info: PageInfo = strawberry.field(description="Where the page stands.")
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @strawberry.field(description="How many objects the whole list holds. Counted only when asked for, which costs a look at each of them.")
    async def total_count(self) -> int:
        return await self.count()


def connection(page: Page[Row], of: Callable[[Row], Any], count: Callable[[], Awaitable[int]]) -> Connection[Any]:
    """A page of rows as a connection of graph objects."""
    edges: list[Edge[Any]] = [Edge(node=of(row), cursor=page.listing.cursor(row)) for row in page.rows]
    info = PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=edges[0].cursor if edges else None,
        end_cursor=edges[-1].cursor if edges else None,
    )
    return Connection(edges=edges, nodes=[edge.node for edge in edges], page_info=info, count=count)


def window(first: int | None, after: str | None, last: int | None, before: str | None) -> Window:
    return Window(first=first, after=after, last=last, before=before)
