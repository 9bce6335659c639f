"""Stored files: their table, look-ups and changes.

The content is a blob. Its row is written after it and deleted before it, so that a listed file can always be read; what a crash leaves between the
two is a blob without a row, which `sweep` deletes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog
from sqlalchemy import BigInteger, ForeignKey, func, select
from sqlalchemy import delete as delete_rows
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from persistence.kit.blobs import content_type as media
from persistence.kit.blobs import filenames
from persistence.kit.blobs.blobs import Blobs, StoredBlob
from persistence.kit.column_types import RowId, SortableText, UtcDateTime, utc_now
from persistence.kit.database.database import Base, Database, UnitOfWork
from persistence.kit.errors import DomainError, InvalidInput, NotFound
from persistence.kit.events.log import record, record_all
from persistence.kit.query import entity
from persistence.kit.query.entity import Entity
from persistence.kit.query.entity_list import EntityList
from persistence.kit.query.paging import Page, PageArguments
from persistence.users import User

log = structlog.get_logger(__name__)

ORPHAN_AGE = timedelta(hours=1)  # A blob waits for its row as long as a transaction may wait: seconds.
SWEEP_SECONDS = 3_600.0
SWEPT_AT_ONCE = 500  # Keys of one look-up.


class StoredFile(Base):
    __tablename__ = "stored_files"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    filename: Mapped[str] = mapped_column(SortableText, unique=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    content_type: Mapped[str]
    sha256: Mapped[str]
    blob_key: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("users.id"), index=True)
    uploaded_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = ({"sqlite_autoincrement": True},)


ENTITY = Entity(StoredFile)


class FilenameTaken(DomainError):
    def __init__(self, filename: str) -> None:
        super().__init__(f"There is a file named {filename!r} already: choose another name, or delete that file first.")
        self.filename = filename


class QuotaExceeded(DomainError):
    def __init__(self, quota_bytes: int, stored_bytes: int) -> None:
        room = max(0, quota_bytes - stored_bytes)
        super().__init__(
            f"You may store {quota_bytes} bytes and there is room for {room} more: this file is larger. Delete some of your files first."
        )
        self.quota_bytes, self.stored_bytes = quota_bytes, stored_bytes


def validate_filename(filename: str) -> str:
    """The name in the form that is stored. Raises: InvalidInput, if it is not one that is safe everywhere."""
    name = filenames.normalize(filename)
    if fault := filenames.filename_error(name):
        raise InvalidInput.at("filename", fault)
    return name


async def by_filename(session: AsyncSession, filename: str) -> StoredFile | None:
    name = filenames.normalize(filename)
    # A file may have a name that today's rules refuse: only what is no text to PostgreSQL is not looked for.
    return None if not filenames.is_text(name) else await session.scalar(select(StoredFile).where(StoredFile.filename == name))


ALL = EntityList(ENTITY)
"""In the order of upload."""


async def page(session: AsyncSession, window: PageArguments) -> Page[StoredFile]:
    """Raises: InvalidInput, if window or cursor are out of their bounds."""
    return await entity.page(session, ALL, window)


async def stored_bytes(session: AsyncSession, owner_id: int) -> int:
    """What the files of one user take together."""
    return await session.scalar(select(func.coalesce(func.sum(StoredFile.size_bytes), 0)).where(StoredFile.owner_id == owner_id)) or 0


async def add(work: UnitOfWork, filename: str, blob: StoredBlob, *, owner_id: int | None, quota_bytes: int | None = None) -> StoredFile:
    """List a file whose blob is in place, under a name from `validate_filename`. Raises: FilenameTaken, QuotaExceeded, NotFound.

    Uploads of one owner are listed one after another, so that no two of them take the same room, and none after the account is gone.
    """
    if owner_id is not None:
        await _lock_owner(work, owner_id)
    if owner_id is not None and quota_bytes is not None:
        stored = await stored_bytes(work.session, owner_id)
        if stored + blob.size_bytes > quota_bytes:
            raise QuotaExceeded(quota_bytes, stored)
    file = StoredFile(
        filename=filename,
        size_bytes=blob.size_bytes,
        content_type=media.content_type(filename, blob.head),
        sha256=blob.sha256,
        blob_key=blob.key,
        owner_id=owner_id,
        uploaded_at=utc_now(),
    )
    work.session.add(file)
    try:
        await work.session.flush()
    except IntegrityError as error:
        raise FilenameTaken(filename) from error
    await record(work, "file.added", file.id)
    return file


async def _lock_owner(work: UnitOfWork, owner_id: int) -> None:
    """Not `FOR UPDATE`: what refers to the user, such as a purchase, need not wait. Raises: NotFound."""
    present = select(User.id).where(User.id == owner_id, User.deleted_at.is_(None)).with_for_update(key_share=True)
    if await work.session.scalar(present) is None:
        raise NotFound("user")


async def delete_all_of(work: UnitOfWork, owner_id: int) -> Sequence[str]:
    """Take all files of a locked user out of every list; their blobs, whose keys it returns, are the caller's to delete after the commit."""
    removed = delete_rows(StoredFile).where(StoredFile.owner_id == owner_id).returning(StoredFile.id, StoredFile.blob_key)
    rows = (await work.session.execute(removed)).all()
    await record_all(work, "file.deleted", {file_id: {} for file_id, _ in rows})
    return [key for _, key in rows]


async def delete(work: UnitOfWork, filename: str) -> StoredFile:
    """Take the file out of every list; its blob is the caller's to delete after the commit. Locks the row. Raises: NotFound."""
    found = await by_filename(work.session, filename)
    file = found and await work.session.get(StoredFile, found.id, with_for_update=True, populate_existing=True)
    if file is None:
        raise NotFound("file")
    await work.session.delete(file)
    await record(work, "file.deleted", file.id)
    return file


async def sweep_forever(database: Database, blobs: Blobs) -> None:
    """Sweep now and then, for as long as the process lives."""
    while True:
        await sweep(database, blobs)
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep(database: Database, blobs: Blobs, *, age: timedelta = ORPHAN_AGE) -> int:
    """Delete blobs that no row names, and tell how many: what is left of uploads and deletions that a crash cut short."""
    swept, keys = 0, list[str]()
    async with aclosing(blobs.older_than(age)) as old:
        async for key in old:
            keys.append(key)
            if len(keys) == SWEPT_AT_ONCE:
                swept += await _sweep(database, blobs, keys)
                keys.clear()
    swept += await _sweep(database, blobs, keys)
    if swept:
        log.info("orphaned blobs deleted", count=swept)
    return swept


async def _sweep(database: Database, blobs: Blobs, keys: Sequence[str]) -> int:
    async with database.reading_latest() as session:
        retained = set(await session.scalars(select(StoredFile.blob_key).where(StoredFile.blob_key.in_(keys))))
    orphans = [key for key in keys if key not in retained]
    for key in orphans:
        await blobs.delete(key)
    return len(orphans)
