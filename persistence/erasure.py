"""Erasure of a user's account: what is forgotten with it, and what stays without a name.

The rows go in one transaction. What lies outside of it (blobs, Redis, answers under idempotency keys of others, pages of the database file that
are free by now) is removed by a job of that transaction, which is tried again until nothing is left. The job knows numbers and keys, never names.
Purchases and audit entries stay: they point to the user's row, which keeps nothing but its number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import ColumnElement, Text, and_, cast, delete, or_

from persistence import audit, files, logins, users
from persistence.items import table as items
from persistence.kit import idempotency
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.cache.store import SharedCache
from persistence.kit.call_coalescer import CallCoalescer
from persistence.kit.column_types import ERASED_WITH_USER
from persistence.kit.database.database import Base, Database, UnitOfWork
from persistence.kit.errors import DomainError
from persistence.kit.idempotency import IdempotencyKey
from persistence.kit.jobs import queue as jobs
from persistence.kit.jobs.queue import Job
from persistence.kit.limits.guess_throttle import GuessThrottle, name_key
from persistence.users import User

ERASED = "user.erased"
BLOBS_OF_A_JOB = 500
BLOBS_AT_ONCE = 16
SEARCH_INDEX = "users_search"
WAIT_SECONDS = 5.0  # It takes some milliseconds, but an object store or a large SQLite file may take longer.
POLL_SECONDS = 0.02


class LastAdministrator(DomainError):
    def __init__(self) -> None:
        super().__init__(f"You are the last who holds {users.ADMINISTRATION}: grant it to another user first.")


async def erase_own(work: UnitOfWork, user: User) -> None:
    """The account of a user whose password was verified before the transaction. Raises: LastAdministrator, InvalidCredentials."""
    if await users.is_last_administrator(work, user.username):
        raise LastAdministrator
    await logins.check_unchanged(work, user, changing=True)
    await erase(work, await users.locked(work, user.id), actor_id=user.id)


async def erase(work: UnitOfWork, user: User, *, actor_id: int | None) -> None:
    """The account of a user whose row is locked."""
    name = name_key(user.username)
    await idempotency.forget(work, idempotency.caller_of(user.id))
    await _delete_rows_of(work, user.id)
    await logins.forget(work, user.id)
    blobs = await files.delete_all_of(work, user.id)
    await items.disown(work, user.id)
    await users.erase(work, user)
    await audit.write(work, "user.deleted", actor_id=actor_id, subject=("User", user.id))
    for start in range(0, max(len(blobs), 1), BLOBS_OF_A_JOB):
        data = {"user_id": user.id, "name": name, "blobs": list(blobs[start : start + BLOBS_OF_A_JOB])}
        await jobs.enqueue(work, ERASED, f"{_key(user.id)}{start}", data)


async def _delete_rows_of(work: UnitOfWork, user_id: int) -> None:
    """In the tables that declare so at the column that names the user; those that refer to others come first."""
    for table in reversed(Base.metadata.sorted_tables):
        for column in table.columns:
            if column.info == ERASED_WITH_USER:
                await work.session.execute(delete(table).where(column == user_id))


async def wait(database: Database, user_id: int) -> None:
    """Until nothing is left to remove, but no longer than WAIT_SECONDS: the rest follows without anybody who waits."""
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT_SECONDS):
            while await _goes_on(database, user_id):  # noqa: ASYNC110 -- another process may do it, whose commits are not heard here
                await asyncio.sleep(POLL_SECONDS)


async def _goes_on(database: Database, user_id: int) -> bool:
    async with database.reading_latest() as session:
        return await jobs.waits(session, _key(user_id))


def _key(user_id: int) -> str:
    return f"user:{user_id}:"


class Erasure:
    """The background work of an erasure. Each step may be done again."""

    def __init__(self, database: Database, blobs: Blobs, throttle: GuessThrottle, cache: SharedCache | None) -> None:
        self._database, self._blobs, self._throttle, self._cache = database, blobs, throttle, cache
        self._rewriting = CallCoalescer(self._rewrite)  # Several accounts that are erased at once share one.
        # Jobs that are not ended, by whether the file was rewritten since they began: once is enough, however often they are tried again.
        self._waiting, self._rewritten = set[int](), set[int]()

    async def perform(self, job: Job) -> None:
        blobs: Sequence[str] = job.data["blobs"]
        for start in range(0, len(blobs), BLOBS_AT_ONCE):
            await asyncio.gather(*(self._blobs.delete(key) for key in blobs[start : start + BLOBS_AT_ONCE]))
        await idempotency.forget_answers(self._database, _about(job.data["user_id"]))
        await self._throttle.forget(job.data["name"])
        if self._cache:
            await self._cache.clear()
        if job.id not in self._rewritten:
            self._waiting.add(job.id)
            await self._rewriting.call()
        await self._database.empty_log()

    async def _rewrite(self) -> None:
        """It may take longer than a job may: the job is tried again, and finds it done."""
        waiting, self._waiting = self._waiting, set[int]()
        await self._database.rewrite_file(SEARCH_INDEX)
        self._rewritten |= waiting

    async def finish(self, work: UnitOfWork, ended: Sequence[Job]) -> None:
        """There are no rows left to change."""
        self._rewritten.difference_update(job.id for job in ended)


def _about(user_id: int) -> ColumnElement[bool]:
    """Stored answers that show the user or a file of the user: an administrator's, or that of the sign-up, which had no user yet."""

    def text(name: str) -> ColumnElement[str]:
        return cast(IdempotencyKey.answer[name].as_string(), Text)

    is_user = and_(text("id") == str(user_id), text("username_key").is_not(None))
    is_file = and_(text("owner_id") == str(user_id), text("filename").is_not(None))
    return or_(is_user, is_file)
