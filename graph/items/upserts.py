"""The `upsertItems` mutation and imports of files: rows of another system's list, matched with items by their external ids."""

from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import strawberry

from graph.items.types import EXTERNAL_ID, Item
from graph.kit.auth import Scope
from graph.kit.context import Context, Info
from graph.kit.errors import IdempotencyKeyReused, InvalidInput
from graph.kit.fields import mutation
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations import commands
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
from graph.kit.operations.imports import importing
from persistence import audit
from persistence.items import external_ids, file_import, upserts
from persistence.items import table as items
from persistence.items.upserts import ItemPatch
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork
from persistence.kit.imports.outcomes import Upserted
from persistence.kit.imports.outcomes import UpsertOutcome as Outcome
from persistence.kit.serialization import Serializer

importing(file_import.IMPORT, "items", scope=Scope.ITEMS_WRITE)

Row = ItemPatch | errors.InvalidInput
Result = upserts.UpsertResult


@strawberry.input(description="A row about one item. What is left out stays as it is; a new item needs `name` and `price`.")
class UpsertItemInput:
    external_id: str = strawberry.field(description=f"By this the item is found. {EXTERNAL_ID}")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="1 to 200 characters.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="Up to 10,000 characters, or null for none.")
    price: Decimal | None = strawberry.field(default=strawberry.UNSET, description="0 to 9999999999.99, with at most two decimal places.")
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Replaces all tags.")
    inventory: int | None = strawberry.field(default=strawberry.UNSET, description="Units in stock, from 0.")


@strawberry.enum(description="What a row did.")
class UpsertOutcome(Enum):
    CREATED = strawberry.enum_value(Outcome.CREATED, description="There was no item with this external id: there is one now.")
    UPDATED = strawberry.enum_value(Outcome.UPDATED, description="Some values were others before.")
    UNCHANGED = strawberry.enum_value(Outcome.UNCHANGED, description="The item was so already: nothing was written.")


@strawberry.type(description="The row is in the catalogue.")
class UpsertedItem:
    outcome: UpsertOutcome = strawberry.field(description="What the row did.")
    fields: list[str] = strawberry.field(description="The names of the fields that changed; none of a new item.")
    key: strawberry.Private[int]

    @strawberry.field(description="The item as it is now.", metadata={"cost": Cost(weight=0)})  # Paid for with the row.
    async def item(self, info: Info) -> Item:
        return await object_of_result(info, items.ENTITY, self.key)


UpsertItemResult = Annotated[
    UpsertedItem | InvalidInput | NotCreated, strawberry.union("UpsertItemResult", description="What became of one row.")
]


@strawberry.type(description="What became of each row.")
class UpsertItems:
    created: int = strawberry.field(description="How many items were created.")
    updated: int = strawberry.field(description="How many items were changed.")
    unchanged: int = strawberry.field(description="How many rows changed nothing: they got no version, no event and no `updatedAt`.")
    results: list[UpsertItemResult] = strawberry.field(
        description="One for each input, in the inputs' order; at most 10,000.", metadata={"cost": Cost(weight=0, of_parent=True)}
    )


UpsertItemsResult = Annotated[
    UpsertItems | InvalidInput | IdempotencyKeyReused,
    strawberry.union("UpsertItemsResult", description="What became of each row, or why the call was refused."),
]


