"""Files in and out by HTTP: `POST /api/v2/files/upload`, `GET /api/v2/files/download/{filename}`, `GET /api/v2/files/list`."""

from __future__ import annotations

from contextlib import aclosing
from email.utils import format_datetime
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.files import DOWNLOAD, download_path
from graph.kit.auth import Scope
from graph.kit.context import Context
from graph.kit.errors import refusal
from graph.kit.global_ids import global_id
from graph.server.asgi.error_responses import NO_SUCH_RANGE, UNSUPPORTED, answer
from graph.server.asgi.request_body import arriving
from graph.server.asgi.streaming import Stream
from graph.server.rest import ranges
from graph.server.rest.file_headers import disposition
from graph.server.rest.multipart import FormFile
from graph.server.rest.routes import Shims
from persistence import files
from persistence.files import FilenameTaken, StoredFile
from persistence.kit.blobs.blobs import Blobs, TooLarge, Written, store
from persistence.kit.database.database import UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.kit.query.paging import MAX_PAGE_SIZE, Window

log = structlog.get_logger(__name__)

FORM_BYTES = 16_384  # What a form may add around its file: headers and boundaries.


class FileRoutes:
    def __init__(self, blobs: Blobs, *, most_bytes: int) -> None:
        self._blobs, self._most_bytes = blobs, most_bytes

    def routes(self, shims: Shims) -> list[Route]:
        return [
            shims.route("/api/v2/files/upload", self.upload, methods=["POST"], scope=Scope.FILES_WRITE, limit="60/minute", points=100),
            shims.route(f"{DOWNLOAD}{{filename}}", self.download, scope=Scope.FILES_READ, limit="600/minute", points=10),
            shims.route("/api/v2/files/list", self.list, scope=Scope.FILES_READ, limit="120/minute", points=20),
        ]

    async def upload(self, request: Request, context: Context) -> Response:
        self._check(request)
        async with aclosing(arriving(request.receive)) as body:
            return await self._taken(request, context, FormFile(request.headers.get("content-type"), body))

    async def _taken(self, request: Request, context: Context, form: FormFile) -> Response:
        filename, key = files.accepted_name(await form.filename()), request.headers.get("idempotency-key")
        if key is None:  # With one, the file may be there because this request came before.
            await self._check_free(context, filename)
        async with aclosing(form.parts()) as parts:
            written = await store(self._blobs, parts, most_bytes=self._most_bytes)
        try:
            row = await self._list(context, filename, written, key)
        except DomainError:
            await self._blobs.delete(written.key)
            raise
        replayed = row.blob_key != written.key
        if replayed:
            await self._blobs.delete(written.key)
        headers = {"Location": download_path(row.filename), **({"Idempotency-Replayed": "true"} if replayed else {})}
        return answer(described(row), 201, headers)

    def _check(self, request: Request) -> None:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            # A few compressed kilobytes can be gigabytes: we would rather not find out.
            raise refusal(UNSUPPORTED, "Send the form uncompressed.", headers={"Accept-Encoding": "identity"})
        if int(request.headers.get("content-length", "0")) > self._most_bytes + FORM_BYTES:
            raise TooLarge(self._most_bytes)

    async def _check_free(self, context: Context, filename: str) -> None:
        async with context.database.reading_latest() as session:
            if await files.named(session, filename):
                raise FilenameTaken(filename)

    async def _list(self, context: Context, filename: str, written: Written, key: str | None) -> StoredFile:
        """Only a refusal proves that no row was written: after another failure the blob stays, for `sweep` to judge."""
        owner = context.require()

        async def command(work: UnitOfWork) -> StoredFile:
            return await files.add(work, filename, written, owner_id=owner.user_id)

        return await context.once(command, files.ANSWER, key=key, operation="upload", arguments=[filename, written.sha256])

    async def download(self, request: Request, context: Context) -> Response:
        async with context.database.reading_latest() as session:
            row = await files.named(session, request.path_params["filename"])
        if row is None:
            raise NotFound("file")
        etag, headers = f'"{row.sha256}"', _headers(row)
        if ranges.matches(request.headers.get("if-none-match"), etag, weakly=True):
            return Response(None, 304, headers)
        span = self._span(request, row, headers)
        start, end = (span.start, span.end) if span else (0, row.size_bytes)
        headers["Content-Length"] = str(end - start)
        if span:
            headers["Content-Range"] = span.content_range
        stream = Stream(
            self._blobs.read(row.blob_key, start, end), media_type=row.content_type, headers=headers, status=206 if span else 200
        )
        return stream if request.method == "HEAD" else await stream.begin()

    def _span(self, request: Request, row: StoredFile, headers: dict[str, str]) -> ranges.Span | None:
        if_range = request.headers.get("if-range")
        if request.method != "GET" or if_range not in {None, headers["ETag"], headers["Last-Modified"]}:
            return None
        try:
            return ranges.wanted(request.headers.get("range"), row.size_bytes)
        except ranges.Unsatisfiable:
            message = f"The file has {row.size_bytes} bytes: the range begins after its end."
            raise refusal(NO_SUCH_RANGE, message, headers={"Content-Range": f"bytes */{row.size_bytes}"}) from None

    async def list(self, request: Request, context: Context) -> Response:
        first, after = request.query_params.get("first", str(MAX_PAGE_SIZE)), request.query_params.get("after")
        if not first.isascii() or not first.isdigit():
            raise InvalidInput.at("first", "must be a whole number")
        async with context.database.reading_latest() as session:
            page = await files.page(session, Window(first=int(first[:9]), after=after))
        following = page.listing.cursor(page.rows[-1]) if page.has_next and page.rows else None
        return answer({"files": [described(row) for row in page.rows], "next": following})


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
