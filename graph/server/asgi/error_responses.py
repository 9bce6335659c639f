"""JSON error responses outside GraphQL: one form, the codes, and the one table of their statuses.

Codes that GraphQL has too are spelled alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from graph.kit.errors import BAD_USER_INPUT, FORBIDDEN, INTERNAL, RATE_LIMITED, UNAUTHENTICATED, UNAVAILABLE, Refused
from persistence.files import FilenameTaken, QuotaExceeded
from persistence.kit.blobs.blobs import StorageFull, TooLarge
from persistence.kit.errors import Busy, DomainError, InvalidInput, KeyReused, NotFound, TooManyAttempts

NOT_FOUND = "NOT_FOUND"
BAD_METHOD = "METHOD_NOT_ALLOWED"
TOO_SLOW = "TOO_SLOW"
FILENAME_TAKEN = "FILENAME_TAKEN"
TOO_LARGE = "TOO_LARGE"
UNSUPPORTED = "UNSUPPORTED_MEDIA_TYPE"
NO_SUCH_RANGE = "RANGE_NOT_SATISFIABLE"
PRECONDITION_FAILED = "PRECONDITION_FAILED"
QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
STORAGE_FULL = "STORAGE_FULL"
NOT_IMPLEMENTED = "NOT_IMPLEMENTED"

PRIVATE: Mapping[str, str] = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
"""Of JSON for one caller."""

_STATUSES: Mapping[str, int] = {
    BAD_USER_INPUT: 400,
    UNAUTHENTICATED: 401,
    FORBIDDEN: 403,
    NOT_FOUND: 404,
    BAD_METHOD: 405,
    TOO_SLOW: 408,
    FILENAME_TAKEN: 409,
    TOO_LARGE: 413,
    QUOTA_EXCEEDED: 413,
    UNSUPPORTED: 415,
    PRECONDITION_FAILED: 412,
    NO_SUCH_RANGE: 416,
    KEY_REUSED: 422,
    RATE_LIMITED: 429,
    INTERNAL: 500,
    NOT_IMPLEMENTED: 501,
    UNAVAILABLE: 503,
    STORAGE_FULL: 507,
}
_CODES: Mapping[type[DomainError], str] = {
    InvalidInput: BAD_USER_INPUT,
    NotFound: NOT_FOUND,
    FilenameTaken: FILENAME_TAKEN,
    QuotaExceeded: QUOTA_EXCEEDED,
    KeyReused: KEY_REUSED,
    TooLarge: TOO_LARGE,
    StorageFull: STORAGE_FULL,
    TooManyAttempts: RATE_LIMITED,
    Busy: UNAVAILABLE,
}


def code_of(error: Refused | DomainError) -> str:
    return error.code if isinstance(error, Refused) else _CODES.get(type(error), BAD_USER_INPUT)


def status_of(code: str) -> int:
    return _STATUSES.get(code, 400)


def refusal_response(error: Refused | DomainError, path: str) -> Response:
    if isinstance(error, Refused):
        return error_response(error.code, error.errors[0].message, path, error.headers)
    return error_response(code_of(error), error.message, path)


def error_response(code: str, message: str, path: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"error": {"code": code, "message": message}, "path": path}
    return json_response(body, status_of(code), headers)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON for one caller."""
    return Response(orjson.dumps(content), status, {**PRIVATE, **(headers or {})}, "application/json")
