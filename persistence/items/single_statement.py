"""A change of an item as one SQL statement, where the database supports it: what `table.change` does, in two round trips instead of seven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncpg import UniqueViolationError

from persistence.items import table as items
from persistence.items.table import Item
from persistence.kit import conditional_update
from persistence.kit.column_types import utc_now
from persistence.kit.conditional_update import Additions
from persistence.kit.database.database import Database
from persistence.kit.errors import InvalidInput
from persistence.kit.events.log import Event
from persistence.kit.idempotency import Attempt, IdempotencyKey

UPDATED = "item.updated"


async def change(
    database: Database,
    item_id: int,
    changes: Mapping[str, Any],
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
    if writes is None or "external_id" in changes or (item := await conditional_update.find(writes, items.ENTITY, item_id)) is None:
        return None
    try:
        changed = items.changed_columns(item, changes)
    except InvalidInput:
        return None
    if not changed or expected_version not in {None, item.version} or expected_inventory not in {None, item.inventory}:
        return None
    now = utc_now()
    values = {**changed, "version": item.version + 1, "updated_at": now}
    told = {"kind": UPDATED, "subject_id": item_id, "data": {"fields": items.told_fields(changed)}, "occurred_at": now}
    additions = [(Event, told), *also]
    if attempt:
        answer = items.ENTITY.replay_format.dump(_with(item, values))
        stored = {"caller": attempt.caller, "key": attempt.key, "fingerprint": attempt.fingerprint, "answer": answer, "created_at": now}
        additions.append((IdempotencyKey, stored))
    unless = {"version": item.version, "inventory": item.inventory}  # Sales change the stock, and leave the version alone.
    try:
        return await conditional_update.write(writes, items.ENTITY, item_id, values, unless=unless, tell=UPDATED, also=additions)
    except UniqueViolationError:  # Of the key: it was used before.
        return None


def _with(item: Item, values: Mapping[str, Any]) -> Item:
    for name, value in values.items():
        setattr(item, name, value)
    return item
