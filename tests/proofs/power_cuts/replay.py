"""Recorded statements, run again by SQLite on files that only write down what they are asked: a VFS (virtual file system) of apsw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, cast

import apsw

from tests.proofs.power_cuts.disk import Link, Operation, Sync, SyncFolder, Truncate, Unlink, Write
from tests.proofs.power_cuts.recording import Acknowledged, Entry, Statement

LOG = "-wal"


@dataclass
class Replay:
    """Operations on the disk, and after how many of them each acknowledgement came."""

    operations: list[Operation] = field(default_factory=list[Operation])
    acknowledged: list[tuple[int, Acknowledged]] = field(default_factory=list[tuple[int, Acknowledged]])
    commits: int = 0


class _Vfs(apsw.VFS):
    def __init__(self, operations: list[Operation], files: dict[str, int]) -> None:
        self.name, self._operations, self._files, self._numbers = "storegraph-power-cuts", operations, files, count(1)
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 -- SQLite's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        if path not in self._files:
            self._files[path] = next(self._numbers)
            self._operations.append(Link(self._files[path], PurePosixPath(path)))
        return _VfsFile(name, flags, self._operations, self._files[path], PurePosixPath(path))

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._operations.append(Unlink(PurePosixPath(filename)))
        self._files.pop(filename, None)


class _VfsFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], operations: list[Operation], number: int, path: PurePosixPath) -> None:
        super().__init__("", name, flags)
        self._operations, self._number, self._path, self._is_named = operations, number, path, False

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)  # pyright: ignore[reportUnknownMemberType]
        self._operations.append(Write(self._number, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._operations.append(Truncate(self._number, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._operations.append(Sync(self._number))
        if not self._is_named:  # The first sync of a new file syncs its folder, too. Source: SQLite, os_unix.c, UNIXFILE_DIRSYNC.
            self._operations.append(SyncFolder(self._path.parent))
            self._is_named = True


def replayed(entries: Sequence[Entry], database: Path, *, rewritten: Callable[[str], str] = lambda sql: sql) -> Replay:
    """`database` is a copy of the file that the recording began with; `rewritten` plants a fault in the statements."""
    replay = Replay()
    vfs = _Vfs(replay.operations, {str(database): -1})
    connections: dict[int, Any] = {}  # apsw's types name a class that it has not.
    for entry in entries:
        match entry:
            case Acknowledged():
                replay.acknowledged.append((len(replay.operations), entry))
            case Statement():
                if entry.connection not in connections:
                    connections[entry.connection] = connection = cast("Any", apsw.Connection)(str(database), vfs=vfs.name)
                    connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # The index of its log is in memory, since apsw shares none.
                _run(connections[entry.connection], entry, rewritten(entry.sql))
                replay.commits += entry.sql == "COMMIT"
            case _:
                replay.operations.append(entry)
    operations = list(replay.operations)  # Closing goes on writing, and no power cut comes after it.
    for connection in connections.values():
        connection.close()
    replay.operations = operations
    vfs.unregister()
    return replay


def _run(connection: Any, statement: Statement, sql: str) -> None:
    try:
        if statement.many:
            connection.cursor().executemany(sql, statement.parameters)
        else:
            list(connection.execute(sql, statement.parameters))
    except apsw.ConstraintError:  # As when it was recorded.
        pass
