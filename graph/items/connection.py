"""`ItemConnection`: a page of items, and what a shop shows beside it: facets of the whole list."""

from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, cast

import strawberry

from graph.items.types import Item
from graph.kit.cache_control import reads
from graph.kit.connections import Connection, Edge, spliced
from graph.kit.context import Info
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations.facets import Facets, Precision, count_precision, counted, facets_beside, scanning
from persistence.items import table as items
from persistence.kit.finding.facets import FACET_ROWS, MAX_BOUNDS, MAX_VALUES, CountFlags, CountRanges, CountValues, Ranges
from persistence.kit.finding.highlights import MOST as MOST_HIGHLIGHTS
from persistence.kit.finding.highlights import highlights
from persistence.kit.finding.searched_list import SearchedList

HIGHLIGHTED = ("name", "description")
BOUNDS = tuple(Decimal(step) * 10**power for power in range(6) for step in (1, 2, 5))
"""Between which prices are counted, where nobody says: as prices spread by their logarithm, so do these."""


@strawberry.enum(description="How items meet the words that were searched for.")
class Matching(Enum):
    EXACT = strawberry.enum_value("exact", description="They have these words, or nothing was searched for, or nothing was found.")
    NEAR = strawberry.enum_value(
        "near",
        description="No item has these words: they have others that are one typing error from a word of 4 to 7 letters, or two from a longer one."
        " Numbers, article numbers and shorter words are never changed.",
    )


@strawberry.type(description="How many items have a tag.")
class TagFacet:
    tag: str = strawberry.field(description="The tag.")
    count: int = strawberry.field(description="How many items have it.")
    selected: bool = strawberry.field(description="Whether the filter names it, in `tagsAny` or `tagsAll`.")


@strawberry.type(description="How many items have a price in a range.")
class PriceBucket:
    from_: Decimal | None = strawberry.field(name="from", description="The least price in it; null for any below `to`.")
    to: Decimal | None = strawberry.field(description="The least price above it; null for any from `from` on.")
    count: int = strawberry.field(description="How many items have such a price.")


@strawberry.type(description="What items cost.")
class PriceFacet:
    min: Decimal | None = strawberry.field(description="The lowest price; null without items.")
    max: Decimal | None = strawberry.field(description="The highest price; null without items.")
    buckets: list[PriceBucket] = strawberry.field(
        description="From the lowest to the highest; together they have all items.",
        metadata={"cost": Cost(weight=0)},
    )


@strawberry.type(description="How many items can be bought now.")
class StockFacet:
    in_stock: int = strawberry.field(description="How many have units left.")
    out_of_stock: int = strawberry.field(description="How many have none.")


SCANS = scanning(items.ENTITY)


@strawberry.type(
    description="Counts of all items that search and filter leave, not of the page alone. Each facet ignores what the filter says about itself,"
    " so that it shows what another choice would give: `tags` ignores `tagsAny` and `tagsAll`, `price` ignores `priceMin` and `priceMax`, `stock`"
    f" ignores `inStock`. Counted up to {FACET_ROWS:,} items; beyond, `precision` is `AT_LEAST`."
)
class ItemFacets(Facets):
    @strawberry.field(
        description="The tags that most items have: by count, then by tag.",
        metadata=scanning(items.ENTITY, values=True),
    )
    async def tags(
        self, info: Info, first: Annotated[int, strawberry.argument(description=f"How many tags: 0 to {MAX_VALUES}.")] = 20
    ) -> list[TagFacet]:
        conditions = cast("SearchedList", self.query).conditions
        chosen = {tag for condition in conditions if condition.attribute == "tags" for tag in condition.value}
        found = await counted(info.context, self.query, CountValues("tags", first))
        return [TagFacet(tag=tag, count=count, selected=tag in chosen) for tag, count in found]

    @strawberry.field(description="Prices, and how many items lie in which range of them.", metadata=SCANS)
    async def price(
        self,
        info: Info,
        bounds: Annotated[
            list[Decimal] | None,
            strawberry.argument(
                description=f"Where one range ends and the next begins, rising, at most {MAX_BOUNDS}: `[10, 20]` counts below 10, from 10 to below 20, and"
                " from 20 on. Without them 1, 2, 5, 10, 20, 50 and so on, as far as there are prices."
            ),
        ] = None,
    ) -> PriceFacet:
        limits = BOUNDS if bounds is None else tuple(bounds)
        found = await counted(info.context, self.query, CountRanges("price", limits))
        return PriceFacet(min=found.least, max=found.greatest, buckets=_buckets(limits, found, trimmed=bounds is None))

    @strawberry.field(description="Whether items can be bought now.", metadata=SCANS)
    async def stock(self, info: Info) -> StockFacet:
        in_stock, out_of_stock = await counted(info.context, self.query, CountFlags("stock"))
        return StockFacet(in_stock=in_stock, out_of_stock=out_of_stock)

    precision: Precision = count_precision(items.ENTITY)


def _buckets(bounds: tuple[Decimal, ...], found: Ranges, *, trimmed: bool) -> list[PriceBucket]:
    """With `trimmed`, without the empty ranges below the lowest and above the highest price."""
    ends = [None, *bounds, None]
    buckets = [PriceBucket(from_=ends[place], to=ends[place + 1], count=count) for place, count in enumerate(found.counts)]
    if not trimmed:
        return buckets
    filled = [place for place, bucket in enumerate(buckets) if bucket.count]
    return buckets[filled[0] : filled[-1] + 1] if filled else []


@strawberry.type(
    description="Where a text has a word that was searched for, or its beginning. In UTF-16 code units, as JavaScript counts:"
    " `item[field].slice(start, start + length)`."
)
class Highlight:
    field: str = strawberry.field(description="The field of the item: `name` or `description`.")
    start: int = strawberry.field(description="Where it begins, from 0.")
    length: int = strawberry.field(description="How long it is.")


@strawberry.type(description="One item of a page, and its place.")
class ItemEdge(Edge[Item]):
    row: strawberry.Private[items.Item]
    query: strawberry.Private[SearchedList | None]

    @strawberry.field(
        description="The words that were searched for, in the order of the texts and without overlaps: at most"
        f" {MOST_HIGHLIGHTS}. Empty without a search.",
        metadata=spliced(*HIGHLIGHTED),
    )
    def highlights(self) -> list[Highlight]:
        words = self.query and self.query.words
        if not words:
            return []
        found = highlights(words, {name: getattr(self.row, name) for name in HIGHLIGHTED})
        return [Highlight(field=each.field, start=each.start, length=each.length) for each in found]


@strawberry.type(description="A page of items.")
class ItemConnection(Connection[Item]):
    @strawberry.field(description="The items with their cursors, in the list's order.", metadata={"cache": reads()})
    def edges(self) -> list[ItemEdge]:
        query: Any = self.query
        return [ItemEdge(node=self.of(row), cursor=self.page.listing.cursor(row), row=row, query=query) for row in self.page.rows]

    @strawberry.field(description="Whether the words that were searched for were found, or others near to them.", metadata=spliced())
    def matching(self) -> Matching:
        return Matching.NEAR if cast("SearchedList", self.query).did_you_mean else Matching.EXACT

    @strawberry.field(description="If `matching` is `NEAR`, a search that finds what this one may have meant.", metadata=spliced())
    def did_you_mean(self) -> str | None:
        return cast("SearchedList", self.query).did_you_mean

    facets: ItemFacets = facets_beside(ItemFacets)
