"""Power cuts: the service works, the power is cut at thousands of points, and what the disk kept is opened again.

SQLite's own files and the uploads are cut alike: what was not synced is dropped or torn. Then the database must be sound, every acknowledged change
in it, nothing half done, and each listed file whole. `scripts/prove power-cuts` runs it; tests/proofs/power_cuts/test_power_cuts.py runs a short form.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from graph.kit.global_ids import row_id
from tests.conftest import settings_for
from tests.files.test_uploads import put
from tests.proofs.power_cuts.disk import Disk, Operation, cuts
from tests.proofs.power_cuts.recording import Entry, Recording, recording
from tests.proofs.power_cuts.replay import Replay, replayed
from tests.support.load.retrying_clients import PURCHASE
from tests.support.service import Service, running

STOCK = 10_000
CREATE = 'mutation ($name: String!, $key: String!) { createItem(input: {name: $name, price: "1.50", tags: ["a"]}, idempotencyKey: $key) { ... on Item { id } } }'
UPDATE = "mutation ($id: ID!, $text: String!) { updateItem(id: $id, input: {description: $text}) { ... on Item { version } } }"
CHECKS = {
    "more or less was sold than is gone from the stock": (
        f"SELECT {STOCK} - inventory - (SELECT coalesce(sum(quantity), 0) FROM purchases) FROM items WHERE name = 'Kettle'"
    ),
    "a purchase without its event": (
        "SELECT count(*) FROM purchases WHERE (SELECT count(*) FROM events WHERE kind = 'item.purchased')"
        " <> (SELECT count(*) FROM purchases)"
    ),
    "a purchase without its key": "SELECT (SELECT count(*) FROM purchases) - count(*) FROM idempotency_keys WHERE key LIKE 'buy %'",
}


@dataclass
class Recorded:
    """A workload, and the file of the database from which it began."""

    entries: list[Entry]
    before: bytes
    database: Path
    blobs: Path


async def record(folder: Path, rounds: int) -> Recorded:
    settings = await settings_for("sqlite", folder, log_level="ERROR")
    database, blobs = folder / "storegraph.db", folder / "files"
    async with running(settings) as service:
        token, item = await service.sign_in(), await service.make_item(inventory=STOCK)
    before = database.read_bytes()
    with recording(database, blobs) as recorded:
        async with running(settings) as service:
            clients = [_Client(service, token, item, recorded, number) for number in range(3)]
            await asyncio.gather(*(client.work(rounds) for client in clients))
    return Recorded(recorded.writes(), before, database, blobs)


@dataclass
class _Client:
    service: Service
    token: str
    item: str
    recording: Recording
    number: int

    async def work(self, rounds: int) -> None:
        for turn in range(rounds):
            name = f"{self.number}, {turn}"
            await self._buy(name)
            await self._create(name)
            if turn % 4 == self.number:
                await self._upload(f"{self.number}-{turn}.bin", turn)

    async def _buy(self, name: str) -> None:
        bought = await self.service.ask(PURCHASE, {"item": self.item, "key": f"buy {name}"}, token=self.token)
        self.recording.acknowledge("SELECT count(*) FROM purchases WHERE id = ?", row_id("Purchase", bought["purchaseItem"]["id"]))

    async def _create(self, name: str) -> None:
        made = await self.service.ask(CREATE, {"name": f"Item {name}", "key": f"create {name}"}, token=self.token)
        id_ = made["createItem"]["id"]
        self.recording.acknowledge("SELECT count(*) FROM items WHERE id = ?", row_id("Item", id_))
        changed = await self.service.ask(UPDATE, {"id": id_, "text": name * 200}, token=self.token)
        version = changed["updateItem"]["version"]
        self.recording.acknowledge("SELECT count(*) FROM items WHERE id = ? AND version >= ?", row_id("Item", id_), version)

    async def _upload(self, name: str, turn: int) -> None:
        answer = await put(self.service, self.token, name, os.urandom(3_000 if turn % 2 else 200_000))
        assert answer.status_code == 201, answer.text
        self.recording.acknowledge("SELECT count(*) FROM stored_files WHERE filename = ?", name)


@dataclass
class Outcome:
    points: int = 0
    commits: int = 0
    acknowledged: int = 0
    synced_operations: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])


def cut(recorded: Recorded, folder: Path, points: int, *, seed: int = 0, rewritten: Callable[[str], str] = lambda sql: sql) -> Outcome:
    """Cut the power at so many points, drawn evenly."""
    copy = folder / recorded.database.name
    copy.write_bytes(recorded.before)
    replay = replayed(recorded.entries, copy, rewritten=rewritten)
    disk = Disk({PurePosixPath(copy): recorded.before, PurePosixPath(recorded.blobs.parent / "other"): b""})
    drawn = sorted(random.Random(seed).choices(range(len(replay.operations) + 1), k=points))
    outcome = Outcome(points, replay.commits, len(replay.acknowledged), len(replay.operations))
    for point, files in cuts(disk, replay.operations, drawn, seed):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            outcome.faults.update(_faults(Path(place), copy, recorded.blobs, files, point, replay))
    return outcome


def _faults(place: Path, copy: Path, blobs: Path, files: dict[PurePosixPath, bytes], point: int, replay: Replay) -> list[str]:
    for path, content in files.items():
        if path.parent == PurePosixPath(copy.parent):
            (place / path.name).write_bytes(content)
    try:
        with closing(sqlite3.connect(place / copy.name)) as database:
            return _faults_of(database, blobs, files, point, replay)
    except sqlite3.DatabaseError as error:
        return [f"the database cannot be read: {error}"]


def _faults_of(database: sqlite3.Connection, blobs: Path, files: dict[PurePosixPath, bytes], point: int, replay: Replay) -> list[str]:
    faults: list[str] = []
    if database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        faults.append("the database is damaged")
    for at, acknowledged in replay.acknowledged:
        if at <= point and database.execute(acknowledged.sql, acknowledged.parameters).fetchone() != (1,):
            faults.append(f"an acknowledged change is lost: {acknowledged.sql}")
    faults += [fault for fault, check in CHECKS.items() if database.execute(check).fetchone() != (0,)]
    for key, digest in database.execute("SELECT blob_key, sha256 FROM stored_files"):
        content = files.get(PurePosixPath(blobs / key))
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            faults.append("a listed file is torn" if content is not None else "a listed file is gone")
    return faults


def without(entries: Sequence[Entry], kind: type[Operation]) -> list[Entry]:
    """The recording of a service that leaves one step out: a planted fault."""
    return [entry for entry in entries if not isinstance(entry, kind)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove power-cuts", description=__doc__)
    parser.add_argument("--points", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=60, help="of each of three clients")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storegraph-power-cuts-"))
    try:
        recorded = asyncio.run(record(folder, arguments.rounds))
        (folder / "replay").mkdir()
        outcome = cut(recorded, folder / "replay", arguments.points, seed=arguments.seed)
        print("seed", arguments.seed, outcome)  # noqa: T201
    finally:
        shutil.rmtree(folder)
    raise SystemExit(bool(outcome.faults))


if __name__ == "__main__":
    main()
