"""Imports that entities declare: `POST /api/v2/import/items` brings the catalogue in step with a file, and reports row by row as JSON Lines.

The body is written to a temporary file first, as it comes: a client that sends slowly holds no lock, and a key stands for one content.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.kit.context import Context
from graph.kit.errors import refusal
from graph.kit.global_ids import global_id
from graph.kit.limits.rate_limits import CALLER, RateLimitRule
from graph.kit.operations.imports import Import, imports
from graph.server.asgi.error_responses import PRIVATE, UNSUPPORTED
from graph.server.asgi.request_body import announced_bytes, bounded_chunks
from graph.server.asgi.request_headers import headers_of
from graph.server.representations.streaming import AbortableStream
from graph.server.rest.query_parameters import Parameters
from graph.server.rest.routes import Routes
from persistence.kit.blobs.blobs import TooLarge
from persistence.kit.errors import DomainError, InvalidInput
from persistence.kit.idempotency import Attempt
from persistence.kit.imports.file_rows import FileForm, ImportRow, UnreadableFile
from persistence.kit.imports.file_sync import FileSync, RowReport, SyncOptions
from persistence.kit.imports.import_journal import ImportJournal

IMPORT_POINTS = 2_000  # For the first 2,000 rows; each row beyond them is another point, as in `upsertItems`.
REPORT = "application/x-ndjson"
CSV = frozenset({"text/csv", "text/tab-separated-values"})
JSON_LINES = frozenset({REPORT, "application/jsonl", "application/jsonlines", "application/x-jsonlines"})
OPTIONS = ("match", "delete-missing", "dry-run", "raw")

WRITE_BYTES = 2**18  # Bytes: a thread's errand is worth it.


class ImportRoutes:
    def __init__(self, *, most_bytes: int) -> None:
        """`most_bytes` of one file."""
        self._most_bytes = most_bytes

    def routes(self, rest_routes: Routes) -> list[Route]:
        self._limits = rest_routes.limits
        return [self._route(rest_routes, each) for each in imports().values()]

    def _route(self, rest_routes: Routes, declared: Import) -> Route:
        async def endpoint(request: Request, context: Context) -> Response:
            return await self._import(declared, request, context)

        endpoint.__name__ = f"import_{declared.name}"
        path, limit = f"/api/v2/import/{declared.name}", RateLimitRule("30/minute", by=CALLER)
        return rest_routes.route(path, endpoint, methods=["POST"], scope=declared.scope, limit=limit, points=IMPORT_POINTS)

    async def _import(self, declared: Import, request: Request, context: Context) -> Response:
        kind, (options, raw) = _media_type(request), _options(declared, request, context)
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- it lives as long as the report that is made of it
        try:
            attempt = _attempt(declared, request, context, options, [await self._stored(request, file), kind, raw])
            journal = await ImportJournal.begin(context.database, attempt) if attempt else None
            if journal and "counts" in journal.state:
                file.close()
                return Response(_line(journal.state["counts"]), media_type=REPORT, headers={**PRIVATE, "Idempotency-Replayed": "true"})
            sync = FileSync(context.database, declared.target, options, journal)
            charge = partial(self._limits.take, context.caller)
            parts = _report(file, sync, _rows(file, kind, sync, raw=raw), charge)
            return await AbortableStream(parts, media_type=REPORT, headers=PRIVATE).begin()
        except BaseException:
            file.close()
            raise

    async def _stored(self, request: Request, file: BinaryIO) -> str:
        """The digest of the body, which is in the file then. Raises: TooLarge, Refused."""
        if announced_bytes(headers_of(request.scope)) > self._most_bytes:
            raise TooLarge(self._most_bytes)
        digest, held, size = hashlib.blake2b(digest_size=16), bytearray(), 0
        async with aclosing(bounded_chunks(request.receive)) as chunks:
            async for chunk in chunks:
                held += chunk
                size += len(chunk)
                if size > self._most_bytes:
                    raise TooLarge(self._most_bytes)
                if len(held) >= WRITE_BYTES:
                    digest.update(held)
                    await anyio.to_thread.run_sync(file.write, bytes(held))
                    held.clear()
        digest.update(held)
        file.write(held)
        file.seek(0)
        return digest.hexdigest()


def _media_type(request: Request) -> str:
    """Raises: Refused UNSUPPORTED_MEDIA_TYPE."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise refusal(UNSUPPORTED, "Send the file uncompressed.", headers={"Accept-Encoding": "identity"})
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in CSV | JSON_LINES:
        raise refusal(UNSUPPORTED, f"Send CSV as text/csv, TSV as text/tab-separated-values, or JSON Lines as {REPORT}.")
    return kind


