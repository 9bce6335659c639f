"""The whole catalogue as a file: CSV (RFC 4180), JSON or text, streamed from one snapshot of the database at constant memory.

The first rows are read before the headers leave, so a refusal has a status; what fails later breaks the connection off.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.access import Scope
from graph.kit.context import Context
from graph.kit.nodes import global_id
from graph.server.rest import Shims
from graph.server.streams import Stream
from persistence import catalogue
from persistence.kit.errors import InvalidInput

LIMIT = 10**9
HEADER = ("name", "description", "price", "tags", "inventory", "id", "createdAt")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # A cell that begins so is a formula to a spreadsheet. Source: OWASP, CSV Injection.

Rows = Sequence[Sequence[Any]]
Encode = Callable[[Rows], str]


class ItemExports:
    def routes(self, shims: Shims) -> list[Route]:
        endpoints = {"csv": self.csv, "txt": self.text, "json": self.json}
        return [
            shims.route(f"/api/v2/stream/items.{kind}", endpoint, scope=Scope.ITEMS_READ, limit="30/minute")
            for kind, endpoint in endpoints.items()
        ]

    async def csv(self, request: Request, context: Context) -> Response:
        """With `raw=1` cells are left as they are, for machines that read them."""
        raw = request.query_params.get("raw") == "1"
        opening = _lines([HEADER])
        parts = _parts(request, context, lambda rows: _lines(_cells(row, raw=raw) for row in rows), opening=opening)
        return await _sent(parts, "items.csv", "text/csv; charset=utf-8; header=present")

    async def text(self, request: Request, context: Context) -> Response:
        parts = _parts(request, context, lambda rows: "".join(map(_sentence, rows)))
        return await _sent(parts, "items.txt", "text/plain; charset=utf-8")

    async def json(self, request: Request, context: Context) -> Response:
        parts = _parts(request, context, _objects, opening="[", between=",\n", closing="]\n")
        return await _sent(parts, "items.json", "application/json")


async def _sent(parts: AsyncGenerator[bytes], filename: str, media_type: str) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return await Stream(parts, media_type=media_type, headers=headers).begin()


async def _parts(
    request: Request, context: Context, encode: Encode, *, opening: str = "", between: str = "", closing: str = ""
) -> AsyncGenerator[bytes]:
    conditions, limit = _asked(request)
    lead = opening
    async with context.database.snapshot() as session, aclosing(catalogue.stream(session, conditions, limit=limit)) as stream:
        async for rows in stream:
            yield (lead + encode(rows)).encode()
            lead = between
    yield ((opening if lead is opening else "") + closing).encode()


def _asked(request: Request) -> tuple[catalogue.Filter, int | None]:
    """Raises: InvalidInput."""
    conditions = catalogue.Filter(search=request.query_params.get("search"))
    conditions.check()
    wanted = request.query_params.get("limit")
    if wanted is None:
        return conditions, None
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= len(str(LIMIT)) and 1 <= int(wanted) <= LIMIT):
        raise InvalidInput.at("limit", f"must be a whole number from 1 to {LIMIT}")
    return conditions, int(wanted)


def _lines(rows: Any) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


def _cells(row: Sequence[Any], *, raw: bool) -> list[str]:
    id_, name, description, price, tags, inventory, created_at = row
    texts = [name, description or "", str(price), ";".join(tags)]
    if not raw:
        texts = [f"'{text}" if text.startswith(FORMULAS) else text for text in texts]
    return [*texts, str(inventory), global_id("Item", id_), created_at.isoformat()]


def _sentence(row: Sequence[Any]) -> str:
    id_, name, _, price, tags, inventory, _ = row
    about = f" [{', '.join(tags)}]" if tags else ""
    return f"{global_id('Item', id_)}  {name}{about}: {price}, {inventory} in stock\n"


def _objects(rows: Rows) -> str:
    return ",\n".join(_object(row) for row in rows)


def _object(row: Sequence[Any]) -> str:
    id_, name, description, price, tags, inventory, created_at = row
    values = (name, description, str(price), tags, inventory, global_id("Item", id_), created_at)
    return orjson.dumps(dict(zip(HEADER, values, strict=True))).decode()