@strawberry.type
class UpsertMutation:
    @mutation(
        scope=Scope.ITEMS_WRITE,
        description="Bring up to 10,000 items in step with another system, in one transaction: each row creates the item with its external id, "
        "changes what is different, or does nothing. Items that no row names stay.",
        cost=Cost(weight=50, size="inputs", each=1),
    )
    async def upsert_items(
        self,
        info: Info,
        inputs: Annotated[list[UpsertItemInput], strawberry.argument(description="1 to 10,000 rows with different external ids.")],
        on_error: BulkErrorPolicy = BulkErrorPolicy.REJECT_ALL,
        dry_run: Annotated[bool, strawberry.argument(description="Say what each row would do, and do nothing.")] = False,
        idempotency_key: IdempotencyKey = None,
    ) -> UpsertItemsResult:
        check_rows("inputs", inputs)
        rows = _rows(inputs)
        patches = [row for row in rows if isinstance(row, ItemPatch)]
        reject_all = on_error is BulkErrorPolicy.REJECT_ALL
        if dry_run or (reject_all and len(patches) < len(rows)):
            return _answer(rows, await _plan(info.context, patches), because=None if dry_run else ANOTHER_WAS_BAD, done=False)
        owner = info.context.require()

        async def command(work: UnitOfWork) -> Sequence[Result]:
            results = await upserts.upsert(work, patches, owner_id=owner.user_id)
            refused = {place: result for place, result in enumerate(results) if isinstance(result, errors.InvalidInput)}
            if refused and reject_all:
                raise RejectedAll(refused)
            if changed := _counts(results, changing=True):
                await audit.write(work, "items.upserted", actor_id=owner.user_id, detail=changed)
            return results

        arguments = [[commands.changes(each) for each in inputs], on_error.value]
        try:
            results = await commands.perform(info, _STORED, command, key=idempotency_key, arguments=arguments)
        except RejectedAll as rejected:
            planned = await _plan(info.context, patches)
            return _answer(rows, [rejected.refused.get(place, each) for place, each in enumerate(planned)], ANOTHER_WAS_BAD, done=False)
        return _answer(rows, results, None, done=True)


def _rows(inputs: Sequence[UpsertItemInput]) -> list[Row]:
    """Each by itself, and not the same external id twice."""
    rows, earlier = list[Row](), set[str]()
    for each in inputs:
        try:
            if each.external_id in earlier:
                raise errors.InvalidInput.at(external_ids.PATH, external_ids.REPEATED)
            rows.append(ItemPatch.checked(commands.changes(each)))
        except errors.InvalidInput as error:
            rows.append(error)
        earlier.add(each.external_id)
    return rows


async def _plan(context: Context, patches: Sequence[ItemPatch]) -> list[Result]:
    async with context.database.reading_latest() as session:
        return await upserts.plan(session, patches)


def _counts(results: Sequence[Result], *, changing: bool = False) -> dict[str, int]:
    """How many rows have each outcome that there is."""
    outcomes = [result.outcome for result in results if isinstance(result, Upserted)]
    counts = {outcome.value: outcomes.count(outcome) for outcome in Outcome}
    return {name: count for name, count in counts.items() if count and not (changing and name == "unchanged")}


def _answer(rows: Sequence[Row], results: Sequence[Result], because: str | None, *, done: bool) -> UpsertItems:
    """`results` are those of the patches among the rows. Where nothing was `done`, each says what it would have done, or why not."""
    shown: list[UpsertItemResult] = [
        in_row(result, "inputs", place)
        if isinstance(result, errors.InvalidInput)
        else _shown(result)
        if done
        else _not_done(result, because)
        for place, result in enumerate(with_results(rows, results))
    ]
    counts = _counts(results) if done else {}
    return UpsertItems(**{outcome.value: counts.get(outcome.value, 0) for outcome in Outcome}, results=shown)


def _shown(result: Upserted) -> UpsertedItem:
    assert result.row_id is not None, "it is done"
    return UpsertedItem(outcome=UpsertOutcome(result.outcome), fields=list(result.fields), key=result.row_id)


def _not_done(result: Upserted, because: str | None) -> NotCreated:
    plans = {
        Outcome.CREATED: "Good: it would create an item, but this was a dry run.",
        Outcome.UPDATED: f"Good: it would change {', '.join(result.fields)}, but this was a dry run.",
        Outcome.UNCHANGED: "Good: it would change nothing.",
    }
    return NotCreated.because(because or plans[result.outcome])


def _dump(results: Sequence[Result]) -> Any:
    return [
        dump_error(result) if isinstance(result, errors.InvalidInput) else [result.outcome.value, result.row_id, list(result.fields)]
        for result in results
    ]


def _load(stored: Any) -> Sequence[Result]:
    return [Upserted(Outcome(row[0]), row[1], row[2]) if isinstance(row[0], str) else load_error(row) for row in stored]


_STORED: Serializer[Sequence[Result]] = Serializer(_dump, _load)
