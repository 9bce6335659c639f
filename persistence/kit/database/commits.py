"""Commits: what each changed, and whether those of an operation have happened, as its caller must be told when it is cancelled.

A deadline cancels an operation between its statements, and never in the middle of a commit: that goes on in a task of its own. So a cancelled
operation has changed nothing, or has committed, or nobody can say yet.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Change:
    """What a transaction did, in a word such as `item.updated`, and to which row."""

    kind: str
    subject_id: int


class Outcome(Enum):
    """`UNKNOWN` while a commit is under way, and after one whose answer was lost."""

    NOT_COMMITTED = "NOT_COMMITTED"
    UNKNOWN = "UNKNOWN"
    COMMITTED = "COMMITTED"


class Commits:
    """Of one operation: how many were begun, how many have ended, and how many of those changed something."""

    __slots__ = ("_begun", "_ended", "_made", "_token")

    def __init__(self) -> None:
        self._begun = self._ended = self._made = 0

    @property
    def outcome(self) -> Outcome:
        if self._begun > self._ended:
            return Outcome.UNKNOWN
        return Outcome.COMMITTED if self._made else Outcome.NOT_COMMITTED

    def __enter__(self) -> Self:
        self._token: Token[Commits | None] = _commits.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _commits.reset(self._token)

    def begin(self) -> None:
        self._begun += 1

    def end(self, *, changed: bool) -> None:
        self._ended += 1
        self._made += changed


_commits: ContextVar[Commits | None] = ContextVar("commits", default=None)


class committing:  # noqa: N801 -- reads as a function
    """A block that is one commit. If it raises, nobody knows whether that took effect."""

    __slots__ = ("_commits", "changed")

    def __init__(self) -> None:
        self._commits, self.changed = _commits.get(), True

    def __enter__(self) -> Self:
        if self._commits is not None:
            self._commits.begin()
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if self._commits is not None and error is None:
            self._commits.end(changed=self.changed)
