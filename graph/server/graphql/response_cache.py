"""The response cache: stores responses of queries until a table that they depend on changes.

It stands behind authentication, limits and budget, so a hit is charged and counted as an execution is. Only responses without errors are cached, of
operations whose fields all say what they read (`graph.kit.cache_control`): public ones once for everybody, personal ones for one user with these scopes.

A key is made before the data is read, and contains the versions of its tables (`persistence.kit.cache.table_versions`): a cached response is as true as a
new read. After a change the key is another one, so the old response is never found again, until it is evicted or expires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple, Self

import orjson

from graph.kit.auth import Caller
from graph.kit.execution.engine import Operation
from graph.server.telemetry.metric_values import Counter
from persistence.kit.cache.store import Cache, MemoryCache
from persistence.kit.cache.table_versions import TableVersions

MAX_BYTES = 2**20  # Of one answer: a page of the longest items.
MAX_LOCAL_BYTES = 32 * 1024  # Of one that is found again and compressed on the spot: a millisecond's work.
SHARED_SECONDS = 20.0  # In Redis, which evicts first what ends first: counters live longer, so cached responses cannot push them out.
_COST = Struct(">I")


@dataclass(frozen=True, slots=True, eq=False)
class CachedResponse:
    """A response that was encoded before, and what it cost."""

    body: bytes
    cost: int

    def __len__(self) -> int:
        return len(self.body)

    def to_bytes(self) -> bytes:
        return _COST.pack(self.cost) + self.body

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        return cls(packed[_COST.size :], _COST.unpack_from(packed)[0])


class CacheKey(NamedTuple):
    """The key of a response: a hash of the question, and the versions of the tables that it was read from."""

    question_hash: str
    versions: str

    def __str__(self) -> str:
        return f"{self.question_hash}:{self.versions}"


class ResponseCache:
    """Keeps answers in this process, at most MEMORY_BYTES of `persistence.kit.cache.store`, and in Redis where there is one."""

    def __init__(self, versions: TableVersions, lookups: Counter, *, shared: Cache | None, schema_version: str) -> None:
        """`schema_version` tells this program's answers from those of another version, which may share the cache while it is replaced."""
        self._versions, self._lookups, self._shared = versions, lookups, shared
        self._memory = MemoryCache[CachedResponse]()
        self._schema_version = blake2b(schema_version.encode(), digest_size=8).digest()

    async def key(self, operation: Operation, variables: Mapping[str, Any] | None, caller: Caller) -> CacheKey | None:
        """To be called before the data is read; None if the response cannot be cached."""
        if operation.reads is None or (question := self._question_hash(operation, variables, caller)) is None:
            return None
        key = await self.current_key(question, operation)
        if key is None:
            self._lookups.add(1, "unknown")
        return key

    async def current_key(self, question_hash: str, operation: Operation) -> CacheKey | None:
        """The key of a question whose hash is known; None while the versions of its tables are unknown."""
        assert operation.reads is not None
        versions = await self._versions.of(operation.reads.tables)
        return None if versions is None else CacheKey(question_hash, versions)

    async def lookup(self, key: CacheKey) -> CachedResponse | None:
        cached = self._memory.peek(str(key))
        if cached is None and self._shared and (packed := await self._shared.get(str(key))) is not None:
            cached = CachedResponse.from_bytes(packed)
            await self._memory.put(str(key), cached, self._versions.lifetime_seconds)
        self._lookups.add(1, "miss" if cached is None else "hit")
        return cached

    def lookup_local(self, key: CacheKey) -> CachedResponse | None:
        """What this process has in memory, if it is not large."""
        cached = self._memory.peek(str(key))
        if cached is None or len(cached) > MAX_LOCAL_BYTES:
            return None
        self._lookups.add(1, "hit")
        return cached

    async def store(self, key: CacheKey, answer: CachedResponse) -> None:
        if len(answer) > MAX_BYTES:
            return
        # orjson leaves room behind what it wrote: up to 4 kB, which would be kept.
        answer = CachedResponse(bytes(memoryview(answer.body)), answer.cost)
        await self._memory.put(str(key), answer, self._versions.lifetime_seconds)
        if self._shared:
            await self._shared.put(str(key), answer.to_bytes(), min(SHARED_SECONDS, self._versions.lifetime_seconds))

    def _question_hash(self, operation: Operation, variables: Mapping[str, Any] | None, caller: Caller) -> str | None:
        """A hash of operation, variables and viewer; None if the variables are no JSON."""
        supplied = {name: variables[name] for name in operation.variable_names if name in variables} if variables else None
        try:
            question = orjson.dumps([operation.name, supplied or None, _viewer(operation, caller)], option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            return None
        digest = blake2b(operation.digest, digest_size=16, key=self._schema_version)
        digest.update(question)
        return digest.hexdigest()


def _viewer(operation: Operation, caller: Caller) -> list[Any] | None:
    """The only viewer who may see the response; None for everybody. Without a token, all see the same."""
    if operation.reads is None or not operation.reads.personal or caller.principal is None:
        return None
    return [caller.principal.user_id, sorted(scope.value for scope in caller.principal.scopes)]
