"""Blobs in an object store: S3 and what speaks its language, Google Cloud Storage, Azure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError

from persistence.kit.blobs.blobs import Blobs, is_key, new_key
from persistence.kit.column_types import utc_now

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_obstore: Any = obstore  # Its `list` is partly untyped.

PART_BYTES = 5 * 2**20  # S3 takes no smaller part but the last.
PARTS_AT_ONCE = 2  # One is sent while the next one fills; memory grows with each.
READ_BYTES = 4 * 2**20  # A request takes some 30 ms before the first byte.


class BucketAway(ConnectionError):
    """The store cannot be reached, has no such bucket, or does not take our key: later, or once an operator has mended it, it may."""


@contextmanager
def _reaching() -> Generator[None]:
    try:
        yield
    except BaseError as error:
        raise BucketAway(str(error).split("\n", 1)[0]) from error


class Bucket(Blobs):
    def __init__(self, store: ObjectStore, call_seconds: float) -> None:
        """`call_seconds` is for each call; for a write, from its last part on, and for the store to take each."""
        self._store, self._seconds = store, call_seconds

    async def write(self, key: str, parts: AsyncIterable[bytes]) -> None:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                with _reaching():
                    await obstore.put_async(
                        self._store,
                        key,
                        _paused(parts, limit, self._seconds),
                        use_multipart=True,
                        chunk_size=PART_BYTES,
                        max_concurrency=PARTS_AT_ONCE,
                    )
        except FileNotFoundError as error:
            raise BucketAway("there is no such bucket") from error

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """A request for each step: one for all would time out under a slow reader, and could not be tried again."""
        for step in range(start, end, READ_BYTES):
            with _reaching():
                async with asyncio.timeout(self._seconds):
                    part = await obstore.get_range_async(self._store, key, start=step, end=min(end, step + READ_BYTES))
            yield bytes(part)

    async def delete(self, key: str) -> None:
        try:
            with _reaching():
                async with asyncio.timeout(self._seconds):
                    await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return

    async def older_than(self, age: timedelta) -> AsyncGenerator[str]:
        """Parts of interrupted writes are no objects: a life-cycle rule of the bucket removes them."""
        before = utc_now() - age
        pages: AsyncIterable[Sequence[ObjectMeta]] = _obstore.list(self._store, chunk_size=1_000)
        async for found in pages:
            for blob in found:
                if blob["last_modified"] < before and is_key(blob["path"]):
                    yield blob["path"]

    async def check(self) -> None:
        """Asks for what is not there: a store that can say so is reached, has our bucket and knows our key."""
        pages: AsyncIterable[object] = _obstore.list(self._store, prefix=new_key())
        async for _ in pages:
            break


async def _paused(parts: AsyncIterable[bytes], limit: asyncio.Timeout, seconds: float) -> AsyncGenerator[bytes]:
    """The parts; while the next one is waited for, the store's time does not run."""
    loop = asyncio.get_running_loop()
    async for part in parts:  # An iterable that its maker closes.
        _reschedule(limit, loop.time() + seconds)
        yield part
        _reschedule(limit, None)
    _reschedule(limit, loop.time() + seconds)


def _reschedule(limit: asyncio.Timeout, when: float | None) -> None:
    if not limit.expired():
        limit.reschedule(when)
