"""Purchases: their table, look-ups and commands. Each keeps the price and the seller of its moment. Lists are in `listing`, several at once in `basket`.

Stock cannot be oversold: one conditional UPDATE takes the units, or takes nothing. It comes back once: whoever cancels holds the purchase's row, and finds
it cancelled already or not. Locks are taken in one order, job, purchase, item, so that a cancellation and the background work never wait in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Index, Row, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from persistence import audit
from persistence.audit import NewAuditEntry
from persistence.items.table import Item, OutOfStock
from persistence.kit.column_types import Money, RowId, UtcDateTime, utc_now
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.kit.events.log import record, record_all
from persistence.kit.jobs import queue as jobs
from persistence.kit.jobs.queue import Job
from persistence.kit.notifications import Notification, Notifier
from persistence.kit.parsing.validation import Checks
from persistence.kit.parsing.values import WHOLE_MAX
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList, SortOrder, children

QUEUED = "QUEUED"  # Sold; its background work is still to do.
COMPLETED = "COMPLETED"
CANCELLED = "CANCELLED"  # Its units are in stock again.
PLACED, CANCELLATION = "purchase.placed", "purchase.cancelled"  # Background work.

_OPEN = text(f"status <> '{COMPLETED}'")  # Few: the others are found without an index of their own.


class Purchase(Base):
    __tablename__ = "purchases"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    item_id: Mapped[int] = mapped_column(RowId, ForeignKey("items.id"))
    buyer_id: Mapped[int] = mapped_column(RowId, ForeignKey("users.id"))
    seller_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("users.id"))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column("unit_price_cents", Money)
    status: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_purchases_buyer_id", "buyer_id", "created_at", "id"),
        Index("ix_purchases_seller_id", "seller_id", "created_at", "id"),
        Index("ix_purchases_item_id", "item_id", "created_at", "id"),
        Index("ix_purchases_created_at", "created_at", "id"),
        Index("ix_purchases_status", "status", "created_at", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
        {"sqlite_autoincrement": True},
    )

    @property
    def total(self) -> Decimal:
        """Not kept: the largest price times the largest quantity has more cents than 64 bits hold."""
        return self.unit_price * self.quantity


ENTITY = Entity(Purchase, unshown=("seller_id",))
BY_TIME = SortOrder("created_at")
by_id = ENTITY.by_id


class PurchaseCompleted(DomainError):
    def __init__(self) -> None:
        super().__init__("The purchase is completed: only a user with users:write can cancel it now.")


BY_BUYER = children(EntityList(ENTITY, BY_TIME), "buyer_id")
"""Oldest first."""


def check(quantity: int) -> None:
    """Raises: InvalidInput."""
    checks = Checks()
    checks.whole_number("quantity", quantity, least=1)
    checks.finish()


async def purchase(work: UnitOfWork, item_id: int, *, buyer_id: int, quantity: int) -> Purchase:
    """Sell units and queue the purchase's background work. Raises: InvalidInput, NotFound, OutOfStock."""
    check(quantity)
    price, seller_id = await _take(work, item_id, quantity)
    sold = Purchase(
        item_id=item_id, buyer_id=buyer_id, seller_id=seller_id, quantity=quantity, unit_price=price, status=QUEUED, created_at=utc_now()
    )
    work.session.add(sold)
    await work.session.flush()
    await record(work, "item.purchased", item_id, {"purchase_id": sold.id, "quantity": quantity})
    await jobs.enqueue(work, PLACED, f"purchase:{sold.id}", {"purchase_id": sold.id})
    return sold


async def _take(work: UnitOfWork, item_id: int, quantity: int) -> Row[Decimal, int | None]:
    """Take units out of stock; returns the price of one, and whose they were."""
    live = (Item.id == item_id) & Item.deleted_at.is_(None)
    taken = {"inventory": Item.inventory - quantity, "updated_at": utc_now()}
    statement = update(Item).where(live, Item.inventory >= quantity).values(taken).returning(Item.price, Item.owner_id)
    found = (await work.session.execute(statement, execution_options={"synchronize_session": False})).one_or_none()
    if found is None:
        available = await work.session.scalar(select(Item.inventory).where(live))
        # A restock between the two statements must not read as "only 5 left" to somebody who wanted 3.
        raise NotFound("item") if available is None else OutOfStock(item_id, min(available, quantity - 1))
    return found


