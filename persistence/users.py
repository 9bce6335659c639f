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
from persistence.kit.query import entity, search
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList, SortOrder
from persistence.kit.query.paging import Page, PageArguments
from persistence.kit.serialization import row_of

USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,31}")  # No look-alikes, nothing that needs escaping in a URL or a log.
FULL_NAME_LENGTH = 200
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")  # Only a letter to it proves an address; this finds slips.
EMAIL_LENGTH = 254  # Source: RFC 5321, section 4.5.3.1.3, less the brackets.
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
    search_words: Mapped[str] = mapped_column(Text)


ENTITY = Entity(User, words="search_words")
ALL = EntityList(ENTITY, SortOrder("username_key"))
by_id = ENTITY.by_id
REPLAY_FORMAT = row_of(User, without=("password_hash", "search_words"))


class UsernameTaken(DomainError):
    def __init__(self, username: str) -> None:
        super().__init__(f"The name {username!r} is taken: choose another.")
        self.username = username


@dataclass(frozen=True)
class SignUpValues:
    """What somebody gives to get an account."""

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
        checks.text("password", self.password, least=passwords.LENGTH_MIN, most=passwords.LENGTH_MAX)
        if self.username and self.password.casefold() == self.username.casefold():
            checks.report("password", "must not be the username")
        checks.text("fullName", self.full_name, least=1, most=FULL_NAME_LENGTH)
        if self.email is not None and not _is_address(self.email):
            checks.report("email", f"must be an e-mail address of at most {EMAIL_LENGTH} characters, such as ada@example.com")
        checks.finish()


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
        "search_words": search.indexed(application.username, application.full_name, application.email),
    }
    insert = postgresql.insert if work.session.get_bind().dialect.name == "postgresql" else sqlite.insert
    user = await work.session.scalar(insert(User).values(row).on_conflict_do_nothing().returning(User))
    if user is None:
        raise UsernameTaken(application.username)
    work.changes.append(Change("user.created", user.id))
    return user


async def change_scopes(work: UnitOfWork, username: str, *, give: Collection[str] = (), take: Collection[str] = ()) -> User:
    """Locks the row. Raises: NotFound."""
    user = await _locked(work, username)
    user.scopes = sorted({*user.scopes, *give} - {*take})
    work.changes.append(Change("user.updated", user.id))
    return user


async def set_active(work: UnitOfWork, username: str, *, active: bool) -> User:
    """Locks the row. Raises: NotFound."""
    user = await _locked(work, username)
    user.is_active = active
    work.changes.append(Change("user.updated", user.id))
    return user


async def set_password_hash(work: UnitOfWork, user_id: int, password_hash: str) -> None:
    await work.session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


async def _locked(work: UnitOfWork, username: str) -> User:
    statement = select(User).where(User.username_key == username.lower()).with_for_update()
    user = await work.session.scalar(statement) if USERNAME.fullmatch(username) else None
    if user is None:
        raise NotFound("user")
    return user


async def check_another_administers(work: UnitOfWork, username: str) -> None:
    """Before somebody loses ADMINISTRATION or is shut out: locks all who hold it, in order, so that two who shut out each other follow one another.

    Raises: InvalidInput, if nobody else may do it.
    """
    # Both databases write a list of scopes with each in quotes, and no scope has any within.
    administers = cast(User.scopes, Text).contains(f'"{ADMINISTRATION}"', autoescape=True)
    statement = select(User.username_key).where(User.is_active, administers).order_by(User.id).with_for_update()
    if (await work.session.scalars(statement)).all() == [username.lower()]:
        raise InvalidInput.at("username", f"must not be the last who holds {ADMINISTRATION}: give it to somebody else first")


async def page(session: AsyncSession, query: str | None, window: PageArguments) -> Page[User]:
    """Raises: InvalidInput, if query, window or cursor are out of their bounds."""
    return await entity.page(session, replace(ALL, search=query), window)
