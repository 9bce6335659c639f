"""What a GET sends of a resource: all of it, a part, or only that the client has it already, by the conditions and the range of the request."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from hashlib import blake2b
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from graph.kit.errors import Refused, refusal
from graph.server.asgi.compression import LEVEL, gzip_from, is_compressible
from graph.server.asgi.error_responses import NO_SUCH_RANGE, PRECONDITION_FAILED, refusal_response
from graph.server.asgi.request_headers import headers_of, text
from graph.server.representations import conditional_requests, ranges
from graph.server.representations.conditional_requests import Validators

# Of a 304, what may be new to whoever has kept the rest. Source: RFC 9110, section 15.4.5.
NEWS = ("ETag", "Last-Modified", "Cache-Control", "Vary", "Content-Location", "Expires")


@dataclass(frozen=True)
class RepresentationPart:
    """What is to be sent: 200 and the whole, 206 and a span, or 304 and nothing."""

    status: HTTPStatus
    span: ranges.ByteRange | None = None


def select_part(request: Request, headers: Mapping[str, str], size: int | None) -> RepresentationPart:
    """By the preconditions first, then by the range, which needs a size. `headers` are those of the whole, its validators among them.

    Raises: Refused PRECONDITION_FAILED or RANGE_NOT_SATISFIABLE. Source: RFC 9110, section 13.2.2.
    """
    current = Validators.of(headers)
    outcome = conditional_requests.evaluate(request.method, headers_of(request.scope), current)
    if outcome is HTTPStatus.PRECONDITION_FAILED:
        message = "It is not the version that your request is about any more: If-Match or If-Unmodified-Since does not hold."
        raise refusal(PRECONDITION_FAILED, message, headers={name: headers[name] for name in ("ETag", "Last-Modified") if name in headers})
    if outcome is not None:
        return RepresentationPart(outcome)
    span = _span(request, current, size)
    return RepresentationPart(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK, span)


def _span(request: Request, current: Validators, size: int | None) -> ranges.ByteRange | None:
    if size is None or request.method != "GET" or not conditional_requests.range_applies(headers_of(request.scope), current):
        return None
    try:
        return ranges.requested_range(text(headers_of(request.scope), b"range"), size)
    except ranges.UnsatisfiableRange:
        message = f"There are {size} bytes: the range begins after the end."
        raise refusal(NO_SUCH_RANGE, message, headers={"Content-Range": f"bytes */{size}"}) from None


def not_modified(request: Request, headers: Mapping[str, str], *, media_type: str, size: int) -> Response:
    """Names the entity tag that the whole would have had, which is a weak one where it would have been compressed."""
    stored = {name: headers[name] for name in NEWS if name in headers}
    least = gzip_from(headers_of(request.scope))
    if least is not None and "ETag" in stored and size >= least and is_compressible(media_type) and "Content-Encoding" not in headers:
        stored["ETag"] = weak(stored["ETag"])
    return Response(None, HTTPStatus.NOT_MODIFIED, stored)


def last_modified(timestamp: float) -> str:
    """In seconds since 1970, as a header field has it."""
    return format_datetime(datetime.fromtimestamp(int(timestamp), UTC), usegmt=True)


def weak(etag: str) -> str:
    return etag if etag.startswith("W/") else f"W/{etag}"


class Representation:
    """Bytes that stay in memory, such as a page: compressed once, and not for each request."""

    def __init__(self, body: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        """`headers` may have validators; without an entity tag the body gives one."""
        self.body, self.media_type = body, media_type
        self.headers = {"ETag": f'"{blake2b(body, digest_size=12).hexdigest()}"', "Accept-Ranges": "bytes", **headers}

    def respond(self, request: Request) -> Response:
        try:
            part = select_part(request, self.headers, len(self.body))
        except Refused as error:
            return refusal_response(error, request.url.path)
        if part.status is HTTPStatus.NOT_MODIFIED:
            return not_modified(request, self.headers, media_type=self.media_type, size=len(self.body))
        if part.span:
            headers = self.headers | {"Content-Range": part.span.content_range}
            return Response(self.body[part.span.start : part.span.end], part.status, headers, self.media_type)
        return self._whole(request)

    def _whole(self, request: Request) -> Response:
        least = gzip_from(headers_of(request.scope))
        if least is None or len(self.body) < least or not is_compressible(self.media_type) or "Content-Encoding" in self.headers:
            return Response(self.body, 200, self.headers, self.media_type)
        headers = self.headers | {"Content-Encoding": "gzip", "ETag": weak(self.headers["ETag"])}
        return Response(self._gzipped, 200, headers, self.media_type)

    @cached_property
    def _gzipped(self) -> bytes:
        return gzip.compress(self.body, LEVEL, mtime=0)
