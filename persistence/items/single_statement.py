"""A change of an item as one SQL statement, where the database supports it: what `table.change` does, in two round trips instead of seven."""

from __future__ import annotations

from asyncpg import UniqueViolationError

from persistence.items import table as items
from persistence.items.table import Item
from persistence.kit import conditional_update
from persistence.kit.column_types import utc_now
from persistence.kit.conditional_update import Addition, Additions, Values
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput
from persistence.kit.events.log import Event
from persistence.kit.idempotency import Attempt, IdempotencyKey

UPDATED = "item.updated"


async def change(
    database: Database,
    item_id: int,
    changes: Values,
    *,
    expected_version: int | None,
    expected_inventory: int | None,
    attempt: Attempt | None,
    also: Additions,
) -> Item | None:
    """The item as it is then; None if it must go the long way: a repeat, a refusal, an external id, nothing to change, or somebody else changes it.

    `also` are rows to add.
    """
    writes = database.write_executor
    if writes is None or "external_id" in changes:
        return None
    item = await conditional_update.find(writes, items.ENTITY, item_id)
    if item is None or expected_version not in {None, item.version} or expected_inventory not in {None, item.inventory}:
        return None
    changed = _changed(item, changes)
    if not changed:
        return None
    values = {**changed, "version": item.version + 1, "updated_at": utc_now()}
    unless = {"version": item.version, "inventory": item.inventory}  # Sales change the stock, and leave the version alone.
    additions = [_event(item_id, changed, values), *also, *_stored_answer(item, values, attempt)]
    try:
        return await conditional_update.write(writes, items.ENTITY, item_id, values, unless=unless, tell=UPDATED, also=additions)
    except UniqueViolationError:  # Of the key: it was used before.
        return None


def _changed(item: Item, changes: Values) -> Values:
    """None of what is refused: the long way says so, unless the key was used before."""
    try:
        return items.changed_columns(item, changes)
    except InvalidInput:
        return {}


def _event(item_id: int, changed: Values, values: Values) -> Addition:
    data = {"fields": items.field_names(changed.keys())}
    return Event, {"kind": UPDATED, "subject_id": item_id, "data": data, "occurred_at": values["updated_at"]}


def _stored_answer(item: Item, values: Values, attempt: Attempt | None) -> Additions:
    if attempt is None:
        return []
    for name, value in values.items():
        setattr(item, name, value)
    answer = items.ENTITY.replay_format.dump(item)
    key = {"caller": attempt.caller, "key": attempt.key, "fingerprint": attempt.fingerprint}
    return [(IdempotencyKey, {**key, "answer": answer, "created_at": values["updated_at"]})]
