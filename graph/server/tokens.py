"""Access tokens: signed, short-lived, and checked against the user's present standing."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

from graph.kit.access import Principal, Scope
from graph.kit.errors import UNAUTHENTICATED, Refused, refusal
from persistence import users
from persistence.kit.columns import utc_now
from persistence.kit.database import Database

ALGORITHM = "HS256"
ISSUER = "storegraph"
AUDIENCE = "storegraph"
ACCESS = "access"
ACCESS_MINUTES = 30
TOKEN_LENGTH = 4_096  # Characters; ours have about 500.
LEEWAY_SECONDS = 5  # For machines whose clocks differ.


@dataclass(frozen=True)
class Issued:
    token: str
    expires_in: int


class Tokens:
    def __init__(self, database: Database, signing_key: bytes) -> None:
        self._database, self._key = database, signing_key

    def issue(self, user_id: int, scopes: Collection[Scope], *, family: str | None = None) -> Issued:
        now = utc_now()
        claims = {
            "sub": str(user_id),
            "scopes": sorted(scope.value for scope in scopes),
            "iat": now,
            "exp": now + timedelta(minutes=ACCESS_MINUTES),
            "jti": secrets.token_urlsafe(16),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "typ": ACCESS,
        }
        return Issued(jwt.encode(claims, self._key, ALGORITHM), ACCESS_MINUTES * 60)

    async def principal(self, token: str) -> Principal:
        """Who presents this token. Raises: Refused UNAUTHENTICATED, with one answer for every reason."""
        try:
            claims = jwt.decode(
                token[: TOKEN_LENGTH + 1],
                self._key,
                [ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": ["sub", "exp", "iat", "jti", "iss", "aud", "scopes", "typ"]},
            )
            scopes = frozenset(Scope(scope) for scope in claims["scopes"])
            user_id, expires_at = int(claims["sub"]), datetime.fromtimestamp(claims["exp"], UTC)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise bad_token() from error
        if claims["typ"] != ACCESS or len(token) > TOKEN_LENGTH:
            raise bad_token()
        async with self._database.reading() as session:
            user = (await users.by_id(session, [user_id])).get(user_id)
        if user is None or not user.is_active:
            raise bad_token()
        held = scopes & {Scope(scope) for scope in user.scopes}
        return Principal(user.id, user.username, frozenset(held), expires_at, claims["jti"])


def bad_token() -> Refused:
    return refusal(
        UNAUTHENTICATED,
        "The token is not valid or has expired: get a new one with the mutation `token` or `refreshToken`.",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


def bearer(header: str | None) -> str | None:
    """The token in an Authorization header; None without one. Raises: Refused, if there is another scheme or no token. Source: RFC 6750."""
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise bad_token()
    return token.strip()
