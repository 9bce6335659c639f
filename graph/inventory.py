"""The `adjustInventory` mutation: corrections of stock by difference, while buyers go on."""

from collections.abc import Sequence
from typing import Annotated, Any

import strawberry

from graph.items.out_of_stock import OutOfStock
from graph.items.types import Item
from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.errors import IdempotencyKeyReused, InvalidInput, NotFound, as_data
from graph.kit.fields import mutation
from graph.kit.global_ids import row_id
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations.bulk import (
    ANOTHER_WAS_BAD,
    BulkErrorPolicy,
    NotCreated,
    RejectedAll,
    check_rows,
    dump_error,
    in_row,
    load_error,
    object_of_result,
    with_results,
)
from graph.kit.operations.commands import perform
from persistence import inventory
from persistence.inventory import Adjusted, Adjustment
from persistence.items import table as items
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork
from persistence.kit.serialization import Serializer

Row = Adjustment | errors.DomainError
NO_ID = -1  # Of no row: what is no item's global id.


@strawberry.input(description="So many units more, or fewer, of one item: named by `itemId` or by `externalId`.")
class InventoryAdjustmentInput:
    item_id: strawberry.ID | None = strawberry.field(default=None, description="The item's id.")
    external_id: str | None = strawberry.field(default=None, description="Or what it is called in another system.")
    delta: int = strawberry.field(description="What to add; negative to take away. Never leaves less than 0.")
    reason: str | None = strawberry.field(default=None, description="Up to 200 characters for the audit log, such as `broken`.")

    def adjustment(self) -> Adjustment:
        item_id = None if self.item_id is None else row_id("Item", self.item_id) or NO_ID
        return Adjustment(self.delta, item_id, self.external_id, self.reason)


@strawberry.type(description="The stock was adjusted.")
class InventoryAdjusted:
    delta: int = strawberry.field(description="What was added, or taken away.")
    key: strawberry.Private[int]

    @strawberry.field(description="The item as it is now.", metadata={"cost": Cost(weight=0)})  # Paid for with the row.
    async def item(self, info: Info) -> Item:
        return await object_of_result(info, items.ENTITY, self.key)


InventoryAdjustmentResult = Annotated[
    InventoryAdjusted | OutOfStock | NotFound | InvalidInput | NotCreated,
    strawberry.union("InventoryAdjustmentResult", description="What became of one adjustment."),
]


@strawberry.type(description="What became of each adjustment.")
class AdjustInventory:
    results: list[InventoryAdjustmentResult] = strawberry.field(
        description="One for each adjustment, in their order; at most 10,000.", metadata={"cost": Cost(weight=0, of_parent=True)}
    )


AdjustInventoryResult = Annotated[
    AdjustInventory | InvalidInput | IdempotencyKeyReused,
    strawberry.union("AdjustInventoryResult", description="What became of each adjustment, or why the call was refused."),
]


@strawberry.type
class InventoryMutation:
    @mutation(
        scope=Scope.ITEMS_WRITE,
        description="Correct the stock of up to 10,000 items by differences, in one transaction, while buyers go on. "
        "Several for the same item count in their order. An item's `version` stays.",
        cost=Cost(weight=50, size="adjustments", each=1),
    )
    async def adjust_inventory(
        self,
        info: Info,
        adjustments: Annotated[list[InventoryAdjustmentInput], strawberry.argument(description="1 to 10,000 of them.")],
        on_error: BulkErrorPolicy = BulkErrorPolicy.REJECT_ALL,
        idempotency_key: IdempotencyKey = None,
    ) -> AdjustInventoryResult:
        check_rows("adjustments", adjustments)
        rows = [_checked(each.adjustment()) for each in adjustments]
        good = [row for row in rows if isinstance(row, Adjustment)]
        reject_all = on_error is BulkErrorPolicy.REJECT_ALL
        actor = info.context.require()

        async def command(work: UnitOfWork) -> Sequence[inventory.AdjustmentResult]:
            results = await inventory.adjust(work, good, actor_id=actor.user_id)
            refused = {place: result for place, result in enumerate(results) if not isinstance(result, Adjusted)}
            if reject_all and (refused or len(good) < len(rows)):
                raise RejectedAll(refused)
            return results

        arguments = [[vars(each) for each in adjustments], on_error.value]
        try:
            results = await perform(info, _STORED, command, key=idempotency_key, arguments=arguments)
        except RejectedAll as rejected:
            return _answer(rows, [rejected.refused.get(place) for place in range(len(good))])
        return _answer(rows, results)


def _checked(adjustment: Adjustment) -> Row:
    try:
        adjustment.check()
    except errors.InvalidInput as error:
        return error
    return adjustment


def _answer(rows: Sequence[Row], results: Sequence[inventory.AdjustmentResult | None]) -> AdjustInventory:
    """`results` are those of the rows that are good by themselves; None for one that was not made because of another."""
    return AdjustInventory(results=[_shown(result, place) for place, result in enumerate(with_results(rows, results))])


def _shown(result: inventory.AdjustmentResult | None, place: int) -> Any:
    match result:
        case None:
            return NotCreated.because(ANOTHER_WAS_BAD)
        case Adjusted(item_id, delta):
            return InventoryAdjusted(delta=delta, key=item_id)
        case errors.InvalidInput():
            return in_row(result, "adjustments", place)
        case _:
            return as_data(result)


def _dump(results: Sequence[inventory.AdjustmentResult]) -> Any:
    return [_dumped(result) for result in results]


def _dumped(result: inventory.AdjustmentResult) -> Any:
    match result:
        case Adjusted(item_id, delta):
            return [item_id, delta]
        case items.OutOfStock(item_id=item_id, available=available):
            return {"item_id": item_id, "available": available}
        case errors.InvalidInput():
            return {"problems": dump_error(result)}
        case _:
            return None


def _load(stored: Any) -> Sequence[inventory.AdjustmentResult]:
    return [_loaded(row) for row in stored]


def _loaded(row: Any) -> inventory.AdjustmentResult:
    match row:
        case [item_id, delta]:
            return Adjusted(item_id, delta)
        case {"item_id": item_id, "available": available}:
            return items.OutOfStock(item_id, available)
        case {"problems": problems}:
            return load_error(problems)
        case _:
            return errors.NotFound("item")


_STORED: Serializer[Sequence[inventory.AdjustmentResult]] = Serializer(_dump, _load)
