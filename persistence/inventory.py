"""Adjustments of stock by difference: what came in and what is missing, while buyers go on. An item's version and other values stay.

All items of a call are locked in order of their ids before the first event gets its id, so that calls side by side do not wait for each other in a circle.
Why a stock was adjusted stands in the audit log only: events are public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import select

from persistence import audit
from persistence.audit import NewAuditEntry
from persistence.items import external_ids
from persistence.items import table as items
from persistence.items.table import Item, OutOfStock
from persistence.kit.column_types import utc_now
from persistence.kit.database import bulk_insert
from persistence.kit.database.database import UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.kit.events.log import record_all
from persistence.kit.parsing.validation import Checks
from persistence.kit.parsing.values import WHOLE_MAX
from persistence.kit.query.conditions import among

REASON_LENGTH = 200
ADJUSTED = "item.adjusted"


@dataclass(frozen=True)
class Adjustment:
    """So many units more, or fewer, of the item with this id or this external id."""

    delta: int
    item_id: int | None = None
    external_id: str | None = None
    reason: str | None = None

    def check(self) -> None:
        """Raises: InvalidInput."""
        checks = Checks()
        if (self.item_id is None) == (self.external_id is None):
            checks.report("itemId", "must be given, or externalId, and not both")
        checks.whole_number("delta", self.delta, least=-WHOLE_MAX)
        checks.text("reason", self.reason, least=1, most=REASON_LENGTH)
        checks.finish()


@dataclass(frozen=True)
class Adjusted:
    item_id: int
    delta: int


AdjustmentResult: TypeAlias = Adjusted | DomainError


async def adjust(work: UnitOfWork, adjustments: Sequence[Adjustment], *, actor_id: int) -> list[AdjustmentResult]:
    """Apply checked adjustments in their order; one that is refused changes nothing. Locks the rows."""
    rows = await _locked(work, adjustments)
    stocks = {row.id: row.inventory for row in rows.values()}
    results = [_applied(adjustment, rows.get(adjustment.external_id or adjustment.item_id or 0), stocks) for adjustment in adjustments]
    deltas = {row.id: stocks[row.id] - row.inventory for row in rows.values() if stocks[row.id] != row.inventory}
    now = utc_now()
    await bulk_insert.change(work.session, Item, [{"id": id_, "inventory": stocks[id_], "updated_at": now} for id_ in deltas])
    await record_all(work, ADJUSTED, {id_: {"delta": delta} for id_, delta in deltas.items()})
    await _audit(work, adjustments, results, actor_id)
    return results


async def _locked(work: UnitOfWork, adjustments: Sequence[Adjustment]) -> Mapping[int | str, Any]:
    """The items by id and by external id."""
    names = {name for each in adjustments if each.external_id is not None and (name := external_ids.key(each.external_id)) is not None}
    ids = {each.item_id for each in adjustments if each.item_id is not None}
    ids |= set((await items.with_external_ids(work.session, names)).values()) if names else set()
    statement = select(Item.id, Item.external_id, Item.inventory).where(among(Item.id, ids), Item.deleted_at.is_(None))
    rows = (await work.session.execute(statement.order_by(Item.id).with_for_update(key_share=True))).all()
    return {row.id: row for row in rows} | {row.external_id: row for row in rows if row.external_id is not None}


def _applied(adjustment: Adjustment, row: Any, stocks: dict[int, int]) -> AdjustmentResult:
    """Counts the units in `stocks`."""
    if row is None:
        return NotFound("item")
    left = stocks[row.id] + adjustment.delta
    if left < 0:
        return OutOfStock(row.id, stocks[row.id])
    if left > WHOLE_MAX:
        return InvalidInput.at("delta", f"must leave at most {WHOLE_MAX} units in stock, where {stocks[row.id]} are now")
    stocks[row.id] = left
    return Adjusted(row.id, adjustment.delta)


async def _audit(work: UnitOfWork, adjustments: Sequence[Adjustment], results: Sequence[AdjustmentResult], actor_id: int) -> None:
    entries = [
        NewAuditEntry(actor_id, ("Item", result.item_id), {"delta": adjustment.delta, "reason": adjustment.reason})
        for adjustment, result in zip(adjustments, results, strict=True)
        if isinstance(result, Adjusted) and adjustment.delta
    ]
    await audit.write_all(work, ADJUSTED, entries)
