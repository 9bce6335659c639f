"""Serves a cached public response to a byte-identical request without parsing the request again.

Whoever asks is identified, charged, counted and logged as ever, and the answer is looked up under the present versions of its tables. What is saved is
to read the request, to find its document and its place, and to compress the answer, all of which came out the same before. Only a body that came
whole in one message is compared: of a longer one, the first part says nothing about the rest.
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
from graph.server.auth import callers
from graph.server.auth.callers import Callers
from graph.server.graphql.http import REPLAY_HINT, ReplayHint, fields, refuse
from graph.server.graphql.pipeline import Pipeline
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.response_cache import CachedResponse
from persistence.kit.lru_cache import LruCache

REPLAY_BYTES = 32 * 2**20  # Of all that is remembered: requests, their answers, also compressed, and their parsed documents.
REQUEST_BYTES = 4_096  # Of a body and the fields that count.

# What an answer may depend on, beside the body and whoever asks.
DEPENDS = frozenset(
    {b"accept", b"accept-encoding", b"content-type", b"content-encoding"}
    | {prefix + name for prefix in (b"graphql-client-", b"apollographql-client-") for name in (b"name", b"version")}
)
BROWSERS = frozenset({b"origin", b"sec-fetch-site"})  # Theirs go the long way, past CORS.

GZIP = ((b"content-encoding", b"gzip"),)

Fields = tuple[tuple[bytes, bytes], ...]
Key = tuple[bytes, Fields]


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
        self._repeats = LruCache[Key, ReplayEntry](REPLAY_BYTES, _size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        depends = _depends(scope) if scope["type"] == "http" and scope["path"] == self._path else None
        message = arrived_message(receive) if depends is not None else None
        if message is None or depends is None:
            await self._app(scope, receive, send)
            return
        key = None if message.get("more_body") else (message.get("body", b""), depends)
        known = None if key is None else self._repeats.get(key)
        if key is None or known is None or not await self._replayed(key, known, scope, send):
            await self._app(scope, _replay(message, receive), send)
            self._remember(key, scope)

    async def _replayed(self, key: Key, repeat: ReplayEntry, scope: Scope, send: Send) -> bool:
        made = repeat.hint
        request = GraphQLRequest(variables=made.request.variables)
        try:
            with Deadline(self._seconds):
                caller = await self._callers.identify(scope, callers.headers_of(scope))
                found = await self._pipeline.replay(made.question_hash, made.operation, request, caller)
        except Refused as refused:
            await refuse(send, refused, made.media_type)
            return True
        if found is not None and await repeat.write(send, *found):
            self._repeats.put(key, repeat)
        return found is not None

    def _remember(self, key: Key | None, scope: Scope) -> None:
        made: ReplayHint | None = scope["state"].pop(REPLAY_HINT, None)
        if made is None or key is None or len(key[0]) + sum(len(value) for _, value in key[1]) > REQUEST_BYTES:
            return
        self._repeats.put(key, ReplayEntry(made, gzip_from(key[1])))


def _size(key: Key, repeat: ReplayEntry) -> int:
    return len(key[0]) + sum(len(value) for _, value in key[1]) + 200 * (1 + len(key[1])) + repeat.size_bytes


def _depends(scope: Scope) -> Fields | None:
    """The fields that an answer may depend on; None for a request that is to go the long way."""
    if scope["method"] != "POST" or scope["query_string"]:
        return None
    found: list[tuple[bytes, bytes]] = []
    for each in scope["headers"]:
        if each[0] in DEPENDS:
            found.append(each)
        elif each[0] in BROWSERS:
            return None
    return tuple(found)


def _replay(message: Message, receive: Receive) -> Receive:
    """Receives a message that was received before, then the rest."""
    pending = [message]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
