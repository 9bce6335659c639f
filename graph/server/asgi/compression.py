"""Content coding: which one a client accepts (RFC 9110, section 12.5.3), and gzip compression of responses.

Never where it would break ranges, event streams or strong validators.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi.request_headers import RequestHeaders, headers_of

LEVEL = 5  # Half the time of level 9, for 3 % more bytes of JSON.
THREAD_BYTES = 32 * 1024  # A larger piece takes more than a millisecond, so a thread compresses it.
TEXTS = frozenset({"application/json", "application/javascript", "application/xml", "application/x-ndjson", "image/svg+xml"})
IDENTITY = "identity"
LEAST_BYTES = 512  # A shorter body is not coded, unless its client refuses it as it is.

# No client needs more to say what it reads; without a bound each entry of the caches could hold 64 kB.
_CHARACTERS = 1_000
_OFFER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9a-z-]+)\s*(?:;\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE)
_SYNONYMS = {"x-gzip": "gzip", "x-compress": "compress"}  # Source: RFC 9110, section 8.4.1.


class Compression:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        least = gzip_from(headers_of(scope))
        if least is None:
            await self._plain(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._head(scope, receive, send, least)
        else:
            await self._compressed(scope, receive, send, least)

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For who takes no gzip: nothing passes through Starlette's middleware, which costs as much as a small query."""

        async def announced(message: Message) -> None:
            if message["type"] == "http.response.start":
                _name_variants(message)
            await send(message)

        await self._app(scope, receive, announced)

    async def _head(self, scope: Scope, receive: Receive, send: Send, least: int) -> None:
        """The fields that GET would have, as far as they are known without its body. Source: RFC 9110, section 9.3.2."""

        async def announced(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if message["status"] == HTTPStatus.OK and "content-encoding" not in headers and _compressible(headers, least):
                    headers["Content-Encoding"] = "gzip"
                    del headers["Content-Length"]
                _finish(message)
            await send(message)

        await self._app(scope, receive, announced)

    async def _compressed(self, scope: Scope, receive: Receive, send: Send, least: int) -> None:
        async def judged(scope: Scope, receive: Receive, send: Send) -> None:
            async def judge(message: Message) -> None:
                if message["type"] == "http.response.start" and not _compressible(headers := MutableHeaders(scope=message), least):
                    headers.setdefault("Content-Encoding", "identity")  # Says to the responder: leave it; taken off again below.
                await send(message)

            await self._app(scope, receive, judge)

        async def finished(message: Message) -> None:
            if message["type"] == "http.response.start":
                _finish(message)
            await send(message)

        await GZipResponder(judged, least, LEVEL, thread_minimum_size=THREAD_BYTES)(scope, receive, finished)


def vary(message: Message, by: bytes) -> None:
    """Say that a response depends on this field of the request."""
    headers: list[tuple[bytes, bytes]] = [*message.get("headers", ())]  # A copy: its sender may use the list for other responses.
    message["headers"] = headers
    for place, (name, value) in enumerate(headers):
        if name == b"vary":
            if by.lower() in value.lower():
                return
            headers[place] = name, b"%b, %b" % (value, by)
            return
    headers.append((b"vary", by))


def is_compressible(media_type: str) -> bool:
    """Whether bodies of this type become smaller by gzip."""
    kind = media_type.partition(";")[0].strip().lower()
    return (kind.startswith("text/") and kind != "text/event-stream") or kind in TEXTS or kind.endswith(("+json", "+xml"))


def _compressible(headers: Headers, least: int) -> bool:
    return int(headers.get("content-length", LEAST_BYTES)) >= least and is_compressible(headers.get("content-type", ""))


def _name_variants(message: Message) -> None:
    """`Vary` stands on whatever might have been coded for another client: a short body may be a long one next time, a part or a 304 stands for a whole."""
    message["headers"] = [*message.get("headers", ())]
    headers = MutableHeaders(scope=message)
    if message["status"] == HTTPStatus.NOT_MODIFIED or is_compressible(headers.get("content-type", "")):
        headers.add_vary_header("Accept-Encoding")
    if "vary" in headers:  # Starlette adds a field that the endpoint has named already.
        headers["Vary"] = ", ".join(dict.fromkeys(headers["vary"].split(", ")))


def _finish(message: Message) -> None:
    _name_variants(message)
    headers = MutableHeaders(scope=message)
    encoding = headers.get("content-encoding")
    if encoding == "identity":
        del headers["Content-Encoding"]
    elif encoding == "gzip" and headers.get("etag", "").startswith('"'):
        # The bytes are no longer the file's own: a weak tag keeps them from being joined with a range of it. Source: RFC 9110, section 8.8.3.3.
        headers["ETag"] = f"W/{headers['etag']}"


def choose_coding(accept_encoding: str | None, offered: tuple[str, ...]) -> str:
    """The coding that a client likes best among those offered, which are given best first, or `identity`.

    Whoever refuses all of them and `identity` too gets `identity` nevertheless: an answer that cannot be read tells more than none.
    """
    return IDENTITY if accept_encoding is None else _choose(accept_encoding[:_CHARACTERS], offered)


def gzip_from(headers: RequestHeaders) -> int | None:
    """From how many bytes on a body is sent as gzip to a request with these header fields; None for never."""
    accept_encoding = headers.get(b"accept-encoding")
    return None if accept_encoding is None else _gzip_from(accept_encoding[:_CHARACTERS])


@lru_cache(maxsize=256)
def _gzip_from(accept_encoding: bytes) -> int | None:
    text = accept_encoding.decode("latin-1")
    if _choose(text, ("gzip",)) == IDENTITY:
        return None
    return LEAST_BYTES if _weight(_weights(text), IDENTITY) > 0 else 0


@lru_cache(maxsize=256)
def _choose(accept_encoding: str, offered: tuple[str, ...]) -> str:
    weights = _weights(accept_encoding)
    best = max(offered, key=lambda coding: _weight(weights, coding), default=IDENTITY)  # The first of those that weigh the same.
    weight = _weight(weights, best)
    # Whoever says nothing about `identity` takes it, and asks for something else.
    return best if weight > 0 and (IDENTITY not in weights or weight >= weights[IDENTITY]) else IDENTITY


def _weight(weights: Mapping[str, float], coding: str) -> float:
    return weights.get(coding, weights.get("*", 1.0 if coding == IDENTITY else 0.0))


def _weights(accept_encoding: str) -> dict[str, float]:
    """By coding, in lower case. What is not well formed counts as not sent; of two weights for one coding the smaller counts."""
    weights: dict[str, float] = {}
    for offer in map(_OFFER.fullmatch, accept_encoding.split(",")):
        if offer is not None:
            name = offer[1].lower()
            coding, weight = _SYNONYMS.get(name, name), float(offer[2] or 1)
            weights[coding] = min(weight, weights.get(coding, weight))
    return weights
