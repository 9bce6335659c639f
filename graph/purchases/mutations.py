"""Mutations of purchases: buying one item, buying a basket, and taking a purchase back."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Self

import strawberry

from graph.items.out_of_stock import OutOfStock
from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.errors import Error, IdempotencyKeyReused, InvalidInput, NotFound, member_for
from graph.kit.fields import mutation
from graph.kit.global_ids import required_row_id, row_id
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations.commands import perform
from graph.purchases.types import Purchase
from persistence.kit.database.database import UnitOfWork
from persistence.kit.idempotency import Attempt
from persistence.purchases import basket, single_statement
from persistence.purchases import table as purchases

LINE_POINTS = 5  # A purchase of its own, but for the transaction, which all lines share.


@strawberry.input(description="Units of one item.")
class PurchaseLineInput:
    item_id: strawberry.ID = strawberry.field(description="The item's id; several lines may have the same.")
    quantity: int = strawberry.field(default=1, description="Units, from 1.")


@strawberry.type(description="What was bought together.")
class PurchaseItems:
    purchases: list[Purchase] = strawberry.field(
        description="One for each line, in the lines' order.", metadata={"cost": Cost(weight=0, of_parent=True)}
    )
    total: Decimal = strawberry.field(description="The sum of their totals.")


@member_for(purchases.PurchaseCompleted)
@strawberry.type(description="The purchase is completed: it is too late to cancel it yourself.")
class PurchaseCompleted(Error):
    @classmethod
    def of(cls, error: purchases.PurchaseCompleted) -> Self:
        return cls(message=error.message)


PurchaseItemResult = Annotated[
    Purchase | OutOfStock | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("PurchaseItemResult", description="The purchase, or why nothing was bought."),
]
PurchaseItemsResult = Annotated[
    PurchaseItems | OutOfStock | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("PurchaseItemsResult", description="The purchases, or why nothing was bought."),
]
CancelPurchaseResult = Annotated[
    Purchase | PurchaseCompleted | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("CancelPurchaseResult", description="The purchase, which is cancelled, or why it is not."),
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

        async def shortcut(attempt: Attempt | None) -> purchases.Purchase | None:
            return await single_statement.sell(info.context.database, key, buyer_id=buyer.user_id, quantity=quantity, attempt=attempt)

        return await perform(info, purchases.ENTITY, command, key=idempotency_key, arguments=[key, quantity], shortcut=shortcut)

    @mutation(
        scope=(),
        description="Buy units of several items at their present prices: all lines, or none. The stock is never oversold.",
        cost=Cost(size="lines", each=LINE_POINTS),
    )
    async def purchase_items(
        self,
        info: Info,
        lines: Annotated[list[PurchaseLineInput], strawberry.argument(description=f"1 to {basket.LINES}.")],
        idempotency_key: IdempotencyKey = None,
    ) -> PurchaseItemsResult:
        buyer, requested = info.context.require(), [basket.BasketLine(row_id("Item", line.item_id), line.quantity) for line in lines]
        basket.check(requested)

        async def command(work: UnitOfWork) -> Sequence[purchases.Purchase]:
            return await basket.purchase_all(work, requested, buyer_id=buyer.user_id)

        arguments = [[line.item_id, line.quantity] for line in requested]
        sold = await perform(info, basket.REPLAY_FORMAT, command, key=idempotency_key, arguments=arguments)
        return PurchaseItems(purchases=[Purchase.of(row) for row in sold], total=sum((row.total for row in sold), Decimal("0.00")))

    @mutation(
        scope=(),
        description="Take back a purchase of yours while it is QUEUED; with `users:write`, any purchase at any time. "
        "Its units are in stock again, once however often this is sent: a purchase that is cancelled already is the same answer.",
    )
    async def cancel_purchase(self, info: Info, id: strawberry.ID, idempotency_key: IdempotencyKey = None) -> CancelPurchaseResult:
        actor, key = info.context.require(), required_row_id("Purchase", id)
        any_purchase = info.context.holds(Scope.USERS_WRITE)

        async def command(work: UnitOfWork) -> purchases.Purchase:
            return await purchases.cancel(work, key, actor_id=actor.user_id, any_purchase=any_purchase)

        return await perform(info, purchases.ENTITY, command, key=idempotency_key, arguments=key)
