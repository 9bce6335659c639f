"""Domain errors: expected refusals, each with fields beside its message; the graph turns them into data.

DomainError
├── InvalidInput      a value is out of its bounds: one problem a field
├── NotFound          no such row, or none that the caller may see
├── NotOwner          the row belongs to another user
├── VersionConflict   the row was changed since the caller read it
├── KeyReused         an idempotency key came again with another request
├── TooManyAttempts   the same thing was done too often: later it may be done again
├── Busy              too many long requests of this kind run already
└── …                 an entity's own refusals stand in its file (OutOfStock, UsernameTaken, …)
"""

from __future__ import annotations

from dataclasses import dataclass


class DomainError(Exception):
    """An expected refusal. Nothing was changed."""

    @property
    def message(self) -> str:
        """One sentence for the person at the other end."""
        return str(self)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one value; `path` leads to it from the argument's root, such as ("inputs", "3", "price")."""

    path: tuple[str, ...]
    message: str

    def below(self, *prefix: str) -> Problem:
        return Problem((*prefix, *self.path), self.message)


class InvalidInput(DomainError):
    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(f"{'.'.join(problem.path)}: {problem.message}" for problem in problems))
        self.problems = problems

    @classmethod
    def at(cls, path: str, message: str) -> InvalidInput:
        return cls(Problem((path,), message))


class NotFound(DomainError):
    def __init__(self, kind: str) -> None:
        super().__init__(f"There is no such {kind}.")


class NotOwner(DomainError):
    """The row belongs to another user, and the caller may change only their own."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"This {kind} belongs to another user.")


class VersionConflict(DomainError):
    def __init__(self, current_version: int) -> None:
        super().__init__(f"The row is at version {current_version} by now: read it again, then repeat the change.")
        self.current_version = current_version


class KeyReused(DomainError):
    def __init__(self) -> None:
        super().__init__("This idempotency key was used for another request: take a new key for a new request.")


class TooManyAttempts(DomainError):
    """`retry_after` in whole seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(DomainError):
    def __init__(self) -> None:
        super().__init__("Too many streams are being read just now: try again in a few seconds.")
