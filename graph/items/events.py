"""The `itemEvents` subscription: live item events, resumable from any cursor of the kept history."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

import strawberry

from graph.items.types import Item
from graph.kit.context import Context, Info
from graph.kit.fields import subscription
from graph.kit.global_ids import global_id, resolve_node, row_id
from persistence.items import table as items
from persistence.kit.column_types import utc_now
from persistence.kit.errors import InvalidInput
from persistence.kit.events.feed import EventGap, EventGapReason, Feed
from persistence.kit.events.log import Event as Row
from persistence.kit.lru_cache import LruCache

if TYPE_CHECKING:
    from graph.purchases import Purchase

ITEM_IDS = 100
HISTORY_PAGE_POINTS = (
    50  # To read a page of 200 events from the table: some 4 ms, whether the subscriber's filter lets them through or not.
)
EVENT_CACHE_BYTES = 8 * 2**20  # Of the events that several subscribers may be told.
EVENT_OBJECT_BYTES = 1_500


@strawberry.interface(description="Something in the event log.")
class Event:
    cursor: str = strawberry.field(description="Its place in the log: give it as `after` to go on from here.")
    occurred_at: datetime = strawberry.field(
        description="When it happened. The order of events is that of their cursors, not of their times."
    )


@strawberry.interface(description="Something that happened to an item.")
class ItemChange(Event):
    item_id: strawberry.ID = strawberry.field(description="The item's id.")
    key: strawberry.Private[int]
    data: strawberry.Private[dict[str, Any]]

    @classmethod
    def of(cls, row: Row, cursor: str) -> Self:
        item_id = global_id("Item", row.subject_id)
        return cls(cursor=cursor, occurred_at=row.occurred_at, item_id=item_id, key=row.subject_id, data=row.data)

    @strawberry.field(description="The item as it is now, which may be after later events; null if it has left the catalogue.")
    async def item(self, info: Info) -> Item | None:
        row = await info.context.load(items.by_id, self.key)
        return Item.of(row) if row else None


@strawberry.type(description="An item came into the catalogue.")
class ItemCreated(ItemChange):
    pass


@strawberry.type(
    description="Somebody changed an item's values. Purchases and adjustments, which change its inventory, have their own events."
)
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

    @strawberry.field(description="The purchase; null unless you are the buyer or hold `users:read`.")
    async def purchase(self, info: Info) -> Annotated["Purchase", strawberry.lazy("graph.purchases")] | None:
        return await resolve_node(info, global_id("Purchase", self.data["purchase_id"]))


@strawberry.type(description="The stock of an item was corrected by a difference: `adjustInventory`.")
class ItemAdjusted(ItemChange):
    @strawberry.field(description="So many units more, or fewer where it is negative: those of one call together.")
    def delta(self) -> int:
        return self.data["delta"]


@strawberry.enum(description="Why events cannot be delivered.")
class GapReason(Enum):
    EXPIRED = strawberry.enum_value(EventGapReason.EXPIRED, description="They are older than the history that is kept.")
    OVERFLOW = strawberry.enum_value(EventGapReason.OVERFLOW, description="You read so slowly that they left the history meanwhile.")
    UNKNOWN = strawberry.enum_value(
        EventGapReason.UNKNOWN,
        description="The cursor is of another database, or of a time that a restored backup took back: `resumeFrom` is now.",
    )


@strawberry.type(
    description="Events are missing here: read again what you need from the catalogue. The stream goes on after `resumeFrom`, and so does a new one."
)
class Gap(Event):
    resume_from: str = strawberry.field(description="The cursor of the first place from which nothing is missing. The same as `cursor`.")
    reason: GapReason = strawberry.field(description="Why.")

    @classmethod
    def of(cls, missed: EventGap, cursor: str) -> Self:
        return cls(cursor=cursor, occurred_at=utc_now(), resume_from=cursor, reason=GapReason(missed.reason))


ItemEvent = Annotated[
    ItemCreated | ItemUpdated | ItemDeleted | ItemRestored | ItemPurchased | ItemAdjusted | Gap,
    strawberry.union("ItemEvent", description="What a subscriber to items hears."),
]

_KINDS: dict[str, Callable[[Row, str], ItemChange]] = {
    "item.created": ItemCreated.of,
    "item.updated": ItemUpdated.of,
    "item.deleted": ItemDeleted.of,
    "item.restored": ItemRestored.of,
    "item.purchased": ItemPurchased.of,
    "item.adjusted": ItemAdjusted.of,
}


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
        after: Annotated[str | None, strawberry.argument(description="The cursor of the last event you have.")] = None,
        item_ids: Annotated[list[strawberry.ID] | None, strawberry.argument(description=f"Only these items: at most {ITEM_IDS}.")] = None,
    ) -> AsyncGenerator[ItemEvent]:
        requested = None if item_ids is None else _requested_ids(item_ids)
        feed = info.context.services.feed
        async with aclosing(feed.resume(after, reading=partial(_pay, info.context))) as events:
            async for event in events:
                if isinstance(event, EventGap) or (event.kind in _KINDS and (requested is None or event.subject_id in requested)):
                    yield to_event(feed, event)


def to_event(feed: Feed, event: Row | EventGap) -> Any:
    return Gap.of(event, feed.cursor(event.resume_from)) if isinstance(event, EventGap) else _to_event(feed, event)


async def _pay(context: Context) -> None:
    if context.pay:
        await context.pay(HISTORY_PAGE_POINTS)


_event_objects = LruCache[tuple[str, datetime], ItemChange](EVENT_CACHE_BYTES, lambda _key, _event: EVENT_OBJECT_BYTES)


def _to_event(feed: Feed, event: Row) -> ItemChange:
    """One object for all subscribers, so that its execution can be shared: see `graph.kit.execution.shared_execution`. Each may have read a row of its own."""
    key = feed.cursor(event.id), event.occurred_at
    to_event = _event_objects.get(key)
    if to_event is None:
        to_event = _KINDS[event.kind](event, key[0])
        _event_objects.put(key, to_event)
    return to_event


def _requested_ids(item_ids: Sequence[strawberry.ID]) -> set[int | None]:
    """Raises: InvalidInput. Ids of nothing are allowed: they match nothing."""
    if len(item_ids) > ITEM_IDS:
        raise InvalidInput.at("itemIds", f"must be at most {ITEM_IDS}")
    return {row_id("Item", id_) for id_ in item_ids}
