"""GraphQL over HTTP: POST, QUERY (RFC 10008) and, for queries, GET, as the GraphQL-over-HTTP specification defines them.

Reads a request, asks the pipeline, writes the response. It must never decide what a caller may see or spend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from typing import NamedTuple

from graphql import OperationType
from starlette.types import ASGIApp, Receive, Scope, Send

from graph.kit.auth import Caller
from graph.kit.errors import (
    BAD_USER_INPUT,
    COST_EXCEEDED,
    DOCUMENT_NOT_FOUND,
    FORBIDDEN,
    INTERNAL,
    PARSE_FAILED,
    RATE_LIMITED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    VALIDATION_FAILED,
    Refused,
    refusal,
)
from graph.kit.execution.engine import Operation
from graph.server.asgi.deadline import OPERATION_SECONDS, Deadline
from graph.server.asgi.error_responses import PRECONDITION_FAILED
from graph.server.asgi.origins import Origins
from graph.server.asgi.request_body import LAST, PADDING, BodyTooLarge, BodyTooSlow, ClientGone, announced_bytes, read_whole
from graph.server.asgi.request_headers import RequestHeaders, headers_of, text
from graph.server.auth.callers import SCOPE_KEY, Callers, anonymous
from graph.server.graphql import requests
from graph.server.graphql.budget import BODY_BYTES_INCLUDED, HELD_SECONDS
from graph.server.graphql.pipeline import EncodedResponse, Pipeline, refused_body
from graph.server.graphql.requests import GraphQLRequest
from graph.server.graphql.subscriptions.sse import EventStreams
from graph.server.representations import conditional_requests, content_negotiation


class StatusCodes(NamedTuple):
    """For a client that reads application/graphql-response+json, and for one that reads only application/json."""

    modern: int
    legacy: int


# Of responses without `data`. A response with `data` is 200, with or without errors, where the text of September 2026 would
# have 294 for the second. Where the audits (first column; second in brackets) and the newer text differ, the audits hold:
#
#                              audits       newer text
#   document does not parse    400 (200)    400
#   document does not validate 400 (200)    422
#   unknown operation          400          422
#   variables do not coerce    400 (200)    422
#   request not well formed    400          422           (`HttpRefusal` below: 400 for both kinds of client)
#
# For the rest there is no audit. The older clients' 200 goes only to what they would otherwise lose: Apollo's protocol for
# documents by hash is spoken in bodies, and a client that reads only application/json throws a 4xx body away.
STATUSES = {
    PARSE_FAILED: StatusCodes(400, 200),
    VALIDATION_FAILED: StatusCodes(400, 200),
    BAD_USER_INPUT: StatusCodes(400, 200),
    DOCUMENT_NOT_FOUND: StatusCodes(400, 200),
    COST_EXCEEDED: StatusCodes(400, 400),
    UNAUTHENTICATED: StatusCodes(401, 401),
    FORBIDDEN: StatusCodes(403, 403),
    RATE_LIMITED: StatusCodes(429, 429),
    INTERNAL: StatusCodes(500, 500),
    UNAVAILABLE: StatusCodes(503, 503),
}


@dataclass(frozen=True, slots=True)
class ReplayHint:
    """A request whose answer is the same for every caller."""

    question_hash: str
    operation: Operation
    request: GraphQLRequest
    media_type: str


# What the endpoint leaves for `ResponseReplay` in the state of a request, and what that leaves in its scope for the endpoint.
REPLAY_HINT = "replay_hint"
CACHE_KEY = "cache_key"
METHODS = ("GET", "HEAD", "POST", "QUERY")
_SAFE_METHODS = frozenset({"GET", "HEAD", "QUERY"})
_URL_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a body may take. An anonymous caller cannot write, so needs no room for a bulk of 10,000 items."""

    bytes: int = 65_536
    bytes_signed_in: int = 4_194_304
    seconds: float = 30.0


class HttpRefusal(Exception):
    """Refused as HTTP, before there was a GraphQL request: the status does not follow from the code."""

    def __init__(self, status: HTTPStatus, message: str, *, code: str = BAD_USER_INPUT, **headers: str) -> None:
        super().__init__(message)
        self.status = int(status)
        self.refused = refusal(code, message, headers={name.replace("_", "-"): value for name, value in headers.items()})


