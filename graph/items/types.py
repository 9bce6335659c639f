"""The `Item` type, its filters and orders, and the queries for items."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import strawberry

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.context import Info
from graph.kit.entity.declaration import entity, stored, to_one
from graph.kit.entity.roots import FindByKey, ReadNumberedPage
from graph.kit.fields import query
from graph.kit.global_ids import Node
from graph.kit.limits.cost_rules import Cost, search_points
from graph.kit.limits.rate_limits import ADDRESS, RateLimitRule
from graph.kit.operations.lists import all_of, any_of, at_least, at_most, below, equal, read_list, read_one
from graph.users.types import User
from persistence import users
from persistence.items import external_ids, listing
from persistence.items import table as items
from persistence.kit.errors import InvalidInput
from persistence.kit.finding.searched_list import RELEVANCE, SearchedList
from persistence.kit.query.entity import numbered_page

if TYPE_CHECKING:
    from graph.items.connection import ItemConnection

PAGE_SIZE = 100
EXTERNAL_ID = "What it is called in another system: 1 to 200 visible characters, unique in the catalogue."


def numbered_search_points(query: object) -> int:
    """More than for a list: for the number of pages every match is counted."""
    return 2 * search_points(query) + 1_000


@entity(items.ENTITY)
@strawberry.type(description="Something in the catalogue.")
class Item(Node):
    name: str = strawberry.field(description="1 to 200 characters.")
    description: str | None = strawberry.field(description="Up to 10,000 characters.")
    price: Decimal = strawberry.field(description="For one unit, with two decimal places.")
    tags: list[str] = strawberry.field(
        description="At most 20 different ones of 1 to 50 characters without semicolons and without blanks around them, in the order they were given."
    )
    inventory: int = strawberry.field(description="Units that can be bought now.")
    in_stock: bool = stored("in_stock", value=lambda row: row.inventory > 0, description="Whether `inventory` is above 0.")
    version: int = strawberry.field(
        description="Begins at 1 and grows with each edit: give it as `expectedVersion`. Purchases and adjustments of the stock leave it alone."
    )
    created_at: datetime = strawberry.field(description="When it was added.")
    updated_at: datetime = strawberry.field(description="When it last changed.")
    owner: User | None = to_one("owner_id", users.ENTITY, description="Who added it; null for what was imported.")
    external_id: str | None = strawberry.field(description=EXTERNAL_ID)


@strawberry.enum(description="What a list of items can be ordered by.")
class ItemOrderField(Enum):
    NAME = strawberry.enum_value("name", description="By code points: capital letters before small ones.")
    PRICE = strawberry.enum_value("price", description="By the price of one unit.")
    CREATED_AT = strawberry.enum_value("created_at", description="By when they were added.")
    INVENTORY = strawberry.enum_value("inventory", description="By the units left.")
    RELEVANCE = strawberry.enum_value(
        RELEVANCE,
        description="By what was searched for, best first with `ASC`: all words in the name before words in the description, whole words before"
        " beginnings of words. Without a search, in the order they were added.",
    )


@strawberry.input(description="Conditions that all hold; what is left out or null is no condition.")
class ItemFilter:
    price_min: Decimal | None = at_least("price", description="At least this price.")
    price_max: Decimal | None = at_most("price", description="At most this price.")
    tags_any: list[str] | None = any_of("tags", description="At least one of these tags, of at most 20.")
    tags_all: list[str] | None = all_of("tags", description="All of these tags, of at most 20.")
    in_stock: bool | None = equal("in_stock", description="Whether units are left.")
    created_after: datetime | None = at_least("created_at", description="Added at this instant or later.")
    created_before: datetime | None = below("created_at", description="Added before this instant.")


@strawberry.type(description="A numbered page, for lists with page numbers. Prefer `items`: it costs the same on every page.")
class ItemPage:
    items: list[Item] = strawberry.field(
        description="At most `pageSize` items, in the order they were added.", metadata={"cost": Cost(of_parent=True)}
    )
    page: int = strawberry.field(description="This page's number, from 1.")
    page_size: int = strawberry.field(description="1 to 100.")
    total: int = strawberry.field(description="How many items there are on all pages.")
    pages: int = strawberry.field(description="How many pages there are.")


SEARCH = (
    "Up to 16 words of up to 64 characters: each must begin a word of the name or description, whatever its case and accents."
    " In Chinese, Japanese, Thai, Lao, Khmer and Burmese any part of a text is found, and each 3 letters count as a word."
)


def numbered_list(page: int = 1, page_size: int = 10, search: str | None = None) -> tuple[SearchedList, int, int]:
    """What the arguments of `itemsPage` mean: a list, the number of a page, and its size. Raises: InvalidInput."""
    if page < 1:
        raise InvalidInput.at("page", "must be at least 1")
    if not 1 <= page_size <= PAGE_SIZE:
        raise InvalidInput.at("pageSize", f"must be between 1 and {PAGE_SIZE}")
    return replace(listing.ALL, search=search), page, page_size


@strawberry.type
class ItemQuery:
    item: Item | None = read_one(items.ENTITY, scope=None, description="One item, or null if there is none with this id.")

    @query(
        scope=None,
        description="One item by what it is called in another system, or null if there is none.",
        cache=reads(items.Item),
        plan=FindByKey("external_id", external_ids.key),
    )
    async def item_by_external_id(
        self, info: Info, external_id: Annotated[str, strawberry.argument(description="Its `externalId`, exactly.")]
    ) -> Item | None:
        row = await info.context.load(items.by_external_id, external_id)
        return Item.of(row) if row else None

    items: Annotated["ItemConnection", strawberry.lazy("graph.items.connection")] = read_list(
        listing.ALL, scope=None, description="The catalogue, page by page.", search=SEARCH, filter=ItemFilter, order=ItemOrderField
    )

    @query(
        scope=(Scope.ITEMS_READ, Scope.ITEMS_WRITE),
        description="The catalogue with page numbers, for administration.",
        cost=Cost(weight=300, size="pageSize", supplied={"search": numbered_search_points}),
        limit=RateLimitRule("3/60seconds", by=ADDRESS),
        plan=ReadNumberedPage("items", numbered_list),
    )
    async def items_page(
        self,
        info: Info,
        page: Annotated[int, strawberry.argument(description="From 1.")] = 1,
        page_size: Annotated[int, strawberry.argument(description="1 to 100.")] = 10,
        search: Annotated[str | None, strawberry.argument(description=SEARCH)] = None,
    ) -> ItemPage:
        found, number, size = numbered_list(page, page_size, search)
        async with info.context.database.reading() as session:
            rows, total = await numbered_page(session, found, number=number, size=size)
        return ItemPage(items=[Item.of(row) for row in rows], page=page, page_size=page_size, total=total, pages=-(-total // page_size))
