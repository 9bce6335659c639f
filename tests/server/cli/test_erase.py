"""The command `erase` …"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persistence import users
from tests.server.cli.test_commands import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service


async def test_erases_accounts_by_name_and_by_number(service: Service, tmp_path: Path) -> None:
    ada, bob, eve = [await service.make_user(name) for name in ("ada", "bob", "eve")]
    assert (await run(service.settings, tmp_path, "erase", "ada")).code == 1  # Nobody said yes.
    done = await run(service.settings, tmp_path, "erase", "--yes", "Ada", str(bob.id))
    assert (done.code, done.out.split(".")[0]) == (0, "Erased")
    missing = await run(service.settings, tmp_path, "erase", "--yes", str(bob.id), "nobody", "\u0663", str(10**18))
    assert (missing.code, missing.err) == (1, "There is no such user.\n")
    some = await run(service.settings, tmp_path, "erase", "--yes", "nobody", "eve")
    assert (some.code, some.err) == (1, "There is no user nobody. The others are erased.\n")
    await service.background_done()
    async with service.database.reading() as session:
        left = await users.ENTITY.by_id_even_gone(session, [ada.id, bob.id, eve.id])
    assert [left[user.id].username for user in (ada, bob, eve)] == [f"deleted-{user.id}" for user in (ada, bob, eve)]
