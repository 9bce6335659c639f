"""The `salesReport` query: revenue and units by day, week or month."""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Self

import strawberry

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.context import Info
from graph.kit.fields import query
from graph.kit.scalars import BigInt
from persistence import sales
from persistence.items import table as items
from persistence.purchases import table as purchases

SALES_POINTS = 13_500  # Every purchase of the time is looked at: tens of milliseconds for a hundred thousand.


@strawberry.enum(description="What sales are added up by. All periods begin at midnight UTC.")
class SalesPeriod(Enum):
    DAY = strawberry.enum_value("day", description="Calendar days.")
    WEEK = strawberry.enum_value("week", description="Weeks that begin on Monday, as in ISO 8601.")
    MONTH = strawberry.enum_value("month", description="Calendar months.")


@strawberry.type(description="What was sold in one period.")
class SalesTotal:
    starts_at: datetime = strawberry.field(
        description="When the period begins. The first one may begin before `from`, but counts from there."
    )
    revenue: Decimal = strawberry.field(description="The sum of quantity times price.")
    units: BigInt = strawberry.field(description="How many units were sold.")
    purchases: BigInt = strawberry.field(description="In how many purchases.")

    @classmethod
    def of(cls, total: sales.SalesTotal) -> Self:
        return cls(starts_at=total.starts_at, revenue=total.revenue, units=BigInt(total.units), purchases=BigInt(total.purchases))


@strawberry.type(description="What was sold between two instants, in all and by period.")
class SalesReport:
    revenue: Decimal = strawberry.field(description="The sum over all periods.")
    units: BigInt = strawberry.field(description="The sum over all periods.")
    purchases: BigInt = strawberry.field(description="The sum over all periods.")
    periods: list[SalesTotal] = strawberry.field(
        description=f"Every period from `from` to `to` in order of time, those without sales too; at most {sales.PERIODS:,}."
    )

    @classmethod
    def of(cls, totals: list[sales.SalesTotal]) -> Self:
        return cls(
            revenue=sum((total.revenue for total in totals), Decimal("0.00")),
            units=BigInt(sum(total.units for total in totals)),
            purchases=BigInt(sum(total.purchases for total in totals)),
            periods=[SalesTotal.of(total) for total in totals],
        )


@strawberry.type
class SalesQuery:
    @query(
        scope=(),
        description="What was sold: of all items for those who hold `users:read`, of your own items for everybody else.",
        cost=SALES_POINTS,
        cache=reads(items.Item, purchases.Purchase),
    )
    async def sales_report(
        self,
        info: Info,
        from_: Annotated[datetime, strawberry.argument(name="from", description="Purchases at this instant or later.")],
        to: Annotated[datetime, strawberry.argument(description="Purchases before this instant.")],
        by: Annotated[SalesPeriod, strawberry.argument(description="How long a period is.")] = SalesPeriod.DAY,
    ) -> SalesReport:
        viewer = info.context.require()
        owner_id = None if info.context.holds(Scope.USERS_READ) else viewer.user_id
        async with info.context.database.reading() as session:
            return SalesReport.of(await sales.report(session, from_, to, sales.Period(by.value), owner_id=owner_id))
