"""Parses GraphQL requests from JSON or a query string; a malformed one raises `Malformed` with the reason.

Source: GraphQL over HTTP, sections "Request Parameters", "GET" and "JSON Encoding"; appendix "Persisted Documents".
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl

from persistence.kit.lru_cache import LruCache, retained_bytes
from persistence.kit.parsing import strict_json

_PARAMETERS = frozenset({"query", "operationName", "variables", "extensions", "documentId"})
RECENT_BYTES = 8 * 2**20
RECENT_BODY_BYTES = 4_096  # Longer ones are rarely repeated.
REQUEST_OBJECT_BYTES = 120


@dataclass(slots=True)
class GraphQLRequest:
    """What a client sent, whatever it came in. Values have the right JSON types already; one of the first two names the document."""

    query: str | None = None
    document_id: str | None = None
    operation_name: str | None = None
    variables: Mapping[str, Any] | None = None
    extensions: Mapping[str, Any] | None = None
    body: bytes | None = None
    """The JSON it was read from, if it came alone."""
    received: float = field(default_factory=time.perf_counter, compare=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory: JSON of 4 kB may be objects of 150 kB."""
        parts = (self.query, self.document_id, self.operation_name, self.variables, self.extensions, self.body)
        return REQUEST_OBJECT_BYTES + sum(map(retained_bytes, parts))


class RecentRequests:
    """Requests that came before, byte for byte: whoever polls a query sends the same again and again. At most RECENT_BYTES of them.

    Only queries belong here: a mutation is not repeated, and may carry a password that nothing should keep.
    """

    def __init__(self) -> None:
        self._requests = LruCache[bytes, GraphQLRequest](RECENT_BYTES, lambda _, request: request.size_bytes)

    def get(self, body: bytes) -> GraphQLRequest | None:
        if (known := self._requests.get(body)) is None:
            return None
        # A new one, as each is received at its own time.
        return GraphQLRequest(known.query, known.document_id, known.operation_name, known.variables, known.extensions, body)

    def store(self, request: GraphQLRequest) -> None:
        if request.body is not None and len(request.body) <= RECENT_BODY_BYTES and request.body not in self._requests:
            self._requests.put(request.body, request)


class Malformed(Exception):
    """The client's bytes are not a request. The message is meant for the client and quotes nothing that it sent."""


def parse_json(text: bytes | str) -> object:
    """Read strict JSON: see `persistence.kit.parsing.strict_json`. Raises: Malformed."""
    try:
        return strict_json.loads(text)
    except strict_json.BadJson as error:
        raise Malformed(str(error)) from error


def from_json(value: object, body: bytes | None = None) -> GraphQLRequest:
    """Read the parameters out of a JSON object; null is absent, and other properties are ignored, as the text demands.

    Raises: Malformed.
    """
    if not isinstance(value, dict):
        raise Malformed("The request must be a JSON object.")
    parameters = cast("dict[str, object]", value)
    request = GraphQLRequest(
        query=_text(parameters, "query"),
        operation_name=_text(parameters, "operationName") or None,
        variables=_map(parameters, "variables"),
        extensions=_map(parameters, "extensions"),
        document_id=_text(parameters, "documentId"),
        body=body,
    )
    return _complete(request)


def from_query_string(query_string: bytes) -> GraphQLRequest:
    """Read the parameters of a GET; an empty one is absent, and `variables` and `extensions` are JSON.

    Raises: Malformed.
    """
    parameters: dict[str, object] = {}
    for name, text in _pairs(query_string):
        if name not in _PARAMETERS or not text:
            continue
        if name in parameters:
            raise Malformed(f"The parameter {name} is repeated.")
        parameters[name] = parse_json(text) if name in ("variables", "extensions") else text
    return from_json(parameters)


def asks_nothing(query_string: bytes) -> bool:
    """Whether a URL is only the endpoint's address, with no request in it."""
    try:
        return not any(name in _PARAMETERS and text for name, text in _pairs(query_string))
    except Malformed:
        return False


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise Malformed("The query string cannot be read.") from error


def _text(parameters: dict[str, object], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"The parameter {name} must be a string.")
    return value


def _map(parameters: dict[str, object], name: str) -> Mapping[str, Any] | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, dict):
        raise Malformed(f"The parameter {name} must be a JSON object.")
    return cast("dict[str, Any] | None", value)


def _complete(request: GraphQLRequest) -> GraphQLRequest:
    if request.query is None and request.document_id is None and "persistedQuery" not in (request.extensions or ()):
        raise Malformed("The parameter query is missing.")
    return request
