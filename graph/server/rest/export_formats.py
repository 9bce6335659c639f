"""Export formats of the catalogue: CSV, plain text, JSON and JSON Lines."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from graph.kit.global_ids import global_id
from persistence.items import csv_export, listing
from persistence.kit.database.database import Database
from persistence.kit.query import entity
from persistence.kit.query.entity import ListQuery

ATTRIBUTES = ("id", "name", "description", "price", "tags", "inventory", "created_at", "external_id")


@dataclass(frozen=True)
class ExportRequest:
    """Which items; for CSV, whether it is for a program (`raw`) rather than a spreadsheet, and whether a byte order mark says that it is UTF-8."""

    items: ListQuery = listing.ALL
    limit: int | None = None
    raw: bool = False
    bom: bool = False


@dataclass(frozen=True)
class ExportFormat:
    media_type: str
    parts: Callable[[Database, ExportRequest], AsyncGenerator[bytes]]


async def _csv(database: Database, request: ExportRequest) -> AsyncGenerator[bytes]:
    before = (codecs.BOM_UTF8 if request.bom else b"") + csv_export.HEADER
    async with (
        database.snapshot() as session,
        aclosing(csv_export.lines(session, request.items, limit=request.limit, raw=request.raw)) as parts,
    ):
        async for part in parts:
            yield before + part
            before = b""
    if before:
        yield before


async def _text(database: Database, request: ExportRequest) -> AsyncGenerator[bytes]:
    async with aclosing(_rows(database, request)) as pieces:
        async for rows in pieces:
            yield "".join([_line(row) for row in rows]).encode()


async def _json(database: Database, request: ExportRequest) -> AsyncGenerator[bytes]:
    before = b"["
    async with aclosing(_rows(database, request)) as pieces:
        async for rows in pieces:
            yield before + b",\n".join([_object(row) for row in rows])
            before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


async def _json_lines(database: Database, request: ExportRequest) -> AsyncGenerator[bytes]:
    async with aclosing(_rows(database, request)) as pieces:
        async for rows in pieces:
            yield b"".join([_object(row) + b"\n" for row in rows])


FORMATS = {
    "csv": ExportFormat("text/csv; charset=utf-8; header=present", _csv),
    "txt": ExportFormat("text/plain; charset=utf-8", _text),
    "json": ExportFormat("application/json", _json),
    "jsonl": ExportFormat("application/x-ndjson", _json_lines),
}


async def _rows(database: Database, request: ExportRequest) -> AsyncGenerator[Sequence[Any]]:
    async with (
        database.snapshot() as session,
        aclosing(entity.stream(session, request.items, ATTRIBUTES, limit=request.limit)) as pieces,
    ):
        async for rows in pieces:
            yield rows


def _line(row: Any) -> str:
    tags = f" [{', '.join(row.tags)}]" if row.tags else ""
    return f"{global_id('Item', row.id)}  {row.name}{tags}: {row.price}, {row.inventory} in stock\n"


def _object(row: Any) -> bytes:
    """Names and forms are those of the GraphQL type."""
    return orjson.dumps(
        {
            "id": global_id("Item", row.id),
            "name": row.name,
            "description": row.description,
            "price": str(row.price),
            "tags": row.tags,
            "inventory": row.inventory,
            "inStock": row.inventory > 0,
            "createdAt": row.created_at,
            "externalId": row.external_id,
        }
    )
