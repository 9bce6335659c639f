"""Identifies the caller of a request: its token, address and request id, alike for HTTP, event streams and WebSockets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.types import Scope

from graph.kit.auth import Caller
from graph.kit.errors import Refused, out_of_service
from graph.server.auth.tokens import Tokens, bearer
from persistence.kit.transient_errors import is_transient

Headers = Mapping[bytes, bytes]

TOKEN_POINTS = 3  # A refused token has been verified in vain: some 0.1 ms.
# Client names become labels of metrics: a bound keeps one client from filling the memory with them.
_NAME_CHARACTERS = 64
_USER_AGENT_CHARACTERS = 300  # Of which an open socket holds one.


def headers_of(scope: Scope) -> Headers:
    """Header fields by lower-case name; repeated ones are joined by a comma (RFC 9110, section 5.2)."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) == len(pairs):
        return headers
    return {name: b", ".join(value for other, value in pairs if other == name) for name in headers}


def text(headers: Headers, name: bytes) -> str | None:
    """A field's value as text. Bytes beyond ASCII stay recognisable and never fail: RFC 9110, section 5.5, calls them opaque."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


class Payment(Protocol):
    """Takes points from a caller's budget."""

    async def pay(self, caller: Caller, points: int) -> object: ...


class Callers:
    """Turns header fields into a `Caller`."""

    def __init__(self, tokens: Tokens, budget: Payment) -> None:
        self._tokens, self._budget = tokens, budget

    async def identify(self, scope: Scope, headers: Headers) -> Caller:
        """Raises: Refused, if a token is presented that is not good: it never counts as none. Nor does it while nobody can look it up."""
        try:
            return await self.signed_in(anonymous(scope, headers), text(headers, b"authorization"))
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


def anonymous(scope: Scope, headers: Headers) -> Caller:
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
