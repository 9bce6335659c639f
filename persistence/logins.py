"""Logins: sessions that begin with a password, continue by refresh tokens, and can be ended.

A refresh token works once, and its use makes the next one. One that comes again is in two hands: nobody can tell which is the owner's, so the
whole login ends, with every token that came from it. Two uses at the same moment are no exception. Tokens are kept as hashes only, and of the used
ones only the newest few of each login: an older one is refused like any that nobody knows. So is what one user can fill the tables with bounded:
LOGINS of a user, each with USED_TOKENS used tokens and a new one.
Source: RFC 9700, section 4.14.2.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    FromClause,
    Integer,
    Text,
    cast,
    column,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence import audit, passwords, users
from persistence.audit import AuditEntry
from persistence.kit.column_types import ERASED_WITH_USER, Document, RowId, UtcDateTime, utc_now
from persistence.kit.database.database import Base, Change, Database, UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.users import User

log = structlog.get_logger(__name__)

LOGIN_DAYS = 30
RETENTION = timedelta(days=1)  # For clocks that differ, and for whoever asks why a token was refused.
PRUNED_AT_ONCE = 500
LOGINS = 1_000  # Of one user, the newest: programs that sign in for each run have many.
USED_TOKENS = 10  # Of one login, the newest.
TOKEN_BYTES = 32
TOKEN_LENGTH = 43  # Characters of a refresh token: 32 bytes in base64url.
CLIENT_LENGTH = 200  # Characters; browsers send about 120.
SHOWN = 100  # Logins of one user, at most.


class Login(Base):
    __tablename__ = "logins"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(RowId, ForeignKey("users.id"), index=True, info=ERASED_WITH_USER)
    scopes: Mapped[list[str] | None] = mapped_column(Document)  # What the user asked for; None for whatever the user holds.
    client: Mapped[str | None] = mapped_column(Text)  # What the program that used it last says of itself.
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # None in what a version before wrote: not since it began.
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RefreshToken(Base):
    __tablename__ = "refresh_tokens"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    login_id: Mapped[str] = mapped_column(ForeignKey("logins.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RevokedToken(Base):
    """An access token that was given up before its time."""

    __tablename__ = "revoked_tokens"

    token_id: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class InvalidCredentials(DomainError):
    """One answer for every reason: it tells a guesser nothing."""

    def __init__(self) -> None:
        super().__init__("That is not right. Check it, or sign in anew with your username and password.")


@dataclass(frozen=True)
class IssuedLogin:
    """A login that goes on: its user, the scopes that it may have now, and the next refresh token."""

    user: User
    login_id: str
    scopes: frozenset[str]
    refresh_token: str


@dataclass(frozen=True)
class TokenStatus:
    """What a token of this user is worth now."""

    username: str
    scopes: frozenset[str]


class TokenClaims(NamedTuple):
    """What an access token says of itself, to be compared with what is kept."""

    user_id: int
    token_id: str
    login_id: str | None


class TokenRefusal(Enum):
    """Why a token is worth nothing: for good, or as long as its user may not come in."""

    ENDED = "ended"
    INACTIVE = "inactive"


async def authenticate(database: Database, username: str, password: str) -> User:
    """The user of this name and password. Takes the same time when there is none. Raises: InvalidCredentials."""
    async with database.reading_latest() as session:
        user = (await users.by_username(session, [username])).get(username)
    return await _verified(database, user, password)


async def verify_password(database: Database, user_id: int, password: str) -> User:
    """The user of this id, who proves by the password to be it once more. Raises: InvalidCredentials."""
    async with database.reading_latest() as session:
        user = (await users.by_id(session, [user_id])).get(user_id)
    return await _verified(database, user, password)


async def _verified(database: Database, user: User | None, password: str) -> User:
    result = await passwords.verify(password, user.password_hash if user else None)
    if user is None or not user.is_active or not result.right:
        # Not the name: people type their password there.
        log.info("sign-in refused", user_id=user.id if user else None)
        raise InvalidCredentials
    if result.new_hash is not None:
        async with database.transaction() as work:
            renewed = await users.set_password_hash(work, user, result.new_hash)
        if not renewed:  # Somebody else has just done so, or has changed the password.
            return await verify_password(database, user.id, password)
        user.password_hash = result.new_hash
    return user


async def begin(work: UnitOfWork, user: User, *, scopes: Collection[str] | None, client: str | None = None) -> IssuedLogin:
    """Without `scopes`, the login may do whatever its user may at the time.

    Raises: InvalidInput, for scopes that the user does not hold; InvalidCredentials, if what `user` was verified by has changed since.
    """
    if missing := sorted({*(scopes or ())} - {*user.scopes}):
        raise InvalidInput.at("scopes", f"you do not hold {' and '.join(missing)}: ask for less, or leave it out to get all you hold")
    await check_unchanged(work, user)
    now = utc_now()
    await _forget_oldest(work, user.id)
    login = Login(
        id=secrets.token_urlsafe(16),
        user_id=user.id,
        scopes=None if scopes is None else sorted(scopes),
        created_at=now,
        last_used_at=now,
        expires_at=now + timedelta(days=LOGIN_DAYS),
    )
    work.session.add(login)
    return await _issue_next(work, login, user, client, now)


async def check_unchanged(work: UnitOfWork, user: User, *, changing: bool = False) -> None:
    """Lock the row of a user whose password was verified before the transaction, for others that read it too unless it is to be changed.

    Raises: InvalidCredentials, if the password is not good any more.
    """
    same = (User.id == user.id) & User.is_active & (User.password_hash == user.password_hash)
    if await work.session.scalar(select(User.id).where(same).with_for_update(read=not changing)) is None:
        raise InvalidCredentials


async def _forget_oldest(work: UnitOfWork, user_id: int) -> None:
    oldest = select(Login.id).where(Login.user_id == user_id).order_by(Login.created_at.desc(), Login.id).offset(LOGINS - 1)
    forgotten = await work.session.scalars(delete(Login).where(Login.id.in_(oldest)).returning(Login.id))
    if forgotten.all():
        work.changes.append(Change("login.ended", user_id))


async def refresh(
    work: UnitOfWork, refresh_token: str, *, client: str | None = None, admit: Callable[[str], Awaitable[None]]
) -> IssuedLogin | None:
    """Use a refresh token. None for one that is unknown, expired, ended or used before; the last ends its login, so let the work commit.

    `admit` is called with the login's id before the token is used, and may refuse it by an exception: the token may be used later.
    """
    login = await _locked(work, refresh_token)
    if login is None or login.ended_at is not None or login.expires_at <= utc_now():
        return None
    token = await work.session.get_one(RefreshToken, hash_token(refresh_token))
    if token.used_at is not None:
        log.warning("a refresh token was reused", user_id=login.user_id)
        await _end(work, login, "login.ended_by_reuse", actor_id=None)
        return None
    await admit(login.id)
    token.used_at = now = utc_now()
    await _forget_used(work, login)
    user = await work.session.get_one(User, login.user_id)
    return await _issue_next(work, login, user, client, now) if user.is_active else None


async def _forget_used(work: UnitOfWork, login: Login) -> None:
    """All but the newest, of which one more will come."""
    await work.session.flush()
    own = RefreshToken.login_id == login.id
    newest = select(RefreshToken.token_hash).where(own).order_by(RefreshToken.created_at.desc()).limit(USED_TOKENS)
    await work.session.execute(delete(RefreshToken).where(own, RefreshToken.used_at.is_not(None), RefreshToken.token_hash.not_in(newest)))


async def end(work: UnitOfWork, refresh_token: str) -> None:
    """End the login that a refresh token belongs to, used lately or not; nothing happens if there is none that goes on."""
    login = await _locked(work, refresh_token)
    if login is not None and login.ended_at is None:
        await _end(work, login, "login.ended", actor_id=login.user_id)


async def _end(work: UnitOfWork, login: Login, action: str, *, actor_id: int | None) -> None:
    login.ended_at = utc_now()
    await audit.write(work, action, actor_id=actor_id, subject=("User", login.user_id))
    work.changes.append(Change("login.ended", login.user_id))


async def end_all(work: UnitOfWork, user_id: int, *, but: str | None = None) -> int:
    """All that go on, `but` for one if it is named; returns how many."""
    ended = update(Login).where(*_going_on(user_id), Login.id != but if but else true()).values(ended_at=utc_now()).returning(Login.id)
    count = len((await work.session.scalars(ended)).all())
    work.changes.append(Change("login.ended", user_id))
    return count


async def end_own(work: UnitOfWork, user_id: int, login_id: str) -> None:
    """Locks the row. Raises: NotFound, for another user's too."""
    known = login_id.isascii() and login_id.isprintable()  # Others are no text to PostgreSQL.
    own = select(Login).where(*_going_on(user_id), Login.id == login_id).with_for_update()
    login = await work.session.scalar(own) if known else None
    if login is None:
        raise NotFound("login")
    await _end(work, login, "login.ended", actor_id=user_id)


