"""The `rateLimit` query: a caller's budget of cost points, and the cost of a document without running it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol

import strawberry
from graphql import GraphQLError

from graph.kit.auth import Caller
from graph.kit.context import Info
from graph.kit.entity.roots import RunResolver
from graph.kit.errors import Refused
from graph.kit.fields import query
from graph.kit.scalars import JsonObject
from persistence.kit.column_types import utc_now
from persistence.kit.limits.token_bucket import BucketState


class BudgetMeter(Protocol):
    """Reads budgets and prices documents."""

    max_cost: int
    enabled: bool

    async def level(self, caller: Caller) -> BucketState: ...

    async def pay(self, caller: Caller, points: int) -> None:
        """Charge for what an operation turns out to do beside what its price says. Raises: Refused."""
        ...

    async def price(self, source: str, operation_name: str | None, variables: Mapping[str, Any] | None, caller: Caller) -> int:
        """Raises: Refused."""
        ...


@strawberry.type(
    description="Your budget in points, and what a document would cost of it. A point is about one object to load; "
    "an operation is charged before it runs and gets back what it did not use."
)
class RateLimit:
    enabled: bool = strawberry.field(description="Whether budgets are in force here. Otherwise the figures say what they would be.")
    limit: int = strawberry.field(description="Points that your budget holds when it is full.")
    remaining: int = strawberry.field(description="Points in it now, this request already charged.")
    restore_rate: float = strawberry.field(description="Points that come back each second.")
    reset_at: datetime = strawberry.field(description="When it is full again, if nothing is spent meanwhile.")
    max_cost: int = strawberry.field(description="The most points that one operation may cost, whatever the budget holds.")
    cost: int | None = strawberry.field(description="What `document` would cost at most; null without one.")


@strawberry.type
class BudgetQuery:
    @query(
        scope=None,
        plan=RunResolver(),
        description="Your budget: a signed-in user's own, otherwise that of your network address. The same figures come with every "
        'response as the headers `RateLimit` and `RateLimit-Policy`, and as `extensions.cost` for a request with `"extensions": {"cost": true}`.',
    )
    async def rate_limit(
        self,
        info: Info,
        document: Annotated[str | None, strawberry.argument(description="Priced, and not run.")] = None,
        variables: Annotated[
            JsonObject | None, strawberry.argument(description="Of `document`: the sizes of pages may be in them.")
        ] = None,
        operation_name: Annotated[str | None, strawberry.argument(description="Which of the operations in `document`.")] = None,
    ) -> RateLimit:
        meter, caller = info.context.port(BudgetMeter), info.context.caller
        try:
            cost = None if document is None else await meter.price(document, operation_name, variables, caller)
        except Refused as refused:
            first = refused.errors[0]
            raise GraphQLError(f"document: {first.message}", extensions=first.extensions) from None
        level = await meter.level(caller)
        return RateLimit(
            enabled=meter.enabled,
            limit=level.budget.capacity,
            remaining=level.remaining,
            restore_rate=level.budget.per_second,
            reset_at=utc_now() + timedelta(seconds=level.full_in_seconds),
            max_cost=meter.max_cost,
            cost=cost,
        )