class HttpEndpoint:
    """The ASGI application behind `/graphql` for everything but WebSockets; `page` answers a browser that asks nothing."""

    def __init__(
        self,
        pipeline: Pipeline,
        callers: Callers,
        origins: Origins,
        streams: EventStreams,
        *,
        page: ASGIApp | None = None,
        limits: HttpLimits | None = None,
        seconds: float = OPERATION_SECONDS,
    ) -> None:
        self._pipeline, self._callers, self._origins, self._streams = pipeline, callers, origins, streams
        self._page, self._limits, self._seconds = page, limits or HttpLimits(), seconds
        self._recent = requests.RecentRequests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        accept = content_negotiation.negotiate(text(headers, b"accept"))
        if self._page and accept.page and scope["method"] in _URL_METHODS and requests.asks_nothing(scope["query_string"]):
            await self._page(scope, receive, send)
            return
        media_type = accept.result or content_negotiation.JSON
        try:
            await self._serve(scope, receive, send, headers, accept)
        except Refused as refused:
            await refuse(send, refused, media_type)
        except HttpRefusal as error:
            await self._refuse(scope, send, error, media_type)
        except ClientGone:
            pass

    async def _refuse(self, scope: Scope, send: Send, error: HttpRefusal, media_type: str) -> None:
        """Whoever has no points for it is held up: a connection that waits asks nothing else."""
        try:
            await self._pipeline.charge_refusal(scope.get(SCOPE_KEY) or anonymous(scope))
        except Refused as no_points:
            await asyncio.sleep(HELD_SECONDS)
            await refuse(send, no_points, media_type)
        else:
            await _write(send, error.status, media_type, refused_body(error.refused), error.refused.headers)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: RequestHeaders, accept: content_negotiation.AcceptedMediaTypes
    ) -> None:
        self._check(scope["method"], headers, accept)
        with Deadline(self._seconds) as deadline:
            caller = await self._callers.identify(scope)
            deadline.suspend()
            request = await self._request(scope, receive, headers, caller)
            deadline.extend()
            try:
                operation = await self._pipeline.prepare(request, caller)
            except Refused as refused:
                if accept.result:
                    raise
                await self._streams.refuse(refused, send)
                return
            answer = await self._answer(operation, request, caller, scope, receive, accept, deadline)
        if answer is not None and accept.result:
            await _respond(scope, send, accept.result, answer)
        elif accept.stream:
            await self._streams.serve(operation, request, caller, scope, receive, send)
        else:
            raise HttpRefusal(HTTPStatus.NOT_ACCEPTABLE, "A subscription needs Accept: text/event-stream, or a WebSocket.")

    async def _answer(
        self,
        operation: Operation,
        request: GraphQLRequest,
        caller: Caller,
        scope: Scope,
        receive: Receive,
        accept: content_negotiation.AcceptedMediaTypes,
        deadline: Deadline,
    ) -> EncodedResponse | None:
        """None for what is to be streamed."""
        if operation.kind is OperationType.MUTATION and scope["method"] in _SAFE_METHODS:
            raise HttpRefusal(HTTPStatus.METHOD_NOT_ALLOWED, "A mutation needs POST.", Allow="POST")
        if not accept.result or operation.kind is OperationType.SUBSCRIPTION:
            return None
        if operation.kind is OperationType.QUERY:
            self._recent.store(request)
            deadline.watch(receive)
        answer = await self._pipeline.run(operation, request, caller, scope.pop(CACHE_KEY, None))
        if answer.question_hash and request.body is not None:
            scope["state"][REPLAY_HINT] = ReplayHint(answer.question_hash, operation, request, accept.result)
        return answer

    def _check(self, method: str, headers: RequestHeaders, accept: content_negotiation.AcceptedMediaTypes) -> None:
        """Refuse what needs no look at the body."""
        if method != "POST" and method not in _SAFE_METHODS:
            raise HttpRefusal(HTTPStatus.METHOD_NOT_ALLOWED, f"Use one of {', '.join(METHODS)}.", Allow=", ".join(METHODS))
        if not self._origins.permit(headers):
            raise HttpRefusal(HTTPStatus.FORBIDDEN, "Pages of that origin may not ask here.", code=FORBIDDEN)
        if accept.result is None and not accept.stream:
            offered = f"{content_negotiation.GRAPHQL_RESPONSE}, {content_negotiation.JSON} or {content_negotiation.EVENT_STREAM}"
            raise HttpRefusal(HTTPStatus.NOT_ACCEPTABLE, f"Accept must allow {offered}.")
        content_type = text(headers, b"content-type")
        if (content_type is not None or method not in _URL_METHODS) and not content_negotiation.is_json(content_type):
            raise HttpRefusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json in UTF-8.", Accept_Query=content_negotiation.JSON
            )
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            # A few compressed kilobytes can be gigabytes: we would rather not find out.
            raise HttpRefusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed.", Accept_Encoding="identity")

    async def _request(self, scope: Scope, receive: Receive, headers: RequestHeaders, caller: Caller) -> GraphQLRequest:
        try:
            if scope["method"] in _URL_METHODS:
                return requests.from_query_string(scope["query_string"])
            try:
                body = await self._body(receive, headers, caller)
            except (HttpRefusal, ClientGone):
                self._pipeline.take_padding(caller, scope.get(PADDING, 0))
                raise
            if (padding := scope.get(PADDING, 0)) > BODY_BYTES_INCLUDED:
                await self._pipeline.charge_padding(caller, padding)
            return self._recent.get(body) or requests.from_json(await self._pipeline.read(body, caller), body)
        except requests.Malformed as error:
            raise HttpRefusal(HTTPStatus.BAD_REQUEST, str(error)) from error

    async def _body(self, receive: Receive, headers: RequestHeaders, caller: Caller) -> bytes:
        limit = self._limits.bytes_signed_in if caller.principal else self._limits.bytes
        try:
            return await read_whole(receive, announced_bytes(headers), limit=limit, seconds=self._limits.seconds)
        except BodyTooLarge as error:
            raise HttpRefusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have {limit} bytes at most.") from error
        except BodyTooSlow as error:
            message = f"The body took longer than {self._limits.seconds:.0f} s."
            raise HttpRefusal(HTTPStatus.REQUEST_TIMEOUT, message, **LAST) from error


