"""The whole catalogue in one answer: `GET /api/v2/stream/items.csv`, `.txt` and `.json`, from one instant and at constant memory."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.server.asgi.streaming import Pace, Stream
from graph.server.representations import select
from graph.server.rest import export_formats
from graph.server.rest.export_formats import FORMATS
from graph.server.rest.routes import Shims
from persistence.items.listing import Filter
from persistence.kit.errors import InvalidInput
from persistence.kit.validation import WHOLE_MAX

EXPORT_POINTS = 2_000  # A second of sending keeps a processor half busy, and a catalogue of 20,000 items takes about one.
# Each export holds one of a few snapshots of the database: at half a megabit a second it gives way, and after ten minutes in any case.
PACE = Pace(least_rate=65_536, most_seconds=600)
SWITCHES = {"": False, "0": False, "false": False, "1": True, "true": True}


def routes(shims: Shims) -> list[Route]:
    return [
        shims.route(f"/api/v2/stream/items.{name}", items, scope=Scope.ITEMS_READ, limit="60/minute", points=EXPORT_POINTS)
        for name in ("csv", "txt", "json")
    ]


async def items(request: Request, context: Context) -> Response:
    wanted = _wanted(request)
    name = request.url.path.rpartition(".")[2]
    form = FORMATS[name]
    headers = {
        "Content-Disposition": f'attachment; filename="items.{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    select(request, headers, None)  # It has no validators, so a condition on them does not hold.
    stream = Stream(form.parts(context.database, wanted), media_type=form.media_type, headers=headers, pace=PACE)
    return stream if request.method == "HEAD" else await stream.begin()


def _wanted(request: Request) -> export_formats.Request:
    """Raises: InvalidInput."""
    limit, raw = request.query_params.get("limit"), request.query_params.get("raw", "")
    if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) < 11 and 1 <= int(limit) <= WHOLE_MAX):
        raise InvalidInput.at("limit", f"must be a whole number between 1 and {WHOLE_MAX}")
    if raw not in SWITCHES:
        raise InvalidInput.at("raw", "must be 1 or 0")
    filter_ = Filter(search=request.query_params.get("search"))
    filter_.check()
    return export_formats.Request(filter_, None if limit is None else int(limit), SWITCHES[raw])
