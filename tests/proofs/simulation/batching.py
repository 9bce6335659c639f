"""Look-ups that share statements, while callers are cancelled and statements fail: nobody hangs, and nobody gets what was true before it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from persistence.kit.query.batching import Batcher
from tests.proofs.simulation.loop import SimulatedLoop

MODULES = ()
MOST = 3
KEYS = 6


class _Table:
    """Versions that only grow; a statement reads them as it begins, and its answer is on its way for a while."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop, self.versions, self.faults = loop, dict.fromkeys(range(KEYS), 0), list[str]()
        self._batcher = Batcher(self._fetch, most=MOST)
        self._late: dict[int, asyncio.Future[int | None]] = {}

    async def _fetch(self, keys: Sequence[int]) -> Mapping[int, int]:
        if len(keys) > MOST:
            self.faults.append(f"{len(keys)} keys in one statement")
        found = {key: self.versions[key] for key in keys}
        await self._loop.pause()
        if self._loop.random.random() < 0.05:
            raise ConnectionResetError
        return found

    async def load(self, key: int) -> int | None:
        return await self._batcher.load(key)

    async def load_late(self, key: int) -> int | None:
        """What a statement under way has read already: the planted fault."""
        if key not in self._late or self._late[key].done():
            self._late[key] = asyncio.ensure_future(self._batcher.load(key))
        return await asyncio.shield(self._late[key])

    async def ask(self, *, joins_late: bool) -> None:
        for _ in range(8):
            key = self._loop.random.randrange(KEYS)
            least = self.versions[key]
            try:
                found = await (self.load_late(key) if joins_late else self.load(key))
            except ConnectionResetError:
                continue
            if found is None or found < least:
                self.faults.append(f"version {found} of {key} was read after version {least} was there")
            await self._loop.pause(0.01)

    async def change(self) -> None:
        for _ in range(30):
            self.versions[self._loop.random.randrange(KEYS)] += 1
            await self._loop.pause(0.02)


async def scenario(loop: SimulatedLoop, *, joins_late: bool = False) -> list[str]:
    """`joins_late` plants a batcher that hands out what a statement under way has read already."""
    table = _Table(loop)
    asking = [asyncio.create_task(table.ask(joins_late=joins_late)) for _ in range(6)]
    loop.victims, loop.cancellation = list(asking[:3]), 0.01
    await asyncio.gather(table.change(), *asking, return_exceptions=True)
    return table.faults
