"""Streaming exports: `GET /api/v2/stream/items.csv`, `.txt` and `.json`, and those that entities declare, from one snapshot at constant memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.kit.limits.rate_limits import CALLER, RateLimitRule
from graph.kit.operations.exports import Export, exports
from graph.server.representations.representation import not_modified, select_part
from graph.server.representations.streaming import AbortableStream, StreamLimits
from graph.server.rest import export_formats
from graph.server.rest.export_formats import FORMATS
from graph.server.rest.query_parameters import Parameters
from graph.server.rest.routes import Endpoint, Routes
from persistence.items import listing

EXPORT_POINTS = (
    2_000  # A snapshot, and 2 MB: some 10,000 items. Beyond that each kB is a point, which takes 0.03 to 0.05 ms of a processor.
)
# Each export holds one of a few snapshots of the database: at half a megabit a second it gives way, and after ten minutes in any case.
STREAM_LIMITS = StreamLimits(least_rate=65_536, most_seconds=600)


def routes(rest_routes: Routes) -> list[Route]:
    catalogue = [_route(rest_routes, f"items.{name}", items, Scope.ITEMS_READ) for name in ("csv", "txt", "json")]
    declared = [_route(rest_routes, f"{each.name}.{name}", _endpoint(each), each.scope) for each in exports() for name in ("csv", "json")]
    return catalogue + declared


def _route(rest_routes: Routes, filename: str, endpoint: Endpoint, scope: Scope) -> Route:
    return rest_routes.route(
        f"/api/v2/stream/{filename}", endpoint, scope=scope, limit=RateLimitRule("60/minute", by=CALLER), points=EXPORT_POINTS
    )


async def items(request: Request, context: Context) -> Response:
    export = _export_request(request)
    form = FORMATS[_format(request)]
    return await _streamed(request, form.parts(context.database, export), form.media_type)


def _endpoint(export: Export) -> Endpoint:
    """Of an export that an entity declares."""

    async def rows(request: Request, context: Context) -> Response:
        parameters, form = Parameters(request.query_params), _format(request)
        limit, raw = parameters.whole_number("limit", least=1), parameters.switch("raw")
        parts = export.csv(context.database, limit, raw=raw) if form == "csv" else export.json(context.database, limit)
        return await _streamed(request, parts, FORMATS[form].media_type)

    rows.__name__ = export.name
    return rows


def _format(request: Request) -> str:
    return request.url.path.rpartition(".")[2]


async def _streamed(request: Request, parts: AsyncGenerator[bytes], media_type: str) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{request.url.path.rpartition("/")[2]}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    if select_part(request, headers, None).status is HTTPStatus.NOT_MODIFIED:  # It has no validators: by `If-None-Match: *`.
        return not_modified(request, headers, media_type=media_type, size=0)
    stream = AbortableStream(parts, media_type=media_type, headers=headers, limits=STREAM_LIMITS)
    return stream if request.method == "HEAD" else await stream.begin()


def _export_request(request: Request) -> export_formats.ExportRequest:
    """Raises: InvalidInput."""
    parameters = Parameters(request.query_params)
    return export_formats.ExportRequest(
        replace(listing.ALL, search=parameters.text("search")),
        parameters.whole_number("limit", least=1),
        raw=parameters.switch("raw"),
        bom=parameters.switch("bom"),
    )
