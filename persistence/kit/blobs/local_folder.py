"""Blobs in a local folder, by plain system calls in threads: obstore reads local files at a tenth of the speed, 8 kB a call."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from persistence.kit import fsync
from persistence.kit.blobs.blobs import Blobs, StorageFull, is_key

P = ParamSpec("P")
T = TypeVar("T")

READ_BYTES = (
    2**19
)  # A thread takes 50 µs for its errand and 100 for so much; a client that does not read makes us hold two or three of them.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LocalFolder(Blobs):
    """Symbolic links, pipes and whatever else stands in the folder are left alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, key: str, parts: AsyncIterable[bytes]) -> None:
        partial = self._path(key).with_suffix(f".{secrets.token_hex(4)}")
        try:
            file = await asyncio.to_thread(_opened, partial)
            try:
                await _write_parts(file, parts)
                await _uncancellable(_finish, file, partial, self._path(key))
            except asyncio.CancelledError:
                await _uncancellable(self._path(key).unlink, missing_ok=True)  # It may have got its name by now, and nobody will list it.
                raise
            finally:
                await _uncancellable(_discard, file, partial)
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull from error
            raise

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        descriptor = await asyncio.to_thread(_descriptor, self._path(key))
        try:
            while start < end:
                part = await _uncancellable(os.pread, descriptor, min(READ_BYTES, end - start), start)
                if not part:
                    raise EOFError(f"blob {key} ends before byte {end}")
                start += len(part)
                yield part
        finally:
            os.close(descriptor)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def older_than(self, age: timedelta) -> AsyncGenerator[str]:
        for key in await asyncio.to_thread(self._scan, time.time() - age.total_seconds()):
            yield key

    async def check(self) -> None:
        await asyncio.to_thread(_check, self._root)

    def _scan(self, before: float) -> list[str]:
        keys: list[str] = []
        for folder in self._root.glob("[0-9a-f][0-9a-f]"):
            if folder.is_symlink() or not folder.is_dir():
                continue
            for entry in os.scandir(folder):
                name, _, partial = entry.name.partition(".")
                if is_key(f"{folder.name}/{name}") and entry.is_file(follow_symlinks=False) and _age(entry) < before:
                    if partial:
                        Path(entry.path).unlink(missing_ok=True)
                    else:
                        keys.append(f"{folder.name}/{name}")
        return keys

    def _path(self, key: str) -> Path:
        return self._root / key


def _age(entry: os.DirEntry[str]) -> float:
    with suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_mtime
    return time.time()


def _check(root: Path) -> None:
    """A folder that does not exist yet is made with the first blob."""
    place = next(place for place in (root, *root.parents) if place.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder that can be written to", str(place))


def _opened(path: Path) -> BinaryIO:
    _make_folder(path.parent)
    return path.open("xb")


def _make_folder(folder: Path) -> None:
    """A new folder is on the disk once the one above it is synced."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync.sync(folder.parent)


async def _write_parts(file: BinaryIO, parts: AsyncIterable[bytes]) -> None:
    """A part is written while the next one comes."""
    writing: asyncio.Task[None] | None = None
    try:
        async for part in parts:
            if writing is not None:
                await writing
            writing = asyncio.create_task(asyncio.to_thread(_append, file, part))
        if writing is not None:
            await writing
    except BaseException:
        if writing is not None:
            await asyncio.gather(writing, return_exceptions=True)  # If it fails too, nobody need hear of it.
        raise


def _append(file: BinaryIO, part: bytes) -> None:
    """What waits until the end to be synced keeps the disk idle and then the client waiting; so it goes to the disk at once. Source: Linux, mm/fadvise.c."""
    file.write(part)
    if sys.platform == "linux":
        os.posix_fadvise(file.fileno(), file.tell() - len(part), len(part), os.POSIX_FADV_DONTNEED)


def _finish(file: BinaryIO, partial: Path, path: Path) -> None:
    """Only what is on the disk may be acknowledged: the content first, then its name, then that of its folder, which another upload may be making."""
    file.flush()
    os.fsync(file.fileno())
    partial.rename(path)
    fsync.sync(path.parent)
    fsync.sync(path.parent.parent)


def _discard(file: BinaryIO, partial: Path) -> None:
    """After a rename there is nothing to discard."""
    partial.unlink(missing_ok=True)
    with suppress(OSError):  # What could not be written cannot be flushed either.
        file.close()


def _descriptor(path: Path) -> int:
    """Without O_NONBLOCK, opening a pipe would wait for somebody to write to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:  # A link in its place, or a file in that of its folder.
            raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path)) from error
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))


async def _uncancellable(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """In a thread and to its end, also when the task is cancelled meanwhile: the file must stay open as long as a thread uses it."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
