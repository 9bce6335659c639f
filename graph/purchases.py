"""GraphQL types and fields of purchases: the `purchaseItem` mutation and the `purchaseStatus` subscription."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from enum import Enum
from operator import mul
from typing import Annotated, Self

import strawberry

from graph.items.types import Item
from graph.kit.auth import Scope
from graph.kit.context import Context, Info
from graph.kit.entity.declaration import computed, entity, to_one
from graph.kit.entity.visibility import Visibility
from graph.kit.errors import Error, IdempotencyKeyReused, InvalidInput, NotFound, member_for
from graph.kit.fields import mutation, subscription
from graph.kit.global_ids import Node, required_row_id
from graph.kit.idempotency import IdempotencyKey
from graph.users.types import User
from persistence import users
from persistence.items import table as items
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork
from persistence.kit.events.feed import EventGap
from persistence.kit.idempotency import Attempt
from persistence.purchases import single_statement
from persistence.purchases import table as purchases


@strawberry.enum(description="How far a purchase is.")
class PurchaseStatus(Enum):
    QUEUED = strawberry.enum_value(
        purchases.QUEUED, description="Sold. Its background work, such as telling the shop, is still to be done."
    )
    COMPLETED = strawberry.enum_value(purchases.COMPLETED, description="All done.")


VISIBLE = Visibility(Scope.USERS_READ, own="buyer_id")


@entity(purchases.ENTITY, visible=VISIBLE)
@strawberry.type(description="Units of one item that somebody bought. Visible to the buyer and with `users:read`.")
class Purchase(Node):
    quantity: int = strawberry.field(description="How many units.")
    unit_price: Decimal = strawberry.field(description="The price of one unit at the moment of the purchase.")
    total: Decimal = computed("unit_price", "quantity", compute=mul, description="`quantity` times `unitPrice`.")
    status: PurchaseStatus = strawberry.field(description="How far it is.")
    created_at: datetime = strawberry.field(description="When it was bought.")
    item: Item = to_one(
        "item_id",
        items.ENTITY,
        description="What was bought, as it is now; also when it has left the catalogue since.",
    )
    buyer: User = to_one("buyer_id", users.ENTITY, description="Who bought it.")


def is_visible(context: Context, row: purchases.Purchase) -> bool:
    return VISIBLE.sees(context, row.buyer_id)


def visible(info: Info, row: purchases.Purchase) -> Purchase | None:
    return Purchase.of(row) if is_visible(info.context, row) else None


@member_for(purchases.OutOfStock)
@strawberry.type(description="There are fewer units than you asked for.")
class OutOfStock(Error):
    available: int = strawberry.field(description="How many could be bought instead.")

    @classmethod
    def of(cls, error: purchases.OutOfStock) -> Self:
        return cls(message=error.message, available=error.available)


PurchaseItemResult = Annotated[
    Purchase | OutOfStock | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("PurchaseItemResult", description="The purchase, or why nothing was bought."),
]


@strawberry.type
class PurchaseMutation:
    @mutation(scope=(), description="Buy units of an item, at its present price. The stock is never oversold.")
    async def purchase_item(
        self,
        info: Info,
        item_id: strawberry.ID,
        quantity: Annotated[int, strawberry.argument(description="Units, from 1.")] = 1,
        idempotency_key: IdempotencyKey = None,
    ) -> PurchaseItemResult:
        buyer, key = info.context.require(), required_row_id("Item", item_id)

        async def command(work: UnitOfWork) -> purchases.Purchase:
            return await purchases.purchase(work, key, buyer_id=buyer.user_id, quantity=quantity)

        async def at_once(attempt: Attempt | None) -> purchases.Purchase | None:
            return await single_statement.sell(info.context.database, key, buyer_id=buyer.user_id, quantity=quantity, attempt=attempt)

        row = await info.context.once(
            command, purchases.REPLAY_FORMAT, key=idempotency_key, operation="purchaseItem", arguments=[key, quantity], shortcut=at_once
        )
        return Purchase.of(row)


@strawberry.type
class PurchaseSubscription:
    @subscription(
        scope=(),
        description="A purchase of yours (with `users:read`, anybody's): first as it is now, then after each change. Ends once it is COMPLETED.",
    )
    async def purchase_status(self, info: Info, id: strawberry.ID) -> AsyncGenerator[Purchase]:
        context, key = info.context, required_row_id("Purchase", id)
        feed = context.services.feed
        # The place in the log before the row: a change in between is then told twice rather than not at all.
        position = await feed.position()
        purchase = await _present(context, key)
        yield purchase
        async with aclosing(feed.subscribe(position)) as events:
            while purchase.status is not PurchaseStatus.COMPLETED and (event := await anext(events, None)):
                if isinstance(event, EventGap) or (event.kind.startswith("purchase.") and event.subject_id == key):
                    purchase, before = await _present(context, key), purchase
                    if purchase.status is not before.status:
                        yield purchase


async def _present(context: Context, purchase_id: int) -> Purchase:
    async with context.database.reading_latest() as session:
        row = (await purchases.by_id(session, [purchase_id])).get(purchase_id)
    if row is None or not is_visible(context, row):
        raise errors.NotFound("purchase")
    return Purchase.of(row)
