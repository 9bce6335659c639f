"""Sales charts: `GET /api/v2/reports/sales.svg`, and what the command `report` writes to a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.kit.limits.rate_limits import CALLER, RateLimitRule
from graph.server.pages import sales_chart as picture
from graph.server.representations.representation import Representation
from graph.server.rest.routes import Routes
from persistence import sales
from persistence.kit.column_types import utc_now
from persistence.kit.errors import InvalidInput
from persistence.sales import Period, SalesTotal

CHART_POINTS = 100  # As a `salesReport` of some months.
USUAL_DAYS = 365
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
HEADERS = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    # Opened by itself a picture is a document: it may style itself, and nothing more.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


@dataclass(frozen=True)
class Chart:
    svg: str
    totals: Sequence[SalesTotal]


async def chart(session: Any, name: str, *, first: date | None, last: date | None, by: Period, owner_id: int | None = None) -> Chart:
    """Sales from the first day to the last. Without a last day it is that of the newest purchase, so that the same data give the same picture.

    Raises: InvalidInput.
    """
    newest = None if last else await sales.newest(session, owner_id=owner_id)
    until = last or (newest or utc_now()).date()
    since = first or date.fromordinal(max(1, until.toordinal() - USUAL_DAYS + 1))
    totals = await sales.report(session, _midnight(since), _after(until), by, owner_id=owner_id)
    return Chart(picture.render(totals, by, f"{name}: sales by {by.value}, {since.isoformat()} to {until.isoformat()}"), totals)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _after(day: date) -> datetime:
    return datetime.max.replace(tzinfo=UTC) if day == date.max else _midnight(day + timedelta(days=1))


class SalesReportRoutes:
    def __init__(self, app_name: str) -> None:
        self._name = app_name

    def routes(self, rest_routes: Routes) -> list[Route]:
        return [
            rest_routes.route(
                "/api/v2/reports/sales.svg", self.sales_chart, scope=None, limit=RateLimitRule("60/minute", by=CALLER), points=CHART_POINTS
            )
        ]

    async def sales_chart(self, request: Request, context: Context) -> Response:
        """Of all items for those who hold `users:read`, of their own items for everybody else."""
        viewer, requested = context.require(), request.query_params
        by = requested.get("by", Period.MONTH.value)
        if by not in {period.value for period in Period}:
            raise InvalidInput.at("by", f"must be one of {', '.join(period.value for period in Period)}")
        owner_id = None if context.holds(Scope.USERS_READ) else viewer.user_id
        first, last = _day("from", requested.get("from")), _day("to", requested.get("to"))
        async with context.database.reading() as session:
            made = await chart(session, self._name, first=first, last=last, by=Period(by), owner_id=owner_id)
        return Representation(made.svg.encode(), picture.MEDIA_TYPE, HEADERS).respond(request)


def _day(name: str, text: str | None) -> date | None:
    """Raises: InvalidInput."""
    if not text:
        return None
    try:
        if DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidInput.at(name, "must be a day such as 2026-11-30")
