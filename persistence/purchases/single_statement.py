"""A purchase as one SQL statement, where the database supports it: what `table.purchase` does, in one round trip instead of six.

The event row is inserted from the updated item row, so its id is allocated after the lock, as the order of the event log requires. Under an idempotency
key the statement stores the response too, in the form of `purchases.ENTITY.replay_format`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from asyncpg import UniqueViolationError

from persistence.items.table import Item
from persistence.kit.column_types import utc_now
from persistence.kit.database.database import Change, Database
from persistence.kit.database.executors.statement_executor import PreparedStatement, Row
from persistence.kit.database.executors.write_executor import SingleStatementWrite
from persistence.kit.events.log import Event
from persistence.kit.idempotency import Attempt, IdempotencyKey
from persistence.kit.jobs.queue import QUEUED, Job
from persistence.purchases import table as purchases
from persistence.purchases.table import Purchase

SALE = """
WITH updated_item AS (
    UPDATE items SET inventory = inventory - $3::integer, updated_at = $4::timestamptz
    WHERE id = $1::bigint AND deleted_at IS NULL AND inventory >= $3 RETURNING id, owner_id, price_cents
), purchase AS (
    INSERT INTO purchases (item_id, buyer_id, seller_id, quantity, unit_price_cents, status, created_at)
    SELECT id, $2::bigint, owner_id, $3, price_cents, 'QUEUED', $4 FROM updated_item RETURNING *
), event AS (
    INSERT INTO events (kind, subject_id, data, occurred_at)
    SELECT 'item.purchased', item_id, jsonb_build_object('purchase_id', id, 'quantity', quantity), $4 FROM purchase
), job AS (
    INSERT INTO jobs (kind, key, data, attempts, created_at)
    SELECT 'purchase.placed', 'purchase:' || id, jsonb_build_object('purchase_id', id), 0, $4 FROM purchase RETURNING id
), stored_response AS (
    INSERT INTO idempotency_keys (caller, key, fingerprint, answer, created_at)
    SELECT $5::text, $6::text, $7::text, jsonb_build_object(
        'id', id, 'item_id', item_id, 'buyer_id', buyer_id, 'quantity', quantity, 'status', status, 'created_at', $8::text,
        'unit_price', round(unit_price_cents / 100.0, 2)::text
    ), $4 FROM purchase WHERE $6 IS NOT NULL
)
SELECT purchase.id, purchase.item_id, purchase.unit_price_cents, job.id AS job_id FROM purchase, job
"""
ARGUMENTS = ("item", "buyer", "quantity", "now", "caller", "key", "fingerprint", "instant")
TABLES = frozenset(table.__tablename__ for table in (Item, Purchase, Event, Job, IdempotencyKey))


async def sell(database: Database, item_id: int, *, buyer_id: int, quantity: int, attempt: Attempt | None) -> Purchase | None:
    """None if it must go the long way: a repeat, a refusal, or on a database without such statements. Raises: InvalidInput."""
    if database.write_executor is None:
        return None
    purchases.check(quantity)
    now = utc_now()
    requested = {"item": item_id, "buyer": buyer_id, "quantity": quantity, "now": now, "instant": now.isoformat()}
    key = {"caller": attempt.caller, "key": attempt.key, "fingerprint": attempt.fingerprint} if attempt else NO_KEY
    try:
        row = await database.write_executor.execute(PURCHASE_STATEMENT, requested | key)
    except UniqueViolationError:  # Of the key: it was used before.
        return None
    if row is None:
        return None
    price = Decimal(row["unit_price_cents"]).scaleb(-2)
    return Purchase(
        id=row["id"], item_id=item_id, buyer_id=buyer_id, quantity=quantity, unit_price=price, status=purchases.QUEUED, created_at=now
    )


def _changes(row: Row) -> Sequence[Change]:
    return [Change("item.purchased", row["item_id"]), Change(QUEUED, row["job_id"])]


NO_KEY = dict.fromkeys(("caller", "key", "fingerprint"))
PURCHASE_STATEMENT = SingleStatementWrite(PreparedStatement(SALE, ARGUMENTS, {}), TABLES, _changes)
