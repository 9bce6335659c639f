"""A disk that keeps what was synced, and of the rest what chance leaves: whole writes, single sectors, or a torn last write.

Names are kept like content: a new or renamed file has its name for certain once its folder is synced, and a new folder once the one above it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

SECTOR_BYTES = 512


@dataclass(frozen=True)
class Write:
    file: int
    offset: int
    content: bytes


@dataclass(frozen=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True)
class Sync:
    file: int


@dataclass(frozen=True)
class Link:
    """A file gets a name; `before` is the one that it had."""

    file: int
    path: PurePosixPath
    before: PurePosixPath | None = None


@dataclass(frozen=True)
class Unlink:
    path: PurePosixPath


@dataclass(frozen=True)
class MakeFolder:
    path: PurePosixPath


@dataclass(frozen=True)
class SyncFolder:
    path: PurePosixPath


Operation = Write | Truncate | Sync | Link | Unlink | MakeFolder | SyncFolder
NameChange = Link | Unlink | MakeFolder


@dataclass
class _File:
    synced: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list[Write | Truncate])

    def sync(self) -> None:
        content = bytearray(self.synced)
        for operation in self.pending:
            _apply(content, operation)
        self.synced = bytes(content)
        self.pending.clear()

    def after_cut(self, chance: random.Random) -> bytes:
        content = bytearray(self.synced)
        survivors = chance.choice((self._none, self._torn, self._sectors))
        for operation in survivors(chance):
            _apply(content, operation)
        return bytes(content)

    def _none(self, _: random.Random) -> Iterator[Write | Truncate]:
        yield from ()

    def _torn(self, chance: random.Random) -> Iterator[Write | Truncate]:
        """All in order, up to some point of one of them."""
        if not self.pending:
            return
        last = chance.randrange(len(self.pending))
        yield from self.pending[:last]
        if isinstance(torn := self.pending[last], Write):
            yield Write(torn.file, torn.offset, torn.content[: chance.randrange(len(torn.content) + 1)])

    def _sectors(self, chance: random.Random) -> Iterator[Write | Truncate]:
        """Whichever the disk had come to, in an order of its own."""
        for operation in self.pending:
            if isinstance(operation, Truncate):
                if chance.random() < 0.5:
                    yield operation
                continue
            for start in range(0, len(operation.content), SECTOR_BYTES):
                if chance.random() < 0.5:
                    yield Write(operation.file, operation.offset + start, operation.content[start : start + SECTOR_BYTES])


def _apply(content: bytearray, operation: Write | Truncate) -> None:
    if isinstance(operation, Truncate):
        del content[operation.size :]
        content.extend(bytes(operation.size - len(content)))
        return
    end = operation.offset + len(operation.content)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : end] = operation.content


class Disk:
    """`files` are there, synced, from the beginning."""

    def __init__(self, files: dict[PurePosixPath, bytes]) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[PurePosixPath, int] = {}
        self._folders: set[PurePosixPath] = {path.parent for path in files}
        self._pending: list[NameChange] = []
        for number, (path, content) in enumerate(files.items()):
            self._files[-1 - number] = _File(content)
            self._names[path] = -1 - number

    def file_at(self, path: PurePosixPath) -> int | None:
        return self._names.get(path)

    def apply(self, operation: Operation) -> None:
        match operation:
            case Write() | Truncate():
                self._files.setdefault(operation.file, _File()).pending.append(operation)
            case Sync(file):
                self._files.setdefault(file, _File()).sync()
            case Link() | Unlink() | MakeFolder():
                self._pending.append(operation)
            case SyncFolder(path):
                self._sync_folder(path)

    def _sync_folder(self, path: PurePosixPath) -> None:
        for change in self._pending:
            if change.path.parent == path:
                _rename(self._names, self._folders, change)
        self._pending = [change for change in self._pending if change.path.parent != path]

    def after_cut(self, chance: random.Random) -> dict[PurePosixPath, bytes]:
        """The files that are found when the power is back."""
        names, folders = dict(self._names), set(self._folders)
        for change in self._pending:
            if chance.random() < 0.5:
                _rename(names, folders, change)
        lost = {change.path for change in self._pending if isinstance(change, MakeFolder)} - folders
        found = {path: file for path, file in names.items() if lost.isdisjoint(path.parents)}
        return {path: self._files.setdefault(file, _File()).after_cut(chance) for path, file in found.items()}


def _rename(names: dict[PurePosixPath, int], folders: set[PurePosixPath], change: NameChange) -> None:
    match change:
        case MakeFolder(path):
            folders.add(path)
        case Unlink(path):
            names.pop(path, None)
        case Link(file, path, before):
            names[path] = file
            if before is not None:
                names.pop(before, None)


def cuts(disk: Disk, operations: Sequence[Operation], points: Sequence[int], seed: int) -> Iterator[tuple[int, dict[PurePosixPath, bytes]]]:
    """What is found after a cut behind the first so many operations, for each of these numbers, which are in order."""
    done = 0
    for point in points:
        for operation in operations[done:point]:
            disk.apply(operation)
        done = point
        yield point, disk.after_cut(random.Random(f"{seed}, {point}"))
