"""Purchases: their table, look-ups and commands. Each keeps the price of its moment.

Stock cannot be oversold: one conditional UPDATE takes the units, or takes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Index, select, update
from sqlalchemy.orm import Mapped, mapped_column

from persistence import audit
from persistence.audit import NewAuditEntry
from persistence.items.table import Item
from persistence.kit.column_types import Money, RowId, UtcDateTime, utc_now
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.errors import DomainError, NotFound
from persistence.kit.events.log import record, record_all
from persistence.kit.jobs import queue as jobs
from persistence.kit.jobs.queue import Job
from persistence.kit.notifications import Notification, Notifier
from persistence.kit.parsing.validation import Checks
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList, children
from persistence.kit.serialization import row_of

QUEUED = "QUEUED"  # Sold; its background work is still to do.
COMPLETED = "COMPLETED"
PLACED = "purchase.placed"


class Purchase(Base):
    __tablename__ = "purchases"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    item_id: Mapped[int] = mapped_column(RowId, ForeignKey("items.id"))
    buyer_id: Mapped[int] = mapped_column(RowId, ForeignKey("users.id"))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column("unit_price_cents", Money)
    status: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_purchases_buyer_id", "buyer_id", "id"),
        Index("ix_purchases_created_at", "created_at"),
        {"sqlite_autoincrement": True},
    )

    @property
    def total(self) -> Decimal:
        """Not kept: the largest price times the largest quantity has more cents than 64 bits hold."""
        return self.unit_price * self.quantity


ENTITY = Entity(Purchase)
ALL = EntityList(ENTITY)
by_id = ENTITY.by_id
REPLAY_FORMAT = row_of(Purchase)


class OutOfStock(DomainError):
    def __init__(self, available: int) -> None:
        super().__init__(f"Only {available} left: ask for fewer." if available else "Sold out.")
        self.available = available


BY_BUYER = children(ALL, "buyer_id")
"""Oldest first."""


def check(quantity: int) -> None:
    """Raises: InvalidInput."""
    checks = Checks()
    checks.whole("quantity", quantity, least=1)
    checks.finish()


async def purchase(work: UnitOfWork, item_id: int, *, buyer_id: int, quantity: int) -> Purchase:
    """Sell units and queue the purchase's background work. Raises: InvalidInput, NotFound, OutOfStock."""
    check(quantity)
    price = await _take(work, item_id, quantity)
    sold = Purchase(item_id=item_id, buyer_id=buyer_id, quantity=quantity, unit_price=price, status=QUEUED, created_at=utc_now())
    work.session.add(sold)
    await work.session.flush()
    await record(work, "item.purchased", item_id, {"purchase_id": sold.id, "quantity": quantity})
    await jobs.enqueue(work, PLACED, f"purchase:{sold.id}", {"purchase_id": sold.id})
    return sold


async def _take(work: UnitOfWork, item_id: int, quantity: int) -> Decimal:
    """Take units out of stock; returns the price of one."""
    live = (Item.id == item_id) & Item.deleted_at.is_(None)
    taken = {"inventory": Item.inventory - quantity, "updated_at": utc_now()}
    statement = update(Item).where(live, Item.inventory >= quantity).values(taken).returning(Item.price)
    price = await work.session.scalar(statement, execution_options={"synchronize_session": False})
    if price is None:
        available = await work.session.scalar(select(Item.inventory).where(live))
        # A restock between the two statements must not read as "only 5 left" to somebody who wanted 3.
        raise NotFound("item") if available is None else OutOfStock(min(available, quantity - 1))
    return price


async def complete(work: UnitOfWork, ids: Sequence[int]) -> None:
    statement = update(Purchase).where(Purchase.id.in_(ids)).values(status=COMPLETED).returning(Purchase)
    completed = sorted(await work.session.scalars(statement), key=lambda sold: sold.id)
    await audit.write_all(work, "purchase.completed", [_completion(sold) for sold in completed])
    await record_all(work, "purchase.completed", {sold.id: {} for sold in completed})


def _completion(sold: Purchase) -> NewAuditEntry:
    bought = {"item_id": sold.item_id, "quantity": sold.quantity, "unit_price": str(sold.unit_price)}
    return NewAuditEntry(sold.buyer_id, ("Purchase", sold.id), bought)


class Completion:
    """The background work of a purchase: somebody is told of it, the audit log has it, then it is complete."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    async def perform(self, job: Job) -> None:
        await self._notifier.notify(Notification(job.key, job.kind, job.data))

    async def finish(self, work: UnitOfWork, ended: Sequence[Job]) -> None:
        await complete(work, [job.data["purchase_id"] for job in ended])
