"""The header fields of a request, read once into one immutable mapping that middleware, endpoints and routes share.

ASGI gives a list of pairs: each part that searched it for its own field would read all the others again, and could join repeated ones in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from starlette.types import Scope

RequestHeaders: TypeAlias = Mapping[bytes, bytes]
"""By lower-case name."""

SCOPE_KEY = "request_headers"


def read_headers(lines: Sequence[tuple[bytes, bytes]]) -> RequestHeaders:
    """Repeated fields are joined by a comma (RFC 9110, section 5.2)."""
    fields = dict(lines)
    if len(fields) < len(lines):
        fields = {name: b", ".join(value for other, value in lines if other == name) for name in fields}
    return MappingProxyType(fields)


def headers_of(scope: Scope) -> RequestHeaders:
    """Those of a request, read by the first part that asks."""
    headers: RequestHeaders | None = scope.get(SCOPE_KEY)
    if headers is None:
        headers = scope[SCOPE_KEY] = read_headers(scope["headers"])
    return headers


def text(headers: RequestHeaders, name: bytes) -> str | None:
    """A field's value as text. Bytes beyond ASCII stay recognisable and never fail: RFC 9110, section 5.5, calls them opaque."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