async def refuse(send: Send, refused: Refused, media_type: str) -> None:
    status = STATUSES.get(refused.code, StatusCodes(400, 400))
    code = status.modern if media_type == content_negotiation.GRAPHQL_RESPONSE else status.legacy
    await _write(send, code, media_type, refused_body(refused), refused.headers)


async def _respond(scope: Scope, send: Send, media_type: str, answer: EncodedResponse) -> None:
    """Write an answer, or 304 where the client already has it. Only an answer that anybody may see can be kept on the way, or by a browser.

    A cache must revalidate it each time (`no-cache`), so that the next request sees a change.
    """
    if not answer.public or scope["method"] not in _SAFE_METHODS:
        await _write(send, 200, media_type, answer.body, answer.headers)
        return
    etag = f'"{blake2b(answer.body, digest_size=12).hexdigest()}"'
    fields = answer.headers | {"ETag": etag, "Cache-Control": "public, no-cache"}
    # QUERY is as safe as GET; the conditions know only the methods of RFC 9110.
    outcome = conditional_requests.evaluate("GET", headers_of(scope), conditional_requests.Validators(etag))
    if outcome is HTTPStatus.NOT_MODIFIED:
        await _write(send, 304, None, b"", fields)
    elif outcome is HTTPStatus.PRECONDITION_FAILED:
        raise HttpRefusal(outcome, "It is not the answer that If-Match names any more.", code=PRECONDITION_FAILED, ETag=etag)
    else:
        await _write(send, 200, media_type, answer.body, fields)


async def _write(send: Send, status: int, media_type: str | None, body: bytes, more: Mapping[str, str]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields(media_type, body, more)})
    await send({"type": "http.response.body", "body": body})


def fields(media_type: str | None, body: bytes, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The header of a response; without a media type it has no body."""
    found: list[tuple[bytes, bytes]] = [content_negotiation.VARY] if "Cache-Control" in more else [content_negotiation.VARY, _PRIVATE]
    if more:
        found += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in more.items()]
    if media_type:
        found += [_CONTENT_TYPES[media_type], (b"content-length", b"%d" % len(body))]
    return found


_PRIVATE = (b"cache-control", b"private, no-store")
_CONTENT_TYPES = {
    name: (b"content-type", f"{name}; charset=utf-8".encode()) for name in (content_negotiation.GRAPHQL_RESPONSE, content_negotiation.JSON)
}
