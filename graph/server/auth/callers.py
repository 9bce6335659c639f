"""Identifies the caller of a request: its token, address and request id, alike for HTTP, event streams and WebSockets."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.types import Scope

from graph.kit.auth import Caller
from graph.kit.errors import Refused, out_of_service
from graph.server.asgi.request_headers import headers_of, text
from graph.server.auth.tokens import Tokens, bearer
from persistence.kit.transient_errors import is_transient

TOKEN_POINTS = 20  # A refused token has been verified in vain: 0.1 to 0.2 ms.
# Client names become labels of metrics: a bound keeps one client from filling the memory with them.
_NAME_CHARACTERS = 64
_USER_AGENT_CHARACTERS = 300  # Of which an open socket holds one.

SCOPE_KEY = "caller"


class PointsCharger(Protocol):
    """Takes points from a caller's budget."""

    async def pay(self, caller: Caller, points: int) -> object: ...


class Callers:
    """Turns header fields into a `Caller`."""

    def __init__(self, tokens: Tokens, budget: PointsCharger) -> None:
        self._tokens, self._budget = tokens, budget

    async def identify(self, scope: Scope) -> Caller:
        """The caller of a request, once for all parts that ask.

        Raises: Refused, if a token is presented that is not good: it never counts as none. Nor does it while nobody can look it up.
        """
        caller: Caller | None = scope.get(SCOPE_KEY)
        if caller is None:
            caller = scope[SCOPE_KEY] = await self._identify(scope)
        return caller

    async def _identify(self, scope: Scope) -> Caller:
        try:
            return await self.signed_in(anonymous(scope), text(headers_of(scope), b"authorization"))
        except Exception as error:
            if is_transient(error):
                raise out_of_service(error) from error
            raise

    async def signed_in(self, caller: Caller, authorization: str | None) -> Caller:
        """The same caller, as whom an Authorization field proves; an empty field proves nothing. Raises: Refused, which costs the caller points."""
        try:
            token = bearer(authorization)
            principal = None if token is None else await self._tokens.principal(token)
        except Refused:
            # Judged first: an address whose budget others have spent does not keep a good token out.
            await self._budget.pay(caller, TOKEN_POINTS)
            raise
        if principal is None:
            return caller
        return Caller(principal, caller.client_ip, caller.request_id, caller.client_name, caller.client_version, caller.user_agent)


def request_id(scope: Scope) -> str:
    state: dict[str, Any] = scope.get("state") or {}
    return state.get("request_id", "")


def anonymous(scope: Scope) -> Caller:
    headers = headers_of(scope)
    client: tuple[str, int] | None = scope.get("client")
    return Caller(
        principal=None,
        client_ip=client[0] if client else "",
        request_id=request_id(scope),
        client_name=_name(headers.get(b"graphql-client-name") or headers.get(b"apollographql-client-name")),
        client_version=_name(headers.get(b"graphql-client-version") or headers.get(b"apollographql-client-version")),
        user_agent=_name(headers.get(b"user-agent"), _USER_AGENT_CHARACTERS),
    )


def _name(value: bytes | None, most: int = _NAME_CHARACTERS) -> str | None:
    return value[:most].decode("latin-1") if value else None