async def complete(work: UnitOfWork, ids: Sequence[int]) -> None:
    """Those that were cancelled stay so. Whoever was told of these is told that now, and never the other way round."""
    statement = update(Purchase).where(Purchase.id.in_(ids), Purchase.status == QUEUED).values(status=COMPLETED).returning(Purchase)
    completed = sorted(await work.session.scalars(statement), key=lambda sold: sold.id)
    await audit.write_all(work, "purchase.completed", [_audited(sold, sold.buyer_id) for sold in completed])
    await record_all(work, "purchase.completed", {sold.id: {} for sold in completed})
    if rest := set(ids).difference(sold.id for sold in completed):
        cancelled = select(Purchase.id).where(Purchase.id.in_(rest), Purchase.status == CANCELLED).order_by(Purchase.id)
        await _announce_cancellation(work, (await work.session.scalars(cancelled)).all())


async def cancel(work: UnitOfWork, purchase_id: int, *, actor_id: int, any_purchase: bool) -> Purchase:
    """Take a purchase back, and its units into stock; one that is cancelled stays as it is. Without `any_purchase`, only an own one that is QUEUED.

    Raises: InvalidInput, NotFound, PurchaseCompleted.
    """
    sold = await work.session.get(Purchase, purchase_id, with_for_update=True)
    if sold is None or not (any_purchase or sold.buyer_id == actor_id):
        raise NotFound("purchase")
    if sold.status == CANCELLED:
        return sold
    if sold.status == COMPLETED:
        if not any_purchase:
            raise PurchaseCompleted
        await _announce_cancellation(work, [sold.id])
    sold.status = CANCELLED
    await _restock(work, sold)
    await audit.write_all(work, "purchase.cancelled", [_audited(sold, actor_id)])
    await record(work, "purchase.cancelled", sold.id)
    return sold


async def _restock(work: UnitOfWork, sold: Purchase) -> None:
    """Also of an item that has left the catalogue: it may come back."""
    fits = (Item.id == sold.item_id) & (Item.inventory <= WHOLE_MAX - sold.quantity)
    back = {"inventory": Item.inventory + sold.quantity, "updated_at": utc_now()}
    statement = update(Item).where(fits).values(back).returning(Item.id)
    if await work.session.scalar(statement, execution_options={"synchronize_session": False}) is None:
        raise InvalidInput.at("id", f"the item would have more than {WHOLE_MAX} units in stock: lower its inventory first")
    await record(work, "item.restocked", sold.item_id, {"purchase_id": sold.id, "quantity": sold.quantity})


async def _announce_cancellation(work: UnitOfWork, ids: Sequence[int]) -> None:
    """To whoever was told of these purchases."""
    await jobs.enqueue_all(work, CANCELLATION, {f"purchase:{id_}:cancelled": {"purchase_id": id_} for id_ in ids})


def _audited(sold: Purchase, actor_id: int) -> NewAuditEntry:
    bought = {"item_id": sold.item_id, "quantity": sold.quantity, "unit_price": str(sold.unit_price)}
    return NewAuditEntry(actor_id, ("Purchase", sold.id), bought)


class PurchaseNotification:
    """The job that sends a notification about a purchase."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    async def perform(self, job: Job) -> None:
        await self._notifier.notify(Notification(job.key, job.kind, job.data))

    async def finish(self, work: UnitOfWork, ended: Sequence[Job]) -> None:
        """There is nothing left to change."""


class PurchaseCompletion(PurchaseNotification):
    """The job that completes a purchase: it sends the notification, then sets the status."""

    async def finish(self, work: UnitOfWork, ended: Sequence[Job]) -> None:
        await complete(work, [job.data["purchase_id"] for job in ended])
