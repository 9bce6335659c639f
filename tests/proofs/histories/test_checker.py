"""The checker of histories …"""

from __future__ import annotations

import random

import pytest

from tests.proofs.histories.checker import Answer, Edit, Operation, Read, key_faults, register_faults, stale_reads, stream_faults

INITIAL = {"a": (1, None)}


def read(version: int, value: str | None, began: float = 10, ended: float = 11) -> Read:
    return Read("a", began, ended, version, value)


def edit(version: int, value: str, began: float = 0, ended: float = 1, *, refused: bool = False, expected: int | None = None) -> Edit:
    return Edit("a", began, ended, version - 1 if expected is None else expected, version, value, refused)


@pytest.mark.parametrize(
    "history",
    [
        [read(1, None)],
        [edit(2, "x"), read(2, "x")],
        [edit(2, "x", 0, 5), read(1, None, 1, 2), read(2, "x", 3, 4)],  # Around a read that saw it, one that did not.
        [edit(2, "x", 0, 5), edit(3, "y", 0, 5), read(3, "y", 1, 2)],
        [edit(2, "x"), edit(2, "y", 2, 3, refused=True, expected=1)],
    ],
)
def test_accepts_what_one_server_could_have_answered(history: list[Operation]) -> None:
    assert register_faults(history, INITIAL) == []


@pytest.mark.parametrize(
    ("history", "fault"),
    [
        ([edit(2, "x"), read(1, None)], "a read of version 1 began after version 2 was acknowledged"),
        ([edit(2, "x", 0, 9), read(2, "x", 1, 2), read(1, None, 3, 4)], "a read of version 1 began after version 2 was acknowledged"),
        ([edit(2, "x"), edit(2, "y", 2, 3)], "version 2 was made 2 times"),
        ([edit(2, "x"), read(2, "y")], "version 2 was read with another value than was written"),
        ([read(2, "x")], "version 2 was read, but nobody made it"),
        ([read(2, "x", 0, 1), edit(2, "x", 2, 3)], "version 2 was read before its write began"),
        ([edit(4, "x", expected=2)], "version 4 follows 2"),
        ([edit(3, "y", 2, 3), edit(2, "x", 4, 5)], "a write of version 2 began after version 3 was acknowledged"),
        ([edit(2, "x", refused=True, expected=2)], "an edit of version 2 was refused, though that was the present one"),
        ([edit(2, "x"), edit(1, "y", 2, 3, refused=True, expected=9)], "a read of version 1 began after version 2 was acknowledged"),
        ([read(1, "x")], "version 1 was read with another value"),
    ],
)
def test_refuses_what_none_could_have_answered(history: list[Operation], fault: str) -> None:
    assert f"a: {fault}" in register_faults(history, INITIAL)


def test_allows_a_cache_to_be_behind_reads_but_not_behind_acknowledged_edits() -> None:
    behind = Read("a", 10, 11, 1, None, cached=True)
    assert stale_reads([edit(2, "x", 0, 20), read(2, "x", 1, 2), behind]) == []
    assert stale_reads([edit(2, "x", 0, 1, refused=True, expected=9), behind]) == []
    assert register_faults([edit(2, "x"), behind], INITIAL) == []
    assert stale_reads([edit(2, "x"), behind]) == [(behind, "a read of version 1 began after version 2 was acknowledged")]


def test_agrees_with_a_real_register_and_finds_any_read_that_is_moved() -> None:
    """Operations take effect at a moment within their time; then one read is given the version before an acknowledged one."""
    for seed in range(100):
        history = _history(random.Random(seed))
        assert register_faults(history, INITIAL) == []
        last = max(history, key=lambda each: each.ended)
        stale = read(1, None, last.ended + 1, last.ended + 2)
        assert (register_faults([*history, stale], INITIAL) != []) == any(each.version > 1 for each in history)


def _history(chance: random.Random) -> list[Operation]:
    version, value, history = 1, None, list[Operation]()
    for moment in range(1, 30):
        began, ended = moment - chance.uniform(0, 5), moment + chance.uniform(0, 5)
        if chance.random() < 0.5:
            history.append(Read("a", began, ended, version, value))
        elif chance.random() < 0.3:
            history.append(Edit("a", began, ended, version + 7, version, "never", refused=True))
        else:
            version, value = version + 1, f"{moment}"
            history.append(Edit("a", began, ended, version - 1, version, value))
    return history


def test_asks_for_one_answer_and_one_effect_a_key() -> None:
    assert key_faults([Answer("k", 1), Answer("k", 1)], {"k": 1}) == []
    assert key_faults([Answer("k", 1), Answer("k", 2)], {"k": 1}) == ["key k has 2 answers: ['1', '2']"]
    assert key_faults([Answer("k", 1)], {}) == ["key k was answered and has 0 effects"]
    assert key_faults([Answer("k", 1)], {"k": 2, "other": 2}) == ["key k was answered and has 2 effects", "key other has 2 effects"]


def test_asks_for_streams_without_holes() -> None:
    assert stream_faults([1, 3], [1, 3]) == []
    assert stream_faults([3], [1, 2, 3], [(0, 2)]) == []
    assert stream_faults([1, 3], [1, 2, 3]) == ["event 2 is missing"]
    assert stream_faults([1, 3, 2, 2], [1, 2, 3]) == ["event 2 came after 3", "event 2 came after 2"]
    assert stream_faults([1, 9], [1]) == ["event 9 is in no log"]
