"""A mapping with a bound in bytes: the entry that was used least recently is evicted first.

Every in-process cache and history of the service is one of these, so that what a caller can make it hold is counted in one way: in bytes of
memory, wide characters included, and never in entries alone.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES = 250  # What an entry takes beside its key and value: its place in the dictionary, a tuple and a number.


class LruCache(Generic[K, V]):
    """Holds at most `most_bytes`, by the estimate of `size`, and at most `most_entries`. What alone is larger than the bound is not kept."""

    def __init__(
        self,
        most_bytes: int,
        size: Callable[[K, V], int],
        *,
        most_entries: int | None = None,
        evicted: Callable[[V], None] | None = None,
    ) -> None:
        """`evicted` is told of each value that had to go to keep the bounds."""
        self.most_bytes, self._size, self._most_entries, self._evicted = most_bytes, size, most_entries, evicted
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0
        """By the estimate of `size`, each entry's own overhead included."""

    def get(self, key: K) -> V | None:
        """The value, which counts as used now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V) -> None:
        """Add or replace an entry. Put a value again when it has grown."""
        self.pop(key)
        size = self._size(key, value) + ENTRY_BYTES
        self._entries[key] = value, size
        self.bytes += size
        if size > self.most_bytes:
            self._evict(key)
        while self.bytes > self.most_bytes or len(self._entries) > (self._most_entries or len(self._entries)):
            self._evict(next(iter(self._entries)))

    def _evict(self, key: K) -> None:
        value = self.pop(key)
        if self._evicted and value is not None:
            self._evicted(value)

    def __getitem__(self, key: K) -> V:
        """The value, which does not count as used. Raises: KeyError."""
        return self._entries[key][0]

    def pop(self, key: K) -> V | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.bytes -= entry[1]
        return entry[0]

    def items(self) -> Iterator[tuple[K, V]]:
        """From the least to the most recently used; none of them counts as used by this."""
        return ((key, value) for key, (value, _) in self._entries.items())

    def values(self) -> Iterator[V]:
        """From the least to the most recently used; none of them counts as used by this."""
        return (value for value, _ in self._entries.values())

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)


def retained_bytes(value: Any) -> int:
    """What a JSON value takes in memory, with all that it contains. A small number or an empty string may be shared and is counted all the same."""
    size = sys.getsizeof(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value)
        return size + sum([retained_bytes(name) + retained_bytes(member) for name, member in members.items()])
    if isinstance(value, list | tuple):
        return size + sum([retained_bytes(element) for element in cast("list[object]", value)])
    return size
