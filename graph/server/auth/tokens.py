"""Access tokens (JWT): issued, verified, and checked against the user's current status.

Each token's signature is verified once, and its status (revoked, ended, scopes of its user) is read from the database at most every half second, so a
request with a known token costs two look-ups in memory. A change made by this process counts at once, one made by another within half a second.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from graph.kit.auth import TOKEN_LENGTH, AccessToken, Principal, Scope
from graph.kit.errors import UNAUTHENTICATED, Refused, refusal
from graph.kit.global_ids import ID_BOUND
from persistence import logins
from persistence.kit.column_types import utc_now
from persistence.kit.database.database import Change, Database
from persistence.kit.lru_cache import LruCache
from persistence.kit.query.batching import Batcher
from persistence.logins import TokenClaims, TokenRefusal, TokenStatus

ALGORITHM = "HS256"
ISSUER = "storegraph"
AUDIENCE = "storegraph"
ACCESS = "access"
ACCESS_SECONDS = 30 * 60
LEEWAY_SECONDS = 5  # For machines whose clocks differ.
STATUS_SECONDS = 0.5  # Open connections look every half second too: together a change reaches them within a second.
TOKENS_AT_ONCE = 10_000  # Of one statement: some 20 ms.
KNOWN_BYTES = 8 * 2**20  # Some 4,000 tokens, good or not.
TOKEN_BYTES = 1_500  # What is known of a token, beside its text.

_OPTIONS: Any = {"require": ["sub", "scopes", "iat", "exp", "jti", "iss", "aud", "typ"], "strict_aud": True}


@dataclass(slots=True)
class VerifiedToken:
    """A token whose signature was good, and what it was worth when last looked: nothing without a principal."""

    token: AccessToken
    principal: Principal | None = None
    checked_at: float = -math.inf
    ended: bool = False
    """For good: it was revoked, or its login has ended."""


class Tokens:
    """The first key signs; all of them verify, so that a new key does not sign everybody out."""

    lifetime_seconds = ACCESS_SECONDS

    def __init__(self, database: Database, signing_key: bytes, older_keys: Sequence[bytes] = ()) -> None:
        self._database = database
        self._keys = {key_id(key): key for key in (*older_keys, signing_key)}
        self._current = key_id(signing_key)
        self._known = LruCache[str, VerifiedToken](KNOWN_BYTES, lambda token, _: sys.getsizeof(token) + TOKEN_BYTES)
        self._statuses = Batcher(self._read_statuses, most=TOKENS_AT_ONCE)
        self._changes = 0
        database.listen(self._forget)

    def issue(self, user_id: int, scopes: Collection[Scope], *, family: str | None = None) -> str:
        now = utc_now()
        claims = {
            "sub": str(user_id),
            "scopes": sorted(scope.value for scope in scopes),
            "iat": now,
            "exp": now + timedelta(seconds=ACCESS_SECONDS),
            "jti": secrets.token_urlsafe(16),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "typ": ACCESS,
        }
        if family is not None:
            claims["sid"] = family
        return jwt.encode(claims, self._keys[self._current], ALGORITHM, headers={"kid": self._current})

    def read(self, token: str) -> AccessToken | None:
        """What a token says, if it is ours and has not expired."""
        if len(token) > TOKEN_LENGTH:
            return None
        try:
            return _token(self._claims(token))
        # A header nested too deep for the JSON parser is a RecursionError, a half surrogate a ValueError.
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    async def principal(self, token: str) -> Principal:
        """Who presents this token. Raises: Refused UNAUTHENTICATED, with one answer for every reason."""
        known = self._known.get(token) or self._meet(token)
        if known.ended or known.token.expires_at + timedelta(seconds=LEEWAY_SECONDS) <= utc_now():
            raise bad_token()
        if time.monotonic() - known.checked_at > STATUS_SECONDS:
            await self._check_status(known)
        if known.principal is None:
            raise bad_token()
        return known.principal

    def _claims(self, token: str) -> dict[str, Any]:
        kid = jwt.get_unverified_header(token).get("kid", self._current)
        return jwt.decode(token, self._keys[kid], [ALGORITHM], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_SECONDS, options=_OPTIONS)

    def _meet(self, token: str) -> VerifiedToken:
        read = self.read(token)
        if read is None:
            raise bad_token()
        known = VerifiedToken(read)
        self._known.put(token, known)
        return known

    async def _check_status(self, known: VerifiedToken) -> None:
        """A refusal is kept as well: a token that is worth nothing costs no statement a request."""
        changes, now = self._changes, time.monotonic()
        status = await self._statuses.load(known.token)
        known.principal = _principal(known.token, status)
        known.ended = status is TokenRefusal.ENDED
        # What was read during a change may be older than it: good for this request, not for the next.
        known.checked_at = now if changes == self._changes else -math.inf

    async def principals(self, tokens: Sequence[AccessToken]) -> list[Principal | None]:
        """Who may present these tokens now; None for one that is worth nothing. One statement for a great many."""
        return [_principal(token, status) for token, status in zip(tokens, await self._statuses.many(tokens), strict=True)]

    async def _read_statuses(self, tokens: Sequence[AccessToken]) -> Mapping[AccessToken, TokenStatus | TokenRefusal]:
        claims = [TokenClaims(token.user_id, token.token_id, token.family) for token in tokens]
        async with self._database.reading_latest() as session:
            return dict(zip(tokens, await logins.token_statuses(session, claims), strict=True))

    async def _forget(self, changes: Sequence[Change]) -> None:
        users = {change.subject_id for change in changes if change.kind in {"user.updated", "login.ended"}}
        if users:
            self._changes += 1
            for known in self._known.values():
                if known.token.user_id in users:
                    known.principal, known.checked_at = None, -math.inf


def _principal(token: AccessToken, status: TokenStatus | TokenRefusal | None) -> Principal | None:
    if not isinstance(status, TokenStatus):
        return None
    held = frozenset(scope for scope in token.scopes if scope.value in status.scopes)
    return Principal(token.user_id, status.username, held, token.expires_at, token.token_id, token.family)


def key_id(key: bytes) -> str:
    return hashlib.blake2b(key, digest_size=6, person=b"kid").hexdigest()


def _token(claims: dict[str, Any]) -> AccessToken:
    """Raises: ValueError or TypeError, if a claim is not what we write."""
    user_id = int(claims["sub"])
    scopes: list[object] = claims["scopes"]
    if claims["typ"] != ACCESS or type(scopes) is not list or not 0 < user_id < ID_BOUND:
        raise ValueError
    token_id, family = _word(claims["jti"]), _word(claims["sid"]) if "sid" in claims else None
    expires_at = datetime.fromtimestamp(claims["exp"], UTC)
    return AccessToken(user_id, frozenset(map(Scope, scopes)), expires_at, token_id, family)


def _word(claim: object) -> str:
    """A text that a database can look for. Raises: ValueError."""
    if not isinstance(claim, str) or not claim.isprintable():
        raise ValueError
    return claim


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
