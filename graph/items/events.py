"""The `itemEvents` subscription: live item events, resumable from any cursor of the kept history."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from graph.items.types import Item
from graph.kit.context import Info
from graph.kit.entity.declaration import to_node
from graph.kit.fields import subscription
from graph.kit.global_ids import global_id, row_id
from graph.kit.operations.events import AfterEvent, EntityEvents, Event, Gap
from persistence.items import table as items
from persistence.kit.errors import InvalidInput
from persistence.kit.events.log import Event as Row
from persistence.purchases import table as purchases

if TYPE_CHECKING:
    from graph.purchases.types import Purchase

ITEM_IDS = 100


def _purchase_id(event: Event) -> int:
    return event.data["purchase_id"]


@strawberry.interface(description="Something that happened to an item.")
class ItemChange(Event):
    item_id: strawberry.ID = strawberry.field(description="The item's id.")

    @classmethod
    def values_of(cls, row: Row) -> dict[str, Any]:
        return {"item_id": global_id("Item", row.subject_id)}

    item: Item | None = to_node(
        attrgetter("key"),
        items.ENTITY,
        description="The item as it is now, which may be after later events; null if it has left the catalogue.",
    )


@strawberry.type(description="An item came into the catalogue.")
class ItemCreated(ItemChange):
    pass


@strawberry.type(description="An item's values were changed. Purchases and adjustments, which change its inventory, have their own events.")
class ItemUpdated(ItemChange):
    @strawberry.field(description="The names of the fields that changed.")
    def fields(self) -> list[str]:
        return self.data["fields"]


@strawberry.type(description="An item left the catalogue.")
class ItemDeleted(ItemChange):
    pass


@strawberry.type(description="An item that had left came back into the catalogue.")
class ItemRestored(ItemChange):
    pass


@strawberry.type(description="Units of an item were sold.")
class ItemPurchased(ItemChange):
    @strawberry.field(description="How many units.")
    def quantity(self) -> int:
        return self.data["quantity"]

    purchase: Annotated["Purchase", strawberry.lazy("graph.purchases.types")] | None = to_node(
        _purchase_id, purchases.ENTITY, description="The purchase; null unless you are the buyer or the seller, or hold `users:read`."
    )


@strawberry.type(description="Units of an item are in stock again, as a purchase was cancelled; also of one that has left the catalogue.")
class ItemRestocked(ItemChange):
    @strawberry.field(description="How many units.")
    def quantity(self) -> int:
        return self.data["quantity"]

    purchase: Annotated["Purchase", strawberry.lazy("graph.purchases.types")] | None = to_node(
        _purchase_id,
        purchases.ENTITY,
        description="The cancelled purchase; null unless you are the buyer or the seller, or hold `users:read`.",
    )


@strawberry.type(description="The stock of an item was corrected by a difference: `adjustInventory`.")
class ItemAdjusted(ItemChange):
    @strawberry.field(description="So many units more, or fewer where it is negative: those of one call together.")
    def delta(self) -> int:
        return self.data["delta"]


ItemEvent = Annotated[
    ItemCreated | ItemUpdated | ItemDeleted | ItemRestored | ItemPurchased | ItemRestocked | ItemAdjusted | Gap,
    strawberry.union("ItemEvent", description="What a subscriber to items hears."),
]

ITEM_EVENTS = EntityEvents(
    {
        "item.created": ItemCreated,
        "item.updated": ItemUpdated,
        "item.deleted": ItemDeleted,
        "item.restored": ItemRestored,
        "item.purchased": ItemPurchased,
        "item.restocked": ItemRestocked,
        "item.adjusted": ItemAdjusted,
    }
)


@strawberry.type
class ItemEventSubscription:
    @subscription(
        scope=None,
        description="Everything that happens to items, in order, each event once: from now, or after the event with the cursor `after`. "
        "Public, as the catalogue is. What cannot be delivered is never left out in silence: a `Gap` stands for it.",
    )
    async def item_events(
        self,
        info: Info,
        after: AfterEvent = None,
        item_ids: Annotated[list[strawberry.ID] | None, strawberry.argument(description=f"Only these items: at most {ITEM_IDS}.")] = None,
    ) -> AsyncGenerator[ItemEvent]:
        requested = None if item_ids is None else _requested_ids(item_ids)
        async with aclosing(ITEM_EVENTS.follow(info, after, keys=requested)) as events:
            async for event in events:
                yield event


def _requested_ids(item_ids: Sequence[strawberry.ID]) -> set[int | None]:
    """Raises: InvalidInput. Ids of nothing are allowed: they match nothing."""
    if len(item_ids) > ITEM_IDS:
        raise InvalidInput.at("itemIds", f"must be at most {ITEM_IDS}")
    return {row_id("Item", id_) for id_ in item_ids}