async def going_on(session: AsyncSession, user_ids: Sequence[int]) -> Mapping[int, Sequence[Login]]:
    """The logins of each user that have neither ended nor expired: at most SHOWN, those used last first."""
    newest = (func.coalesce(Login.last_used_at, Login.created_at).desc(), Login.id)
    return {
        user_id: (await session.scalars(select(Login).where(*_going_on(user_id)).order_by(*newest).limit(SHOWN))).all()
        for user_id in user_ids
    }


def _going_on(user_id: int) -> Sequence[ColumnElement[bool]]:
    return Login.user_id == user_id, Login.ended_at.is_(None), Login.expires_at > utc_now()


async def forget(work: UnitOfWork, user_id: int) -> None:
    """All else that tells when and from where a user signed in: what the audit log has of it."""
    of_login = or_(AuditEntry.action.startswith("login."), AuditEntry.action.startswith("token."))
    await work.session.execute(delete(AuditEntry).where(AuditEntry.subject_kind == "User", AuditEntry.subject_id == user_id, of_login))
    work.changes.append(Change("login.ended", user_id))


async def revoke(work: UnitOfWork, token_id: str, *, user_id: int, expires_at: datetime) -> None:
    """Give up an access token before its time; others of its login stay good."""
    insert = postgresql.insert if work.session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = {"token_id": token_id, "expires_at": expires_at}
    statement = insert(RevokedToken).values(row).on_conflict_do_nothing().returning(RevokedToken.token_id)
    if await work.session.scalar(statement) is not None:
        await audit.write(work, "token.revoked", actor_id=user_id, subject=("User", user_id))
        work.changes.append(Change("login.ended", user_id))


