"""What the service asked of SQLite and of the file system, in order, with what it acknowledged in between."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pytest

from persistence.kit.blobs import local_folder
from tests.proofs.power_cuts.disk import Link, MakeFolder, Operation, Sync, SyncFolder, Unlink, Write


@dataclass(frozen=True)
class Statement:
    connection: int
    sql: str
    parameters: Any = ()
    many: bool = False


@dataclass(frozen=True)
class Acknowledged:
    """A client was told so: `sql` is true of the database from now on."""

    sql: str
    parameters: tuple[Any, ...]


Entry = Statement | Acknowledged | Operation


class Recording:
    def __init__(self, database: Path) -> None:
        self._database, self._numbers, self._lock = database, count(1), threading.Lock()
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        with self._lock:
            self.entries.append(entry)

    def acknowledge(self, sql: str, *parameters: Any) -> None:
        self.add(Acknowledged(sql, parameters))

    def writes(self) -> list[Entry]:
        """Without the statements of connections that only read."""
        writers = {entry.connection for entry in self.entries if isinstance(entry, Statement) and entry.sql.startswith("BEGIN IMMEDIATE")}
        return [entry for entry in self.entries if not isinstance(entry, Statement) or entry.connection in writers]

    def connect(self, file: str, **options: Any) -> sqlite3.Connection:
        recording, number = self, next(self._numbers)

        class Cursor(sqlite3.Cursor):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                recording.add(Statement(number, sql, parameters))
                return super().execute(sql, parameters)

            def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
                rows = list(parameters)
                recording.add(Statement(number, sql, rows, many=True))
                return super().executemany(sql, rows)

        class Connection(sqlite3.Connection):
            def cursor(self, factory: Any = Cursor) -> Any:
                return super().cursor(factory)

            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                return self.cursor().execute(sql, parameters)

            def commit(self) -> None:
                if self.in_transaction:
                    recording.add(Statement(number, "COMMIT"))
                super().commit()

            def rollback(self) -> None:
                if self.in_transaction:
                    recording.add(Statement(number, "ROLLBACK"))
                super().rollback()

        return (Connection if Path(file) == self._database else sqlite3.Connection)(file, **options)


class BlobRecording:
    """The calls by which a folder of blobs is written."""

    def __init__(self, recording: Recording, root: Path) -> None:
        self._recording, self._root, self._files, self._numbers = recording, root, dict[str, int](), count(1_000)

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        opened, append = local_folder._opened, local_folder._append  # pyright: ignore[reportPrivateUsage] -- each is one step of what is recorded
        fsync, mkdir, rename, unlink = os.fsync, Path.mkdir, Path.rename, Path.unlink

        def record_opened(path: Path) -> BinaryIO:
            file = opened(path)
            self._files[str(path)] = next(self._numbers)
            self._recording.add(Link(self._files[str(path)], PurePosixPath(path)))
            return file

        def record_append(file: BinaryIO, part: bytes) -> None:
            self._recording.add(Write(self._files[file.name], file.tell(), bytes(part)))
            append(file, part)

        def record_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self._recording.add(SyncFolder(PurePosixPath(path)) if path.is_dir() else Sync(self._files[str(path)]))

        def record_mkdir(path: Path, *arguments: Any, **options: Any) -> None:
            is_new = path.is_relative_to(self._root) and not path.exists()
            mkdir(path, *arguments, **options)
            if is_new:
                self._recording.add(MakeFolder(PurePosixPath(path)))

        def record_rename(path: Path, target: Path) -> Path:
            self._recording.add(Link(self._files[str(path)], PurePosixPath(target), PurePosixPath(path)))
            self._files[str(target)] = self._files[str(path)]
            return rename(path, target)

        def record_unlink(path: Path, missing_ok: bool = False) -> None:
            if path.is_relative_to(self._root) and path.exists():
                self._recording.add(Unlink(PurePosixPath(path)))
            unlink(path, missing_ok)

        patch.setattr(local_folder, "_opened", record_opened)
        patch.setattr(local_folder, "_append", record_append)
        patch.setattr(os, "fsync", record_fsync)
        patch.setattr(Path, "mkdir", record_mkdir)
        patch.setattr(Path, "rename", record_rename)
        patch.setattr(Path, "unlink", record_unlink)


@contextmanager
def recording(database: Path, blobs: Path) -> Generator[Recording]:
    """Records from the next connection on."""
    recorded = Recording(database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", recorded.connect)
        BlobRecording(recorded, blobs).patch(patch)
        yield recorded
