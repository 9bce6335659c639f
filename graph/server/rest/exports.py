"""Streaming exports: `GET /api/v2/stream/items.csv`, `.txt` and `.json`, from one snapshot at constant memory."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.kit.limits.rate_limits import CALLER, RateLimitRule
from graph.server.representations.representation import select_part
from graph.server.representations.streaming import AbortableStream, Pace
from graph.server.rest import export_formats
from graph.server.rest.export_formats import FORMATS
from graph.server.rest.query_parameters import Parameters
from graph.server.rest.routes import Routes
from persistence.items.listing import Filter

EXPORT_POINTS = (
    2_000  # A snapshot, and 2 MB: some 10,000 items. Beyond that each kB is a point, which takes 0.03 to 0.05 ms of a processor.
)
# Each export holds one of a few snapshots of the database: at half a megabit a second it gives way, and after ten minutes in any case.
PACE = Pace(least_rate=65_536, most_seconds=600)


def routes(rest_routes: Routes) -> list[Route]:
    return [
        rest_routes.route(
            f"/api/v2/stream/items.{name}", items, scope=Scope.ITEMS_READ, limit=RateLimitRule("60/minute", by=CALLER), points=EXPORT_POINTS
        )
        for name in ("csv", "txt", "json")
    ]


async def items(request: Request, context: Context) -> Response:
    export = _export_request(request)
    name = request.url.path.rpartition(".")[2]
    form = FORMATS[name]
    headers = {
        "Content-Disposition": f'attachment; filename="items.{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    select_part(request, headers, None)  # It has no validators, so a condition on them does not hold.
    stream = AbortableStream(form.parts(context.database, export), media_type=form.media_type, headers=headers, pace=PACE)
    return stream if request.method == "HEAD" else await stream.begin()


def _export_request(request: Request) -> export_formats.ExportRequest:
    """Raises: InvalidInput."""
    parameters = Parameters(request.query_params)
    return export_formats.ExportRequest(
        Filter(search=parameters.text("search")),
        parameters.whole("limit", least=1),
        raw=parameters.switch("raw"),
        bom=parameters.switch("bom"),
    )
