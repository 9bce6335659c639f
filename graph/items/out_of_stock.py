"""The `OutOfStock` error: fewer units are in stock than a purchase or an adjustment takes."""

from typing import Self

import strawberry

from graph.kit.errors import Error, member_for
from graph.kit.global_ids import global_id
from persistence.items import table as items


@member_for(items.OutOfStock)
@strawberry.type(description="There are fewer units than you asked for.")
class OutOfStock(Error):
    item_id: strawberry.ID = strawberry.field(description="Of which item.")
    available: int = strawberry.field(description="How many could be bought instead.")

    @classmethod
    def of(cls, error: items.OutOfStock) -> Self:
        return cls(message=error.message, item_id=global_id("Item", error.item_id), available=error.available)
