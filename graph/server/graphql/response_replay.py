"""Serves a cached public response to a byte-identical request without parsing the request again.

The caller is identified, charged, counted and logged as for any request, and the response is looked up under the present versions of its tables.
What is saved is parsing the request, finding its document and cache key, and compressing the response. Only a body that arrived whole, in one
message, is compared: the first part of a longer one says nothing about the rest.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.kit.errors import Refused
from graph.server.asgi.compression import LEVEL, gzip_from
from graph.server.asgi.deadline import OPERATION_SECONDS, Deadline
from graph.server.asgi.request_body import arrived_message
from graph.server.asgi.request_headers import headers_of
from graph.server.auth.callers import Callers
from graph.server.graphql.http import CACHE_KEY, REPLAY_HINT, ReplayHint, fields, refuse
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.response_cache import CachedResponse
from persistence.kit.lru_cache import LruCache

REPLAY_BYTES = 32 * 2**20  # Of all that is remembered: requests, their answers, also compressed, and their parsed documents.
REQUEST_BYTES = 4_096  # Of a body and the fields that count.

# Header fields that an answer may depend on, beside the body and the caller.
VARYING = (
    b"accept",
    b"accept-encoding",
    b"content-type",
    b"content-encoding",
    *[prefix + name for prefix in (b"graphql-client-", b"apollographql-client-") for name in (b"name", b"version")],
)

_NOT_REPLAYED = frozenset({b"origin", b"sec-fetch-site", b"expect"})

GZIP = ((b"content-encoding", b"gzip"),)

Fields = tuple[tuple[bytes, bytes], ...]
Key = tuple[bytes | None, ...]
"""The body, and the values of VARYING."""


@dataclass(slots=True)
class ReplayEntry:
    """A request, and the bytes of its latest answer."""

    hint: ReplayHint
    gzip_from: int | None
    _cached: CachedResponse | None = None
    _body: bytes = b""
    _encoding: Fields = ()

    @property
    def size_bytes(self) -> int:
        """What it keeps in memory. Its document and answer may be in other caches too, but may have left them."""
        answer = len(self._cached or b"") + (len(self._body) if self._encoding else 0)
        return self.hint.operation.size_bytes + self.hint.request.size_bytes + answer

    async def write(self, send: Send, cached: CachedResponse, more: Mapping[str, str]) -> bool:
        """Whether the answer is another than last time."""
        changed = cached is not self._cached
        if changed:
            self._cached, self._body, self._encoding = cached, cached.body, ()
            if self.gzip_from is not None and len(cached) >= self.gzip_from:
                self._body, self._encoding = gzip.compress(cached.body, LEVEL), GZIP
        headers = [*fields(self.hint.media_type, self._body, more), *self._encoding]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})
        return changed


class ResponseReplay:
    """Remembers at most REPLAY_BYTES."""

    def __init__(self, app: ASGIApp, path: str, pipeline: Pipeline, callers: Callers, seconds: float = OPERATION_SECONDS) -> None:
        self._app, self._path, self._pipeline, self._callers, self._seconds = app, path, pipeline, callers, seconds
        self._entries = LruCache[Key, ReplayEntry](REPLAY_BYTES, _size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = arrived_message(receive) if self._may_replay(scope) else None
        if message is None:
            await self._app(scope, receive, send)
            return
        key = None if message.get("more_body") else (message.get("body", b""), *map(headers_of(scope).get, VARYING))
        known = None if key is None else self._entries.get(key)
        if key is None or known is None or not await self._replayed(key, known, scope, send):
            await self._app(scope, _replay(message, receive), send)
            self._remember(key, scope)

    def _may_replay(self, scope: Scope) -> bool:
        """Not a browser's request to another site: those pass CORS; and not one that waits to be told whether its body is wanted."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST" or scope["query_string"]:
            return False
        headers = headers_of(scope)
        return not headers.keys() & _NOT_REPLAYED

    async def _replayed(self, key: Key, entry: ReplayEntry, scope: Scope, send: Send) -> bool:
        hint = entry.hint
        request = GraphQLRequest(variables=hint.request.variables)
        try:
            with Deadline(self._seconds):
                caller = await self._callers.identify(scope)
                cache_key = await self._pipeline.cache_key(hint.question_hash, hint.operation)
                found = None if cache_key is None else await self._pipeline.replay(cache_key, hint.operation, request, caller)
        except Refused as refused:
            await refuse(send, refused, hint.media_type)
            return True
        if found is None:
            scope[CACHE_KEY] = cache_key
        elif await entry.write(send, *found):
            self._entries.put(key, entry)
        return found is not None

    def _remember(self, key: Key | None, scope: Scope) -> None:
        hint: ReplayHint | None = scope["state"].pop(REPLAY_HINT, None)
        if hint is None or key is None or _bytes(key) > REQUEST_BYTES:
            return
        self._entries.put(key, ReplayEntry(hint, gzip_from(headers_of(scope))))


def _size(key: Key, entry: ReplayEntry) -> int:
    return _bytes(key) + 100 * len(key) + entry.size_bytes


def _bytes(key: Key) -> int:
    return sum(len(part or b"") for part in key)


def _replay(message: Message, receive: Receive) -> Receive:
    """Receives a message that was received before, then the rest."""
    pending = [message]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
