"""File routes: `POST /api/v2/files/upload`, `GET /api/v2/files/download/{filename}`, `GET /api/v2/files/list`."""

from __future__ import annotations

from contextlib import aclosing
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.files import DOWNLOAD, download_path
from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.kit.errors import refusal
from graph.kit.global_ids import global_id
from graph.kit.limits.rate_limits import CALLER, RateLimitRule
from graph.server.asgi.error_responses import NOT_FOUND, PRIVATE, UNSUPPORTED, json_response
from graph.server.asgi.request_body import announced_bytes, bounded_chunks
from graph.server.asgi.request_headers import headers_of, text
from graph.server.representations.content_disposition import disposition
from graph.server.representations.representation import Representation, not_modified, select_part
from graph.server.representations.streaming import AbortableStream
from graph.server.rest.multipart import FORM_BYTES, FormFile
from graph.server.rest.query_parameters import Parameters
from graph.server.rest.routes import Routes
from persistence import files
from persistence.files import FilenameTaken, QuotaExceeded, StoredFile
from persistence.kit.blobs.blobs import Blobs, StoredBlob, TooLarge, store
from persistence.kit.database.database import UnitOfWork
from persistence.kit.errors import DomainError, NotFound
from persistence.kit.query.paging import MAX_PAGE_SIZE, PageArguments

log = structlog.get_logger(__name__)

DOWNLOADED_BYTES_A_POINT = 32_768  # Bytes of a file pass through as they are.


