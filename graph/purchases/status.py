"""The `purchaseStatus` subscription: one purchase, until nothing more happens to it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from graph.kit.context import Context, Info
from graph.kit.fields import subscription
from graph.kit.global_ids import required_row_id
from graph.purchases.types import VISIBLE, Purchase, PurchaseStatus
from persistence.kit import errors
from persistence.kit.events.feed import EventGap
from persistence.purchases import table as purchases

ENDED = (PurchaseStatus.COMPLETED, PurchaseStatus.CANCELLED)


@strawberry.type
class PurchaseSubscription:
    @subscription(
        scope=(),
        description="A purchase that you made or sold (with `users:read`, anybody's): first as it is now, then after each change. "
        "Ends once it is COMPLETED or CANCELLED.",
    )
    async def purchase_status(self, info: Info, id: strawberry.ID) -> AsyncGenerator[Purchase]:
        context, key = info.context, required_row_id("Purchase", id)
        feed = context.services.feed
        # The place in the log before the row: a change in between is then told twice rather than not at all.
        position = await feed.position()
        purchase = await _present(context, key)
        yield purchase
        async with aclosing(feed.subscribe(position)) as events:
            while purchase.status not in ENDED and (event := await anext(events, None)):
                if isinstance(event, EventGap) or (event.kind.startswith("purchase.") and event.subject_id == key):
                    purchase, before = await _present(context, key), purchase
                    if purchase.status is not before.status:
                        yield purchase


async def _present(context: Context, purchase_id: int) -> Purchase:
    async with context.database.reading_latest() as session:
        row = (await purchases.by_id(session, [purchase_id])).get(purchase_id)
    if row is None or not VISIBLE.finds(context, [row.buyer_id, row.seller_id]):
        raise errors.NotFound("purchase")
    return Purchase.of(row)
