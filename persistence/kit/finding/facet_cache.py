"""Keeps counted facets of this process until a table changes: pages of one list, and callers who look at the same list, share them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from persistence.kit.cache.store import MemoryCache
from persistence.kit.cache.table_versions import TableVersions
from persistence.kit.finding.facets import Counted, FacetRequest

MOST_BYTES = 4 * 2**20


class FacetCache:
    def __init__(self, versions: TableVersions | None) -> None:
        """Without versions nothing is kept."""
        self._versions = versions
        self._memory = MemoryCache[Counted](MOST_BYTES)

    async def find(self, request: FacetRequest, tables: Collection[str], count: Callable[[], Awaitable[Counted]]) -> Counted:
        """The versions are read before the rows, so that a change that comes between is not missed."""
        version = await self._versions.of(tables) if self._versions else None
        if version is None or self._versions is None:
            return await count()
        key = f"{version} {request.what} {request.mark}"
        if (known := self._memory.peek(key)) is not None:
            return known
        counted = await count()
        await self._memory.put(key, counted, self._versions.lifetime_seconds)
        return counted
