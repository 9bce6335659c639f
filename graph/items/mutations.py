"""Mutations of items: inputs, result unions and resolvers."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Self

import strawberry

from graph.items.types import EXTERNAL_ID, Item
from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.errors import Error, IdempotencyKeyReused, InvalidInput, NotFound, VersionConflict, member_for
from graph.kit.fields import mutation
from graph.kit.global_ids import required_row_id
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations.bulk import ANOTHER_WAS_BAD, BulkErrorPolicy, NotCreated, RejectedAll, check_rows, in_row
from graph.kit.operations.commands import ExpectedVersion, changes, perform
from persistence import audit
from persistence.items import single_statement
from persistence.items import table as items
from persistence.kit import errors
from persistence.kit.column_types import utc_now
from persistence.kit.database.database import UnitOfWork
from persistence.kit.idempotency import Attempt
from persistence.kit.serialization import NO_RESULT

ExpectedInventory = Annotated[
    int | None, strawberry.argument(description="The `inventory` that you read: if something was sold or added since, nothing happens.")
]


@strawberry.input(description="A new item.")
class CreateItemInput:
    name: str = strawberry.field(description="1 to 200 characters.")
    description: str | None = strawberry.field(default=None, description="Up to 10,000 characters.")
    price: Decimal = strawberry.field(description="0 to 9999999999.99, with at most two decimal places.")
    tags: list[str] = strawberry.field(
        default_factory=list,
        description="At most 20 different ones of 1 to 50 characters without semicolons; blanks around them do not count.",
    )
    inventory: int = strawberry.field(default=0, description="Units in stock, from 0.")
    external_id: str | None = strawberry.field(default=None, description=EXTERNAL_ID)

    def draft(self) -> items.ItemValues:
        return items.ItemValues(**vars(self))


@strawberry.input(description="New values. What is left out stays as it is; `description: null` removes the description.")
class UpdateItemInput:
    name: str | None = strawberry.field(default=strawberry.UNSET, description="1 to 200 characters.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="Up to 10,000 characters, or null for none.")
    price: Decimal | None = strawberry.field(default=strawberry.UNSET, description="0 to 9999999999.99, with at most two decimal places.")
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Replaces all tags.")
    inventory: int | None = strawberry.field(default=strawberry.UNSET, description="Units in stock, from 0.")
    external_id: str | None = strawberry.field(default=strawberry.UNSET, description=f"{EXTERNAL_ID} Null for none.")


BulkItemResult = Annotated[Item | InvalidInput | NotCreated, strawberry.union("BulkItemResult", description="What became of one row.")]


@strawberry.type(description="What became of each row.")
class BulkCreateItems:
    created: int = strawberry.field(description="How many items were created.")
    results: list[BulkItemResult] = strawberry.field(
        description="One for each input, in the inputs' order; at most 10,000.", metadata={"cost": Cost(weight=0, of_parent=True)}
    )


@member_for(items.InventoryConflict)
@strawberry.type(description="The stock changed since you read it.")
class InventoryConflict(Error):
    current_inventory: int = strawberry.field(description="The units in stock now.")

    @classmethod
    def of(cls, error: items.InventoryConflict) -> Self:
        return cls(message=error.message, current_inventory=error.current_inventory)


@strawberry.type(description="The item is gone from the catalogue. Purchases of it stay, and `restoreItem` brings it back.")
class DeletedItem:
    id: strawberry.ID = strawberry.field(description="The id that it had.")


CreateItemResult = Annotated[
    Item | InvalidInput | IdempotencyKeyReused, strawberry.union("CreateItemResult", description="The new item, or why there is none.")
]
UpdateItemResult = Annotated[
    Item | InvalidInput | NotFound | VersionConflict | InventoryConflict | IdempotencyKeyReused,
    strawberry.union("UpdateItemResult", description="The item as it is now, or why it was not changed."),
]
DeleteItemResult = Annotated[
    DeletedItem | NotFound | VersionConflict | InvalidInput | IdempotencyKeyReused,
    strawberry.union("DeleteItemResult", description="What was deleted, or why nothing was."),
]
RestoreItemResult = Annotated[
    Item | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("RestoreItemResult", description="The item that is back, or why none is."),
]
BulkCreateItemsResult = Annotated[
    BulkCreateItems | InvalidInput | IdempotencyKeyReused,
    strawberry.union("BulkCreateItemsResult", description="What became of each row, or why the call was refused."),
]


@strawberry.type
class ItemMutation:
    @mutation(scope=Scope.ITEMS_WRITE, description="Add an item to the catalogue. You own it.")
    async def create_item(self, info: Info, input: CreateItemInput, idempotency_key: IdempotencyKey = None) -> CreateItemResult:
        owner = info.context.require()

        async def command(work: UnitOfWork) -> items.Item:
            item = await items.create(work, input.draft(), owner_id=owner.user_id)
            await audit.write(work, "item.created", actor_id=owner.user_id, subject=("Item", item.id))
            return item

        return await perform(info, items.ENTITY, command, key=idempotency_key, arguments=vars(input))

    @mutation(scope=Scope.ITEMS_WRITE, description="Change some values of an item.")
    async def update_item(
        self,
        info: Info,
        id: strawberry.ID,
        input: UpdateItemInput,
        expected_version: ExpectedVersion = None,
        expected_inventory: ExpectedInventory = None,
        idempotency_key: IdempotencyKey = None,
    ) -> UpdateItemResult:
        actor, item_id, values = info.context.require(), required_row_id("Item", id), changes(input)

        expected = {"expected_version": expected_version, "expected_inventory": expected_inventory}
        entry = audit.NewAuditEntry(actor.user_id, ("Item", item_id), {"fields": sorted(values)})

        async def command(work: UnitOfWork) -> items.Item:
            item = await items.change(work, item_id, values, **expected)
            await audit.write_all(work, "item.updated", [entry])
            return item

        async def shortcut(attempt: Attempt | None) -> items.Item | None:
            also = [(audit.AuditEntry, audit.row("item.updated", entry, utc_now()))]
            return await single_statement.change(info.context.database, item_id, values, **expected, attempt=attempt, also=also)

        arguments = [item_id, values, *expected.values()]
        return await perform(info, items.ENTITY, command, key=idempotency_key, arguments=arguments, shortcut=shortcut)

    @mutation(scope=Scope.ITEMS_WRITE, description="Take an item out of the catalogue.")
    async def delete_item(
        self, info: Info, id: strawberry.ID, expected_version: ExpectedVersion = None, idempotency_key: IdempotencyKey = None
    ) -> DeleteItemResult:
        actor, item_id = info.context.require(), required_row_id("Item", id)

        async def command(work: UnitOfWork) -> None:
            await items.delete(work, item_id, expected_version=expected_version)
            await audit.write(work, "item.deleted", actor_id=actor.user_id, subject=("Item", item_id))

        await perform(info, NO_RESULT, command, key=idempotency_key, arguments=[item_id, expected_version])
        return DeletedItem(id=id)

    @mutation(
        scope=Scope.ITEMS_WRITE,
        description="Bring an item back that was deleted: under the same id and as it was, with the version after its last. "
        "Not found, if it was never there or has not been deleted.",
    )
    async def restore_item(self, info: Info, id: strawberry.ID, idempotency_key: IdempotencyKey = None) -> RestoreItemResult:
        actor, item_id = info.context.require(), required_row_id("Item", id)

        async def command(work: UnitOfWork) -> items.Item:
            item = await items.restore(work, item_id)
            await audit.write(work, "item.restored", actor_id=actor.user_id, subject=("Item", item_id))
            return item

        return await perform(info, items.ENTITY, command, key=idempotency_key, arguments=item_id)

    @mutation(
        scope=Scope.ITEMS_WRITE, description="Add up to 10,000 items in one transaction.", cost=Cost(weight=50, size="inputs", each=1)
    )
    async def bulk_create_items(
        self,
        info: Info,
        inputs: Annotated[list[CreateItemInput], strawberry.argument(description="1 to 10,000 rows.")],
        on_error: BulkErrorPolicy = BulkErrorPolicy.REJECT_ALL,
        dry_run: Annotated[bool, strawberry.argument(description="Check the rows and create nothing.")] = False,
        idempotency_key: IdempotencyKey = None,
    ) -> BulkCreateItemsResult:
        check_rows("inputs", inputs)
        drafts = [_checked(draft.draft(), place) for place, draft in enumerate(inputs)]
        good = [draft for draft in drafts if isinstance(draft, items.ItemValues)]
        if dry_run:
            return _uncreated(drafts, "Good, but this was a dry run.")
        if len(good) < len(drafts) and on_error is BulkErrorPolicy.REJECT_ALL:
            return _uncreated(drafts, ANOTHER_WAS_BAD)
        owner = info.context.require()

        async def command(work: UnitOfWork) -> items.BulkCreation:
            refused = items.refusals(good, await items.claim_external_ids(work, items.external_ids_of(good)))
            if refused and on_error is BulkErrorPolicy.REJECT_ALL:
                raise RejectedAll(refused)
            new = [draft for place, draft in enumerate(good) if place not in refused]
            created = await items.create_all(work, new, owner_id=owner.user_id)
            await audit.write(work, "items.created", actor_id=owner.user_id, detail={"count": len(created)})
            return items.BulkCreation(created, refused)

        stored = items.bulk_answer(good, owner_id=owner.user_id)
        arguments = [[vars(draft) for draft in inputs], on_error.value]
        try:
            made = await perform(info, stored, command, key=idempotency_key, arguments=arguments)
        except RejectedAll as rejected:
            return _uncreated(_with_refusals(drafts, rejected.refused), ANOTHER_WAS_BAD)
        created = iter(made.created)
        rows = _with_refusals(drafts, made.refused)
        results: list[BulkItemResult] = [Item.of(next(created)) if isinstance(row, items.ItemValues) else row for row in rows]
        return BulkCreateItems(created=len(made.created), results=results)


def _with_refusals(
    drafts: Sequence[items.ItemValues | InvalidInput], refused: Mapping[int, errors.InvalidInput]
) -> Sequence[items.ItemValues | InvalidInput]:
    """`refused` counts the drafts that are in order by themselves."""
    places = [place for place, draft in enumerate(drafts) if isinstance(draft, items.ItemValues)]
    by_place = {places[number]: in_row(error, "inputs", places[number]) for number, error in refused.items()}
    return [by_place.get(place, draft) for place, draft in enumerate(drafts)]


def _checked(draft: items.ItemValues, place: int) -> items.ItemValues | InvalidInput:
    try:
        draft.check()
    except errors.InvalidInput as error:
        return in_row(error, "inputs", place)
    return draft


def _uncreated(drafts: Sequence[items.ItemValues | InvalidInput], message: str) -> BulkCreateItems:
    results: list[BulkItemResult] = [NotCreated.because(message) if isinstance(draft, items.ItemValues) else draft for draft in drafts]
    return BulkCreateItems(created=0, results=results)
