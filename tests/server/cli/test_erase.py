"""The command `erase` …"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persistence import users
from tests.support.command_line import Done, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service


def told(ended: Done) -> str:
    """Its last line: what comes before is of the service's own background work, whose log is beside it here."""
    return ended.err.splitlines()[-1]


async def test_erases_accounts_by_name_and_by_number(service: Service, tmp_path: Path) -> None:
    ada, bob, eve = [await service.make_user(name) for name in ("ada", "bob", "eve")]
    assert (await run(service.settings, tmp_path, "erase", "ada")).code == 1  # Nobody said yes.
    done = await run(service.settings, tmp_path, "erase", "--yes", "Ada", str(bob.id))
    assert (done.code, done.out.split(".")[0]) == (0, "Erased")
    missing = await run(service.settings, tmp_path, "erase", "--yes", str(bob.id), "nobody", "\u0663", str(10**18))
    assert (missing.code, told(missing)) == (1, "There is no such user.")
    some = await run(service.settings, tmp_path, "erase", "--yes", "nobody", "eve")
    assert (some.code, told(some)) == (1, "There is no user nobody. The others are erased.")
    await service.background_done()
    async with service.database.reading() as session:
        left = await users.ENTITY.by_id_even_gone(session, [ada.id, bob.id, eve.id])
    assert [left[user.id].username for user in (ada, bob, eve)] == [f"deleted-{user.id}" for user in (ada, bob, eve)]
