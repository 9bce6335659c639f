"""The interface of blob storage. Keys are generated here: no name that a user chose ever becomes a path.

A blob is there whole or not at all: a folder's is written beside its place, synced and renamed, an object store's appears when its last part is in.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from persistence.kit.errors import DomainError

HEAD_BYTES = 4_096  # Enough of a file to tell what it is.


class TooLarge(DomainError):
    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"The file is larger than {most_bytes} bytes, the most that is taken.")
        self.most_bytes = most_bytes


class StorageFull(DomainError):
    def __init__(self) -> None:
        super().__init__("There is no room left for this file. Nothing was stored: try again later or tell the operator.")


@dataclass(frozen=True)
class StoredBlob:
    """What was written, and its first bytes."""

    key: str
    size_bytes: int
    sha256: str
    head: bytes


class Blobs(ABC):
    @abstractmethod
    async def write(self, key: str, parts: AsyncIterable[bytes]) -> None:
        """Raises: StorageFull, and whatever `parts` raises. Then nothing is left behind."""

    @abstractmethod
    def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """The bytes from `start` up to, without, `end`. Raises: FileNotFoundError, and EOFError where the blob is shorter."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Done as well if there is no such blob."""

    @abstractmethod
    def older_than(self, age: timedelta) -> AsyncGenerator[str]:
        """Keys of the blobs that were complete this long ago. What an interrupted write left behind, as old as that, is removed on the way."""

    @abstractmethod
    async def check(self) -> None:
        """Raises whatever would keep blobs from being read and written now."""


async def store(blobs: Blobs, parts: AsyncIterable[bytes], *, most_bytes: int) -> StoredBlob:
    """Write a new blob. Raises: TooLarge as soon as it is, StorageFull, and whatever `parts` raises. Then nothing is left behind."""
    key = new_key()
    measured = _Measured(parts, most_bytes)
    async with aclosing(measured.parts()) as counted:
        await blobs.write(key, counted)
    return StoredBlob(key, measured.size_bytes, measured.digest.hexdigest(), measured.head)


def new_key() -> str:
    """Random, so that nothing is ever written over; the first two digits keep folders small."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name}"


def is_key(text: str) -> bool:
    folder, _, name = text.partition("/")
    return len(name) == 32 and folder == name[:2] and not set(name) - set("0123456789abcdef")


class _Measured:
    """Counts and hashes on the way; hashing a part takes milliseconds, so a thread does it while the part is written and the next one comes."""

    def __init__(self, parts: AsyncIterable[bytes], most_bytes: int) -> None:
        self._parts, self._most_bytes = parts, most_bytes
        self.digest, self.size_bytes, self.head = hashlib.sha256(), 0, b""

    async def parts(self) -> AsyncGenerator[bytes]:
        hashing: asyncio.Task[None] | None = None
        async for part in self._parts:
            self.size_bytes += len(part)
            if self.size_bytes > self._most_bytes:
                raise TooLarge(self._most_bytes)
            if len(self.head) < HEAD_BYTES:
                self.head = (self.head + part)[:HEAD_BYTES]
            if hashing is not None:
                await hashing
            hashing = asyncio.create_task(asyncio.to_thread(self.digest.update, part))
            yield part
        if hashing is not None:
            await hashing
