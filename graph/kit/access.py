"""Who is asking, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import strawberry


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
