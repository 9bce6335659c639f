"""When the power is cut …"""

from __future__ import annotations

import random
from pathlib import Path, PurePosixPath

import pytest

from tests.proofs.power_cuts.disk import Disk, Link, MakeFolder, Sync, SyncFolder, Write
from tests.proofs.power_cuts.trials import Recorded, cut, record, without

POINTS = 150
DATABASE, FOLDER = PurePosixPath("/data/database"), PurePosixPath("/data")


@pytest.fixture(scope="module")
async def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return await record(tmp_path_factory.mktemp("power-cuts"), rounds=8)


def test_every_acknowledged_change_is_kept_and_no_file_is_torn(recorded: Recorded, tmp_path: Path) -> None:
    outcome = cut(recorded, tmp_path, POINTS)
    assert outcome.faults == {}
    assert outcome.acknowledged == 3 * 8 * 3 + 6
    assert outcome.commits > outcome.acknowledged


def test_it_is_noticed_that_sqlite_did_not_sync_each_commit(recorded: Recorded, tmp_path: Path) -> None:
    outcome = cut(recorded, tmp_path, POINTS, rewritten=lambda sql: sql.replace("synchronous=FULL", "synchronous=NORMAL"))
    assert any(fault.startswith("an acknowledged change is lost") for fault in outcome.faults)


@pytest.mark.parametrize(("step", "fault"), [(Sync, "a listed file is torn"), (SyncFolder, "a listed file is gone")])
def test_it_is_noticed_that_an_upload_was_not_synced(recorded: Recorded, tmp_path: Path, step: type[Sync | SyncFolder], fault: str) -> None:
    weakened = Recorded(without(recorded.entries, step), recorded.before, recorded.database, recorded.blobs)
    assert fault in cut(weakened, tmp_path, POINTS).faults


def left(disk: Disk) -> list[dict[PurePosixPath, bytes]]:
    return [disk.after_cut(random.Random(seed)) for seed in range(200)]


def test_a_disk_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    disk = Disk({DATABASE: b"a" * 2_048})
    disk.apply(Write(-1, 0, b"b" * 1_024))
    disk.apply(Sync(-1))
    disk.apply(Write(-1, 1_024, b"c" * 1_024))
    found = {files[DATABASE] for files in left(disk)}
    assert {content[:1_024] for content in found} == {b"b" * 1_024}
    ends = {content[1_024:] for content in found}
    assert {b"a" * 1_024, b"c" * 512 + b"a" * 512, b"a" * 512 + b"c" * 512} <= ends
    assert any(end.count(b"c") % 512 > 0 for end in ends)  # Torn within a sector.


def test_a_disk_may_lose_names_whose_folder_was_not_synced() -> None:
    disk, folder = Disk({DATABASE: b""}), FOLDER / "new"
    disk.apply(MakeFolder(folder))
    disk.apply(Link(1, folder / "file"))
    disk.apply(Write(1, 0, b"content"))
    disk.apply(Sync(1))
    assert {len(files) for files in left(disk)} == {1, 2}
    disk.apply(SyncFolder(folder))
    assert {len(files) for files in left(disk)} == {1, 2}
    disk.apply(SyncFolder(FOLDER))
    assert all(files == {DATABASE: b"", folder / "file": b"content"} for files in left(disk))
