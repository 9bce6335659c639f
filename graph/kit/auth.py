"""Who is asking, and what they may do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

import strawberry

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
    """A signed-in user, as a verified token and the user's present standing describe them."""

    user_id: int
    username: str
    scopes: frozenset[Scope]
    expires_at: datetime
    token_id: str
    family: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request: perhaps signed in, always from somewhere."""

    principal: Principal | None
    client_ip: str
    request_id: str
    client_name: str | None = None
    client_version: str | None = None

    @property
    def name(self) -> str:
        """Keeps one caller's keys and budgets apart from another's."""
        return f"user:{self.principal.user_id}" if self.principal else f"ip:{self.client_ip}"

    @property
    def names(self) -> tuple[str, ...]:
        """All by which a later request may turn out to be the same caller's: whoever signs up has no user yet."""
        return (f"ip:{self.client_ip}", *((f"user:{self.principal.user_id}",) if self.principal else ()))


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