async def token_statuses(session: AsyncSession, claims: Sequence[TokenClaims]) -> list[TokenStatus | TokenRefusal]:
    """What access tokens are worth now, in the order of their claims: one statement for all of them."""
    requested = _requested(session.get_bind().dialect.name, claims)
    revoked = exists().where(RevokedToken.token_id == requested.c.token_id)
    goes_on = exists().where(Login.id == requested.c.login_id, Login.ended_at.is_(None))
    ended = revoked | (requested.c.login_id.is_not(None) & ~goes_on)
    user = (User.id == requested.c.user_id) & User.is_active
    statement = select(requested.c.place, User.username, User.scopes, ended.label("ended")).select_from(requested.outerjoin(User, user))
    rows = await session.execute(statement, execution_options={"token_status": True})
    found = {place: _status(username, scopes, ended=ended_) for place, username, scopes, ended_ in rows}
    return [found[place] for place in range(len(claims))]


def _requested(dialect: str, claims: Sequence[TokenClaims]) -> FromClause:
    """The claims as a table: one parameter, however many they are."""
    rows = json.dumps([{"place": place, **claim._asdict()} for place, claim in enumerate(claims)])
    if dialect == "postgresql":
        columns = (column("place", Integer), column("user_id", BigInteger), column("token_id", Text), column("login_id", Text))
        return func.json_to_recordset(cast(literal(rows, Text), postgresql.JSON)).table_valued(*columns).render_derived(with_types=True)
    each = func.json_each(rows).table_valued("value")
    return select(*(func.json_extract(each.c.value, f"$.{name}").label(name) for name in ("place", *TokenClaims._fields))).subquery()


def _status(username: str | None, scopes: Collection[str] | None, *, ended: bool) -> TokenStatus | TokenRefusal:
    if ended:
        return TokenRefusal.ENDED
    return TokenRefusal.INACTIVE if username is None else TokenStatus(username, frozenset(scopes or ()))


async def prune(work: UnitOfWork) -> int:
    """Forget some of what no token can refer to any more; returns how much."""
    past = utc_now() - RETENTION
    tokens = select(RevokedToken.token_id).where(RevokedToken.expires_at < past).limit(PRUNED_AT_ONCE)
    old = select(Login.id).where(Login.expires_at < past).limit(PRUNED_AT_ONCE)
    forgotten = await work.session.scalars(delete(RevokedToken).where(RevokedToken.token_id.in_(tokens)).returning(RevokedToken.token_id))
    ended = await work.session.scalars(delete(Login).where(Login.id.in_(old)).returning(Login.id))
    return len(forgotten.all()) + len(ended.all())


async def _locked(work: UnitOfWork, refresh_token: str) -> Login | None:
    """The login of a refresh token. Locks its row, so that two uses of one token follow each other."""
    if len(refresh_token) != TOKEN_LENGTH:
        return None
    statement = select(Login).join(RefreshToken).where(RefreshToken.token_hash == hash_token(refresh_token)).with_for_update(of=Login)
    return await work.session.scalar(statement)


async def _issue_next(work: UnitOfWork, login: Login, user: User, client: str | None, now: datetime) -> IssuedLogin:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    login.last_used_at, login.client = now, _cleaned(client) or login.client
    await work.session.flush()
    work.session.add(RefreshToken(token_hash=hash_token(token), login_id=login.id, created_at=now))
    await work.session.flush()
    scopes = frozenset(user.scopes) if login.scopes is None else frozenset(user.scopes) & frozenset(login.scopes)
    return IssuedLogin(user, login.id, scopes, token)


def _cleaned(client: str | None) -> str | None:
    """A header is whatever a client sends: what can be shown of it, on one line."""
    return "".join(filter(str.isprintable, client or ""))[:CLIENT_LENGTH].strip() or None


def hash_token(token: str) -> str:
    """Plain SHA-256: a token is random, so unlike a password it cannot be guessed from its hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
