"""REST routes: the caller, scope, rate limit, budget and error form that every route shares."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from graph.kit.auth import Caller, Scope
from graph.kit.context import Context, Services
from graph.kit.errors import BAD_USER_INPUT, FORBIDDEN, INTERNAL, UNAUTHENTICATED, Refused, out_of_service, refusal
from graph.kit.limits.rate_limits import RateLimitRule
from graph.kit.limits.route_rate_limiter import RouteLimit, RouteRateLimiter
from graph.server.asgi.deadline import OPERATION_SECONDS, Deadline
from graph.server.asgi.error_responses import BAD_METHOD, NOT_FOUND, error_response, refusal_response
from graph.server.asgi.origins import Origins
from graph.server.asgi.request_body import PADDING, Body, ClientGone
from graph.server.asgi.request_headers import headers_of
from graph.server.auth.callers import Callers, anonymous
from graph.server.graphql.budget import ANSWER_BYTES_A_POINT, HELD_SECONDS, BudgetService, receiving_points
from persistence.kit.database.replica import reading_as
from persistence.kit.errors import DomainError
from persistence.kit.transient_errors import is_transient

log = structlog.get_logger(__name__)

RECEIVED_BYTES_A_POINT = 32_768  # Bytes of a file pass through as they are.
PAGE_POINTS = 20  # A page or a part of one leaves from memory: half a millisecond with all around it.

Endpoint = Callable[[Request, Context], Awaitable[Response]]


class Routes:
    """Makes routes. Each knows its caller before it begins, and whatever it refuses leaves in one form."""

    def __init__(
        self,
        services: Services,
        callers: Callers,
        origins: Origins,
        limiter: RouteRateLimiter,
        limits: BudgetService,
        *,
        seconds: float = OPERATION_SECONDS,
    ) -> None:
        """`seconds` from the last byte of a request to the beginning of its answer."""
        self.seconds = seconds
        self._services, self._callers, self._origins, self._limiter = services, callers, origins, limiter
        self.limits = limits

    def route(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        scope: Scope | None,
        limit: RateLimitRule,
        points: int,
        bytes_a_point: int = ANSWER_BYTES_A_POINT,
        methods: Sequence[str] = ("GET",),
    ) -> Route:
        """Without a `scope` any token will do.

        `points` are charged to the caller's budget before the work, and 1 for each `bytes_a_point` of the response, where that is more; so are 1 for each
        RECEIVED_BYTES_A_POINT of the request, and 2 for each of many small pieces that it comes in.
        """
        price = _Price(points, bytes_a_point)
        return Route(path, _RouteHandler(self, endpoint, scope, self._limiter.limiter(endpoint.__name__, limit), price), methods=methods)

    async def context(self, request: Request, scope: Scope | None) -> Context:
        """Raises: Refused, unless the caller may use the route."""
        if not self._origins.permit(headers_of(request.scope)):
            raise refusal(FORBIDDEN, "Pages of that origin may not ask here.")
        caller = await self._callers.identify(request.scope)
        require(caller, scope)
        return Context.fresh(self._services, caller, cache=False)


@dataclass(frozen=True, slots=True)
class _Price:
    points: int
    bytes_a_point: int


class _MeteredSend:
    """Charges for the bytes of a response as they are sent: of a stream nobody knows before how long it is. The budget may fall below zero."""

    def __init__(self, send: Send, limits: BudgetService, caller: Caller, price: _Price) -> None:
        self._send, self._limits, self._caller, self._price = send, limits, caller, price
        self._bytes, self._charged = 0, price.points

    async def __call__(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))  # Before compression, which puts its own in their place.
        await self._send(message)
        if (due := self._bytes // self._price.bytes_a_point - self._charged) > 0:
            self._limits.take(self._caller, due)
            self._charged += due


class _RouteHandler:
    def __init__(self, rest_routes: Routes, endpoint: Endpoint, scope: Scope | None, limit: RouteLimit, price: _Price) -> None:
        self._routes, self._endpoint, self._scope, self._limit, self._price = rest_routes, endpoint, scope, limit, price

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        body = Body(receive)
        request = Request(scope, body.receive)
        try:
            response, caller = await self._answer(request, body)
        except ClientGone:
            return
        if caller is not None:
            send = _MeteredSend(send, self._routes.limits, caller, self._price)
        await response(scope, receive, send)

    async def _answer(self, request: Request, body: Body) -> tuple[Response, Caller | None]:
        """And whose budget pays for its bytes: of a refusal, nobody's."""
        try:
            with Deadline(self._routes.seconds) as body.deadline:
                context = await self._routes.context(request, self._scope)
                await self._limit(request, context.caller)
                try:
                    with reading_as(*context.caller.keys):
                        return await self._charged(request, context), context.caller
                finally:
                    due = body.received // RECEIVED_BYTES_A_POINT + receiving_points(request.scope.get(PADDING, 0))
                    self._routes.limits.take(context.caller, due - self._price.points)
        except (Refused, DomainError) as error:
            return refusal_response(error, request.url.path), None
        except ClientGone:
            raise
        except Exception as error:
            if is_transient(error):
                return refusal_response(out_of_service(error), request.url.path), None
            log.exception("unexpected error on a route", path=request.url.path)
            return error_response(INTERNAL, f"Internal error. Request id: {request.state.request_id}", request.url.path), None
        finally:
            body.deadline = None

    async def _charged(self, request: Request, context: Context) -> Response:
        figures = await self._routes.limits.charge_fixed(context.caller, self._price.points)
        response = await self._endpoint(request, context)
        response.headers.update(figures)
        return response


class _Metered:
    def __init__(self, app: ASGIApp, limits: BudgetService) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        try:
            await self._limits.charge_fixed(anonymous(scope), PAGE_POINTS)
        except Refused as error:
            await asyncio.sleep(HELD_SECONDS)
            await refusal_response(error, scope["path"])(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def metered(route: Route, limits: BudgetService) -> Route:
    """A public route: each request is charged to the budget of its client's network."""
    return Route(route.path, _Metered(route.app, limits), methods=sorted(route.methods or ()))


def require(caller: Caller, scope: Scope | None) -> None:
    """Raises: Refused, without a token or without the scope."""
    if caller.principal is None:
        raise refusal(UNAUTHENTICATED, "Sign in first: send Authorization: Bearer TOKEN.", headers={"WWW-Authenticate": "Bearer"})
    if scope is not None and scope not in caller.principal.scopes:
        challenge = f'Bearer error="insufficient_scope", scope="{scope.value}"'
        raise refusal(FORBIDDEN, f"Your token lacks {scope.value}.", headers={"WWW-Authenticate": challenge})


class UnroutedResponse:
    """Answers for paths and methods that no route has: charged too, as looking for a route costs what a page does."""

    def __init__(self, limits: BudgetService) -> None:
        self._limits = limits

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        try:
            await self._limits.charge_fixed(anonymous(request.scope), PAGE_POINTS)
        except Refused as no_points:
            await asyncio.sleep(HELD_SECONDS)
            return refusal_response(no_points, request.url.path)
        if request.scope["path"] == "*":  # Which only `OPTIONS *` has: about the server, which has nothing to say of itself.
            return Response(status_code=HTTPStatus.NO_CONTENT)  # Source: RFC 9110, section 9.3.7.
        codes = {HTTPStatus.NOT_FOUND: NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED: BAD_METHOD}
        absent = error.status_code == HTTPStatus.NOT_FOUND
        message = "There is nothing at this address." if absent else "This address has other methods: see Allow."
        return error_response(codes.get(HTTPStatus(error.status_code), BAD_USER_INPUT), message, request.url.path, error.headers)
