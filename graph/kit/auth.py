"""Authentication types: scopes, principals, callers, and the interface of access tokens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Protocol

import strawberry

from persistence.kit.idempotency import caller_of

TOKEN_LENGTH = 4_096  # Characters of an access token at most; ours have about 500.


@strawberry.enum(description="A permission that a token carries. A field that needs some says so with `@requiresScopes`.")
class Scope(Enum):
    ITEMS_READ = "items:read"
    ITEMS_WRITE = "items:write"
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    AUDIT_READ = "audit:read"


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in user, as a verified token and the user's present status describe them."""

    user_id: int
    username: str
    scopes: frozenset[Scope]
    expires_at: datetime
    token_id: str
    family: str | None = None


@lru_cache(maxsize=4_096)
def network(address: str) -> str:
    """An address to count a client by. An IPv6 client has a network of 2**64 of them, which count as one. Source: RFC 6177."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))
    return str(parsed)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: a signed-in user, or an anonymous client at an address."""

    principal: Principal | None
    client_ip: str
    request_id: str
    client_name: str | None = None
    client_version: str | None = None
    user_agent: str | None = None

    @property
    def key(self) -> str:
        """The caller key: the one answer to "whose is this" for budgets, limits, caps of connections and idempotency keys.

        It is the user, or else the network that the request comes from.
        """
        return caller_of(self.principal.user_id) if self.principal else self.network_key

    @property
    def network_key(self) -> str:
        """The same before the caller has proved to be a user."""
        return f"ip:{network(self.client_ip)}"

    @property
    def keys(self) -> tuple[str, ...]:
        """All by which a later request may turn out to be the same caller's: whoever signs up has no user yet."""
        return (self.network_key, self.key) if self.principal else (self.network_key,)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a verified token says of itself, whatever its user may do by now."""

    user_id: int
    scopes: frozenset[Scope]
    expires_at: datetime
    token_id: str
    family: str | None


class AccessTokens(Protocol):
    """The port through which mutations give out access tokens and look into them."""

    lifetime_seconds: int

    def issue(self, user_id: int, scopes: Collection[Scope], *, family: str | None = None) -> str: ...

    def read(self, token: str) -> AccessToken | None:
        """None for a token that is not ours or has expired."""
        ...
