"""Users: their table, look-ups and commands."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Text, cast, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence import passwords
from persistence.kit.column_types import Document, RowId, SortableText, UtcDateTime, utc_now
from persistence.kit.database.database import Base, Change, UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.kit.parsing.blank import has_invisible, is_blank
from persistence.kit.parsing.validation import Checks
from persistence.kit.query import entity
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList, SortOrder
from persistence.kit.query.paging import Page, PageArguments
from persistence.kit.search import tokenizer

USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,31}")  # No look-alikes, nothing that needs escaping in a URL or a log.
FULL_NAME_LENGTH = 200
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")  # Only a letter to it proves an address; this finds slips.
EMAIL_LENGTH = 254  # Source: RFC 5321, section 4.5.3.1.3, less the brackets.
RESERVED = re.compile(r"deleted-[0-9]+", re.IGNORECASE)  # What erased users are called.
ADMINISTRATION = "users:write"  # The scope without which nobody could give a scope to anybody.


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    username: Mapped[str] = mapped_column(SortableText)
    username_key: Mapped[str] = mapped_column(SortableText, unique=True)  # In small letters: `Ada` and `ada` are one name.
    full_name: Mapped[str | None]
    email: Mapped[str | None]
    password_hash: Mapped[str]
    is_active: Mapped[bool]
    scopes: Mapped[list[str]] = mapped_column(Document)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    search_words: Mapped[str] = mapped_column(Text)


ENTITY = Entity(User, gone="deleted_at", words="search_words", unshown=("password_hash",))
ALL = EntityList(ENTITY, SortOrder("username_key"))
by_id = ENTITY.by_id


class UsernameTaken(DomainError):
    def __init__(self, username: str) -> None:
        super().__init__(f"The name {username!r} is taken: choose another.")
        self.username = username


@dataclass(frozen=True)
class SignUpValues:
    """The values of a sign-up."""

    username: str
    password: str
    full_name: str | None = None
    email: str | None = None

    def check(self) -> None:
        """Raises: InvalidInput, with a problem for each field that is out of its bounds."""
        checks = Checks()
        if not USERNAME.fullmatch(self.username):
            checks.report(
                "username", "must be 3 to 32 letters (a to z), digits, dots, hyphens or underscores, and begin with a letter or digit"
            )
        elif RESERVED.fullmatch(self.username):
            checks.report("username", "must not be the name of a deleted account: choose another")
        _check_password(checks, "password", self.password, self.username)
        _check_profile(checks, self.full_name, self.email)
        checks.finish()


def check_password(path: str, password: str, username: str) -> None:
    """Raises: InvalidInput, if nobody of this name may have this password."""
    checks = Checks()
    _check_password(checks, path, password, username)
    checks.finish()


def _check_password(checks: Checks, path: str, password: str, username: str) -> None:
    checks.text(path, password, least=passwords.LENGTH_MIN, most=passwords.LENGTH_MAX)
    if username and password.casefold() == username.casefold():
        checks.report(path, "must not be the username")


def _check_profile(checks: Checks, full_name: str | None, email: str | None) -> None:
    checks.text("fullName", full_name, least=1, most=FULL_NAME_LENGTH)
    if email is not None and not _is_address(email):
        checks.report("email", f"must be an e-mail address of at most {EMAIL_LENGTH} characters, such as ada@example.com")


def _is_address(text: str) -> bool:
    if len(text) > EMAIL_LENGTH or not text.isprintable() or has_invisible(text):
        return False
    return EMAIL.fullmatch(text) is not None and not any(map(is_blank, re.split("[@.]", text)))


def username_key(username: str) -> str | None:
    """By what a user of this name is found, whatever its case; None for a name that nobody can have."""
    return username.lower() if USERNAME.fullmatch(username) else None


async def by_username(session: AsyncSession, usernames: Sequence[str]) -> Mapping[str, User]:
    """Whatever the case of the names; names that nobody can have are not looked for."""
    requested = {name: key for name in usernames if (key := username_key(name)) is not None}
    rows = await session.scalars(select(User).where(User.username_key.in_(set(requested.values()))))
    found = {user.username_key: user for user in rows}
    return {name: found[key] for name, key in requested.items() if key in found}


async def sign_up(work: UnitOfWork, application: SignUpValues, *, password_hash: str, scopes: Collection[str]) -> User:
    """Make an account; the hash is made before, outside the transaction. Raises: InvalidInput, UsernameTaken."""
    application.check()
    row = {
        "username": application.username,
        "username_key": application.username.lower(),
        "full_name": application.full_name,
        "email": application.email,
        "password_hash": password_hash,
        "is_active": True,
        "scopes": sorted(scopes),
        "created_at": utc_now(),
        "search_words": tokenizer.indexed(application.username, application.full_name, application.email),
    }
    insert = postgresql.insert if work.session.get_bind().dialect.name == "postgresql" else sqlite.insert
    user = await work.session.scalar(insert(User).values(row).on_conflict_do_nothing().returning(User))
    if user is None:
        raise UsernameTaken(application.username)
    work.changes.append(Change("user.created", user.id))
    return user


async def change_scopes(work: UnitOfWork, username: str, *, give: Collection[str] = (), take: Collection[str] = ()) -> User:
    """Locks the row. Raises: NotFound."""
    user = await locked_by_name(work, username)
    user.scopes = sorted({*user.scopes, *give} - {*take})
    work.changes.append(Change("user.updated", user.id))
    return user


async def set_active(work: UnitOfWork, username: str, *, active: bool) -> User:
    """Locks the row. Raises: NotFound."""
    user = await locked_by_name(work, username)
    user.is_active = active
    work.changes.append(Change("user.updated", user.id))
    return user


async def set_password_hash(work: UnitOfWork, user: User, password_hash: str) -> bool:
    """Whether the user's hash was still the one that is replaced: who changes a password meanwhile has the last word."""
    present = (User.id == user.id) & (User.password_hash == user.password_hash)
    changed = update(User).where(present).values(password_hash=password_hash).returning(User.id)
    return await work.session.scalar(changed, execution_options={"synchronize_session": False}) is not None


