"""gzip compression of responses, except where it would break ranges, event streams or strong validators."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi.codings import LEAST_BYTES, gzip_from

LEVEL = 5  # Half the time of level 9, for 3 % more bytes of JSON.
THREAD_BYTES = 32 * 1024  # A larger piece takes more than a millisecond, so a thread compresses it.
TEXTS = frozenset({"application/json", "application/javascript", "application/xml", "application/x-ndjson", "image/svg+xml"})


class Compression:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        least = gzip_from(scope["headers"])
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
