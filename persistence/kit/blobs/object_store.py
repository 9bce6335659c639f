"""Blobs in an object store: S3 and compatible servers, Google Cloud Storage, Azure."""

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


class ObjectStoreUnavailable(ConnectionError):
    """The store cannot be reached, has no such bucket, or does not take our key: later, or once an operator has mended it, it may."""


@contextmanager
def _reaching() -> Generator[None]:
    try:
        yield
    except BaseError as error:
        raise ObjectStoreUnavailable(str(error).split("\n", 1)[0]) from error


class BucketBlobs(Blobs):
    def __init__(self, store: ObjectStore, call_seconds: float) -> None:
        """`call_seconds` is for each call; for a write, from its last part on, and for the store to take each."""
        self._store, self._seconds = store, call_seconds

    async def write(self, key: str, parts: AsyncIterable[bytes]) -> None:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                taken = _Taken(limit, self._seconds)
                filling = asyncio.create_task(taken.fill(parts))
                try:
                    with _reaching():
                        await obstore.put_async(
                            self._store, key, taken, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
                        )
                finally:
                    filling.cancel()
                    await asyncio.gather(filling, return_exceptions=True)
                    taken.end()
        except FileNotFoundError as error:
            raise ObjectStoreUnavailable("there is no such bucket") from error

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


class _Taken:
    """Parts as the store takes them, which it does in a task of its own that outlives a write that is cancelled: so it never has their generator.

    While it waits for the next part its time does not run.
    """

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit, self._seconds, self._ended = limit, seconds, False
        self._parts: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(1)

    async def fill(self, parts: AsyncIterable[bytes]) -> None:
        try:
            async for part in parts:
                await self._parts.put(part)
        except Exception as error:  # noqa: BLE001 -- it belongs to whoever writes
            await self._parts.put(error)
        else:
            await self._parts.put(None)

    def end(self) -> None:
        """Nobody fills it any more."""
        self._ended = True
        if self._parts.empty():
            self._parts.put_nowait(None)

    def __aiter__(self) -> _Taken:
        return self

    async def __anext__(self) -> bytes:
        self._reschedule(None)
        part = await self._parts.get()
        self._reschedule(asyncio.get_running_loop().time() + self._seconds)
        if isinstance(part, Exception):
            raise part
        if part is None:
            raise StopAsyncIteration
        return part

    def _reschedule(self, when: float | None) -> None:
        if not self._ended and not self._limit.expired():
            self._limit.reschedule(when)