class FileRoutes:
    def __init__(self, blobs: Blobs, *, most_bytes: int, quota_bytes: int) -> None:
        """`most_bytes` of one file, `quota_bytes` of all files of one user."""
        self._blobs, self._most_bytes, self._quota_bytes = blobs, most_bytes, quota_bytes

    def routes(self, rest_routes: Routes) -> list[Route]:
        return [
            rest_routes.route(
                "/api/v2/files/upload",
                self.upload,
                methods=["POST"],
                scope=Scope.FILES_WRITE,
                limit=RateLimitRule("60/minute", by=CALLER),
                points=100,
            ),
            rest_routes.route(
                f"{DOWNLOAD}{{filename}}",
                self.download,
                scope=Scope.FILES_READ,
                limit=RateLimitRule("600/minute", by=CALLER),
                points=10,
                bytes_a_point=DOWNLOADED_BYTES_A_POINT,
            ),
            rest_routes.route(
                "/api/v2/files/list", self.list, scope=Scope.FILES_READ, limit=RateLimitRule("120/minute", by=CALLER), points=20
            ),
        ]

    async def upload(self, request: Request, context: Context) -> Response:
        self._check(request)
        async with aclosing(bounded_chunks(request.receive)) as body:
            return await self._taken(request, context, FormFile(text(headers_of(request.scope), b"content-type"), body))

    async def _taken(self, request: Request, context: Context, form: FormFile) -> Response:
        filename, key = files.validate_filename(await form.filename()), text(headers_of(request.scope), b"idempotency-key")
        # With a key, the file may be there and take its room because this request came before.
        stored = await self._check_free(request, context, filename) if key is None else 0
        blob = await self._store(form, stored)
        try:
            row = await self._list(context, filename, blob, key)
        except DomainError:
            await self._blobs.delete(blob.key)
            raise
        replayed = row.blob_key != blob.key
        if replayed:
            await self._blobs.delete(blob.key)
        headers = {"Location": download_path(row.filename), **({"Idempotency-Replayed": "true"} if replayed else {})}
        return json_response(described(row), 201, headers)

    def _check(self, request: Request) -> None:
        if headers_of(request.scope).get(b"content-encoding", b"identity").lower() != b"identity":
            # A few compressed kilobytes can be gigabytes: we would rather not find out.
            raise refusal(UNSUPPORTED, "Send the form uncompressed.", headers={"Accept-Encoding": "identity"})
        if announced_bytes(headers_of(request.scope)) > self._most_bytes + FORM_BYTES:
            raise TooLarge(self._most_bytes)

    async def _check_free(self, request: Request, context: Context, filename: str) -> int:
        """How many bytes the user's files take already. Raises: FilenameTaken, QuotaExceeded."""
        async with context.database.reading_latest() as session:
            if await files.by_filename(session, filename):
                raise FilenameTaken(filename)
            stored = await files.stored_bytes(session, context.require().user_id)
        if stored + announced_bytes(headers_of(request.scope)) - FORM_BYTES > self._quota_bytes:
            raise QuotaExceeded(self._quota_bytes, stored)
        return stored

    async def _store(self, form: FormFile, stored: int) -> StoredBlob:
        """Raises: TooLarge, QuotaExceeded, Refused."""
        room = self._quota_bytes - stored
        try:
            async with aclosing(form.parts()) as parts:
                return await store(self._blobs, parts, most_bytes=min(self._most_bytes, room))
        except TooLarge as error:
            raise QuotaExceeded(self._quota_bytes, stored) if room < self._most_bytes else error from None

    async def _list(self, context: Context, filename: str, blob: StoredBlob, key: str | None) -> StoredFile:
        """Only a refusal proves that no row was written: after another failure the blob stays, for `sweep` to judge."""
        owner = context.require()

        async def command(work: UnitOfWork) -> StoredFile:
            return await files.add(work, filename, blob, owner_id=owner.user_id, quota_bytes=self._quota_bytes)

        return await context.once(command, files.ENTITY.replay_format, key=key, operation="upload", arguments=[filename, blob.sha256])

    async def download(self, request: Request, context: Context) -> Response:
        async with context.database.reading_latest() as session:
            row = await files.by_filename(session, request.path_params["filename"])
        if row is None:
            raise NotFound("file")
        headers = _headers(row)
        part = select_part(request, headers, row.size_bytes)
        if part.status is HTTPStatus.NOT_MODIFIED:
            return not_modified(request, headers, media_type=row.content_type, size=row.size_bytes)
        span = part.span
        start, end = (span.start, span.end) if span else (0, row.size_bytes)
        headers["Content-Length"] = str(end - start)
        if span:
            headers["Content-Range"] = span.content_range
        parts = self._blobs.read(row.blob_key, start, end)
        return await self._begun(AbortableStream(parts, media_type=row.content_type, headers=headers, status=part.status), row)

    async def _begun(self, stream: AbortableStream, row: StoredFile) -> AbortableStream:
        """A listed file always has its content; where it is lost, an operator has to hear of it. Raises: Refused NOT_FOUND."""
        try:
            return await stream.begin()
        except (FileNotFoundError, EOFError):
            log.error("the content of a file is lost", filename=row.filename, blob_key=row.blob_key)  # noqa: TRY400 -- the traceback would tell nothing
            raise refusal(
                NOT_FOUND, "The content of this file is lost: delete the file and upload it again, or tell the operator."
            ) from None

    async def list(self, request: Request, context: Context) -> Response:
        parameters = Parameters(request.query_params)
        first, after = parameters.whole_number("first"), parameters.text("after")
        async with context.database.reading_latest() as session:
            page = await files.page(session, PageArguments(first=MAX_PAGE_SIZE if first is None else first, after=after))
        following = page.listing.cursor(page.rows[-1]) if page.has_next and page.rows else None
        body = orjson.dumps({"files": [described(row) for row in page.rows], "next": following})
        return Representation(body, "application/json", PRIVATE).respond(request)


def described(row: StoredFile) -> dict[str, Any]:
    """The fields of the GraphQL type, under the same names."""
    return {
        "id": global_id("StoredFile", row.id),
        "filename": row.filename,
        "sizeBytes": row.size_bytes,
        "contentType": row.content_type,
        "sha256": row.sha256,
        "uploadedAt": row.uploaded_at,
        "url": download_path(row.filename),
    }


def _headers(row: StoredFile) -> dict[str, str]:
    return {
        "ETag": f'"{row.sha256}"',
        "Last-Modified": format_datetime(row.uploaded_at, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(row.filename, row.content_type),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",  # Whatever is in it, it runs nothing and loads nothing.
        "Cache-Control": "private, no-cache",  # Kept by its reader only, and asked for anew each time, as the file may be deleted.
    }
