"""Sales totals by day, week or month, computed in the database. Times are UTC; weeks begin on Monday, as in ISO 8601. What was cancelled was not sold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, cast, func, literal, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.items.table import Item
from persistence.kit.column_types import UtcDateTime
from persistence.kit.errors import InvalidInput
from persistence.purchases.table import CANCELLED, Purchase

PERIODS = 1_000  # Of one report: a list that a page can show.
HALF = 2**20  # See _revenue.
SOLD = Purchase.status != CANCELLED


class Period(Enum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


# Back six days and on to the next Monday, which may be the same day, is the Monday on or before.
SQLITE_STEPS = {Period.DAY: (), Period.WEEK: ("-6 days", "weekday 1"), Period.MONTH: ("start of month",)}


# From the first day of a period, this is a day of the next.
LENGTHS = {Period.DAY: timedelta(days=1), Period.WEEK: timedelta(days=7), Period.MONTH: timedelta(days=31)}


@dataclass(frozen=True)
class SalesTotal:
    """Sales of one period; a period without any has zeros."""

    starts_at: datetime
    revenue: Decimal
    units: int
    purchases: int


async def report(session: AsyncSession, start: datetime, end: datetime, by: Period, *, owner_id: int | None = None) -> list[SalesTotal]:
    """Purchases from `start` up to, without, `end`; only of one owner's items, if there is an owner. Raises: InvalidInput."""
    periods = list(_periods(start, end, by))
    dialect = session.get_bind().dialect.name
    columns = (_first_day(dialect, by).label("period"), *_revenue(dialect), func.sum(Purchase.quantity), func.count())
    statement = select(*columns).where(SOLD, Purchase.created_at >= start, Purchase.created_at < end).group_by("period")
    if owner_id is not None:
        statement = statement.join(Item, Item.id == Purchase.item_id).where(Item.owner_id == owner_id)
    found = {row[0]: row for row in await session.execute(statement)}
    return [_total(period, found.get(f"{period:%Y-%m-%d}")) for period in periods]


async def newest(session: AsyncSession, *, owner_id: int | None = None) -> datetime | None:
    """When something was sold last; only of one owner's items, if there is an owner."""
    statement = select(func.max(Purchase.created_at, type_=UtcDateTime())).where(SOLD)
    if owner_id is not None:
        statement = statement.join(Item, Item.id == Purchase.item_id).where(Item.owner_id == owner_id)
    return await session.scalar(statement)


def _periods(start: datetime, end: datetime, by: Period) -> Iterator[datetime]:
    """When each period begins; the first may begin before `start`. Raises: InvalidInput."""
    if start >= end:
        raise InvalidInput.at("to", "must be later than from")
    day = _first(start.astimezone(UTC), by)
    for _ in range(PERIODS):
        if day >= end:
            return
        yield day
        try:
            day = _first(day + LENGTHS[by], by)
        except OverflowError:  # There is no year 10000.
            return
    if day < end:
        raise InvalidInput.at("from", f"must be at most {PERIODS} {by.value}s before to")


def _first(moment: datetime, by: Period) -> datetime:
    day = moment.date()
    if by is Period.WEEK:
        day -= timedelta(days=day.weekday())
    return datetime.combine(day.replace(day=1) if by is Period.MONTH else day, time(), UTC)


def _first_day(dialect: str, by: Period) -> ColumnElement[str]:
    """Of the period that a purchase is in, as `2026-11-24`."""
    if dialect == "postgresql":
        return func.to_char(func.date_trunc(by.value, func.timezone("UTC", Purchase.created_at)), "YYYY-MM-DD")
    return func.date(Purchase.created_at, *SQLITE_STEPS[by])


def _revenue(dialect: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The sum of the cents, in two numbers: so many times HALF, and the rest. SQLite counts in 64 bits, and one purchase can have more cents."""
    cents: ColumnElement[Any] = type_coerce(Purchase.unit_price, BigInteger)
    if dialect == "postgresql":
        return literal(0), func.sum(cast(cents, Numeric) * Purchase.quantity)
    return func.sum(cents // HALF * Purchase.quantity), func.sum(cents % HALF * Purchase.quantity)


def _total(period: datetime, row: Any | None) -> SalesTotal:
    if row is None:
        return SalesTotal(period, Decimal("0.00"), 0, 0)
    _, halves, rest, units, purchases = row
    return SalesTotal(period, Decimal(int(halves) * HALF + int(rest)).scaleb(-2), int(units), purchases)
