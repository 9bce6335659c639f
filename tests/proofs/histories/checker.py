"""Checks histories of concurrent operations: what clients were answered, and when, against what one correct server could have answered.

An item is a register with versions: an edit writes the version after the one that it expected, a read finds one. Since versions are numbered, the
order of the writes is known, and a history is linearizable exactly if it respects time: in linear time after sorting. Source: Gibbons and Korach,
"Testing Shared Memories" (1997), for registers whose write order is given.

Times are of one clock, in seconds. An operation that was retried lasts from its first attempt to its answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar


@dataclass(frozen=True)
class Read:
    item: str
    began: float
    ended: float
    version: int
    value: str | None
    cached: bool = False
    """It may have been answered from a cache: see `stale_reads`."""


@dataclass(frozen=True)
class Edit:
    """`version` is the one that it made; or, if it was `refused`, the present one that it was told."""

    item: str
    began: float
    ended: float
    expected: int
    version: int
    value: str
    refused: bool = False


@dataclass(frozen=True)
class Answer:
    """One answer to one attempt under a key."""

    key: str
    answer: Hashable


Operation = Read | Edit


def register_faults(operations: Iterable[Operation], initial: Mapping[str, tuple[int, str | None]]) -> list[str]:
    """What no linearizable register could have answered. `initial` has version and value of each item at the start."""
    by_item: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_item[operation.item].append(operation)
    return [f"{item}: {fault}" for item, history in by_item.items() for fault in _item_faults(history, *initial[item])]


def _item_faults(history: Sequence[Operation], version: int, value: str | None) -> list[str]:
    writes = [each for each in history if isinstance(each, Edit) and not each.refused]
    faults = [f"version {number} was made {count} times" for number, count in Counter(each.version for each in writes).items() if count > 1]
    faults += [f"version {each.version} follows {each.expected}" for each in writes if each.version != each.expected + 1]
    made = {each.version: each for each in writes}
    for each in history:
        if isinstance(each, Read):
            faults += _read_faults(each, made, version, value)
        elif each.refused and each.version == each.expected:
            faults.append(f"an edit of version {each.expected} was refused, though that was the present one")
    return faults + _order_faults(history)


def _read_faults(read: Read, made: Mapping[int, Edit], version: int, value: str | None) -> list[str]:
    if read.version == version:
        return [] if read.value == value else [f"version {version} was read with another value"]
    if read.version not in made:
        return [f"version {read.version} was read, but nobody made it"]
    write = made[read.version]
    found: list[str] = []
    if read.value != write.value:
        found.append(f"version {read.version} was read with another value than was written")
    if write.began > read.ended:
        found.append(f"version {read.version} was read before its write began")
    return found


def _order_faults(history: Sequence[Operation]) -> list[str]:
    """Each operation must see at least the newest version that was acknowledged before it began."""
    current = [each for each in history if not (isinstance(each, Read) and each.cached)]
    return [_order_fault(each, newest) for each, newest in _with_newest(current, current) if each.version < newest + _is_write(each)]


def stale_reads(operations: Iterable[Operation]) -> list[tuple[Read, str]]:
    """Cached reads of something older than an edit that was acknowledged before they began."""
    by_item: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_item[operation.item].append(operation)
    found: list[tuple[Read, str]] = []
    for history in by_item.values():
        cached, writes = [each for each in history if isinstance(each, Read) and each.cached], [each for each in history if _is_write(each)]
        found += [(each, _order_fault(each, newest)) for each, newest in _with_newest(cached, writes) if each.version < newest]
    return found


AnyOperation = TypeVar("AnyOperation", bound=Operation)


def _with_newest(operations: Sequence[AnyOperation], before: Sequence[Operation]) -> Iterator[tuple[AnyOperation, int]]:
    """Each operation, with the newest version that one of `before` had acknowledged when it began."""
    ends, newest, place = sorted(before, key=lambda each: each.ended), 0, 0
    for each in sorted(operations, key=lambda each: each.began):
        while place < len(ends) and ends[place].ended < each.began:
            newest = max(newest, ends[place].version)
            place += 1
        yield each, newest


def _is_write(operation: Operation) -> bool:
    return isinstance(operation, Edit) and not operation.refused


def _order_fault(operation: Operation, newest: int) -> str:
    kind = "write" if _is_write(operation) else "read"
    return f"a {kind} of version {operation.version} began after version {newest} was acknowledged"


def key_faults(answers: Iterable[Answer], effects: Mapping[str, int]) -> list[str]:
    """Each key has one answer and one effect. `effects` counts them by key."""
    by_key: defaultdict[str, set[Hashable]] = defaultdict(set)
    for each in answers:
        by_key[each.key].add(each.answer)
    faults = [f"key {key} has {len(found)} answers: {sorted(map(str, found))}" for key, found in by_key.items() if len(found) > 1]
    faults += [f"key {key} was answered and has {effects.get(key, 0)} effects" for key in by_key if effects.get(key, 0) != 1]
    return faults + [f"key {key} has {count} effects" for key, count in effects.items() if key not in by_key and count > 1]


def stream_faults(heard: Sequence[int], log: Iterable[int], gaps: Iterable[tuple[int, int]] = ()) -> list[str]:
    """A stream is the log from its beginning, in order and without holes, but for what a gap (after, until) told of."""
    faults = [f"event {later} came after {earlier}" for earlier, later in pairwise(heard) if later <= earlier]
    told = list(gaps)
    missing = sorted(set(log) - set(heard))
    faults += [f"event {id_} is missing" for id_ in missing if not any(after < id_ <= until for after, until in told)]
    return faults + [f"event {id_} is in no log" for id_ in sorted(set(heard) - set(log))]