def _options(declared: Import, request: Request, context: Context) -> tuple[SyncOptions, bool]:
    """What to do, and whether the file is a raw one. Raises: InvalidInput."""
    if unknown := sorted(set(request.query_params) - set(OPTIONS)):  # A dry run that is misspelled must not be a real one.
        raise InvalidInput.at(unknown[0], f"is no option of an import, which are {', '.join(OPTIONS)}")
    parameters = Parameters(request.query_params)
    delete_missing, dry_run = parameters.switch("delete-missing"), parameters.switch("dry-run")
    options = declared.options(parameters.text("match") or "none", delete_missing=delete_missing, dry_run=dry_run)
    return declared.of_viewer(options, context), parameters.switch("raw")


def _attempt(declared: Import, request: Request, context: Context, options: SyncOptions, content: list[object]) -> Attempt | None:
    """`content` is what is read, and how. Raises: InvalidInput."""
    key = request.headers.get("idempotency-key")
    if key is None or options.dry_run:
        return None
    operation = "import" if declared.name == "items" else f"import {declared.name}"  # As earlier versions kept that of items.
    [match] = [name for name, each in declared.target.form.matches().items() if each is options.match]
    return Attempt.of(caller=context.caller.key, key=key, operation=operation, arguments=[*content, match, options.delete_missing])


def _rows(file: BinaryIO, kind: str, sync: FileSync, *, raw: bool) -> Iterator[ImportRow]:
    form, match = sync.target.form, sync.options.match
    return form.from_csv(file, raw=raw, match=match, unread=sync.notes.append) if kind in CSV else form.from_json_lines(file, match=match)


async def _report(file: BinaryIO, sync: FileSync, rows: Iterator[ImportRow], charge: Callable[[int], None]) -> AsyncGenerator[bytes]:
    """A line for each row that changed something or was refused, one for each batch, and the sums. Raises: InvalidInput, before anything is done."""
    begun, charged = False, IMPORT_POINTS + (sync.journal.state.get("created", 0) if sync.journal else 0)
    try:
        async with aclosing(sync.run(rows)) as batches:
            async for batch in batches:
                begun, points = True, max(0, sum(asdict(sync.counts).values()) - charged)
                charge(points)
                charged += points
                yield b"".join([_line(_described(row, sync.target.form)) for row in batch.rows]) + _line(
                    {"outcome": "PROGRESS", **asdict(sync.counts)}
                )
        await sync.finish()
    except (UnreadableFile, DomainError) as error:
        if not begun:
            raise error if isinstance(error, DomainError) else InvalidInput.at("file", str(error)) from error
        yield _line({"outcome": "STOPPED", **asdict(sync.counts), "message": str(error)})
    else:
        yield _line(sync.summary())
    finally:
        file.close()


def _described(row: RowReport, form: FileForm) -> Mapping[str, Any]:
    values = {
        "line": row.line,
        "outcome": row.outcome.upper(),
        "id": None if row.row_id is None else global_id(form.type_name, row.row_id),
        **({} if form.references else {form.name(form.key[0]): row.key}),
        "fields": list(row.fields) or None,
        "message": row.message,
    }
    return {name: value for name, value in values.items() if value is not None}


def _line(values: Any) -> bytes:
    return orjson.dumps(values) + b"\n"