async def change_profile(work: UnitOfWork, user_id: int, changes: Mapping[str, str | None]) -> tuple[User, list[str]]:
    """Set full name and e-mail where they are given; returns what changed. Locks the row. Raises: InvalidInput, NotFound."""
    user = await locked(work, user_id)
    profile: dict[str, str | None] = {"full_name": user.full_name, "email": user.email}
    checks = Checks()
    _check_profile(checks, **{**profile, **changes})
    checks.finish()
    changed = [name for name, value in changes.items() if value != profile[name]]
    if changed:
        for name in changed:
            setattr(user, name, changes[name])
        user.search_words = tokenizer.indexed(user.username, user.full_name, user.email)
        work.changes.append(Change("user.updated", user.id))
    return user, changed


def erased_name(user_id: int) -> str:
    return f"deleted-{user_id}"


async def erase(work: UnitOfWork, user: User) -> None:
    """Leave of a locked row what purchases and audit entries need: its number. Nobody can sign up under its names."""
    user.username, user.username_key = erased_name(user.id), f"deleted/{user.id}"
    user.full_name = user.email = None
    user.password_hash, user.scopes, user.is_active = passwords.NO_PASSWORD, [], False
    user.search_words, user.deleted_at = "", utc_now()
    work.changes.append(Change("user.updated", user.id))


async def locked(work: UnitOfWork, user_id: int) -> User:
    """Raises: NotFound, if the account is gone."""
    user = await work.session.get(User, user_id, with_for_update=True, populate_existing=True)
    if user is None or user.deleted_at is not None:
        raise NotFound("user")
    return user


async def locked_by_name(work: UnitOfWork, username: str) -> User:
    """Raises: NotFound."""
    statement = select(User).where(User.username_key == username.lower()).with_for_update()
    user = await work.session.scalar(statement) if USERNAME.fullmatch(username) else None
    if user is None:
        raise NotFound("user")
    return user


async def check_another_administers(work: UnitOfWork, username: str) -> None:
    """Before a user loses ADMINISTRATION or is deactivated. Locks as `is_last_administrator`. Raises: InvalidInput, if nobody else may do it."""
    if await is_last_administrator(work, username):
        raise InvalidInput.at("username", f"must not be the last who holds {ADMINISTRATION}: grant it to another user first")


async def is_last_administrator(work: UnitOfWork, username: str) -> bool:
    """Locks all who hold ADMINISTRATION, in order, so that two who shut out each other follow one another."""
    # Both databases write a list of scopes with each in quotes, and no scope has any within.
    administers = cast(User.scopes, Text).contains(f'"{ADMINISTRATION}"', autoescape=True)
    statement = select(User.username_key).where(User.is_active, administers).order_by(User.id).with_for_update()
    return (await work.session.scalars(statement)).all() == [username.lower()]


async def page(session: AsyncSession, query: str | None, window: PageArguments) -> Page[User]:
    """Raises: InvalidInput, for a search out of its bounds and for a cursor of another list."""
    return await entity.page(session, replace(ALL, search=query), window)
