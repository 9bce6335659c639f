"""What mutations of many rows share: how many they take, what they do about bad ones, and how a row's error is reported."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Self, TypeVar, cast

import strawberry

from graph.kit.context import Info
from graph.kit.entity.declaration import object_of
from graph.kit.errors import Error, InvalidInput
from persistence.kit import errors
from persistence.kit.query.entity import Entity

BULK_ROWS = 10_000
ANOTHER_WAS_BAD = "Good, but another row was bad and onError is REJECT_ALL."

R = TypeVar("R")


@strawberry.enum(description="What a bulk call does when some of its rows are bad.")
class BulkErrorPolicy(Enum):
    REJECT_ALL = strawberry.enum_value("reject_all", description="Nothing is created unless every row is good.")
    SKIP_INVALID = strawberry.enum_value("skip_invalid", description="The good rows are created, the bad ones reported.")


@strawberry.type(description="This row is good, but it was not created: it was a dry run, or another row was bad.")
class NotCreated(Error):
    @classmethod
    def because(cls, message: str) -> Self:
        return cls(message=message)


class RejectedAll(Exception):
    """Some rows are refused, so that none may be carried out; `refused` has their errors by their places."""

    def __init__(self, refused: Mapping[int, Any]) -> None:
        super().__init__()
        self.refused = refused


def check_rows(argument: str, rows: Sequence[object]) -> None:
    """Raises: InvalidInput, unless there are 1 to BULK_ROWS."""
    if not 1 <= len(rows) <= BULK_ROWS:
        raise errors.InvalidInput.at(argument, f"must be 1 to {BULK_ROWS} rows, not {len(rows)}")


def with_results(rows: Sequence[Any], results: Iterable[R]) -> list[R]:
    """The results of the rows that are good by themselves, in the places of these; a row that is not is its error."""
    following = iter(results)
    return [cast("R", row) if isinstance(row, errors.DomainError) else next(following) for row in rows]


def in_row(error: errors.InvalidInput, argument: str, place: int) -> InvalidInput:
    """The same error, reported for the row in which it is."""
    return InvalidInput.of(errors.InvalidInput(*(problem.below(argument, str(place)) for problem in error.problems)))


def dump_error(error: errors.InvalidInput) -> Any:
    """As JSON, for a response that is stored under an idempotency key."""
    return [[problem.path, problem.message] for problem in error.problems]


def load_error(stored: Any) -> errors.InvalidInput:
    return errors.InvalidInput(*(errors.Problem(tuple(path), message) for path, message in stored))


async def object_of_result(info: Info, entity: Entity[Any], row_id: int) -> Any:
    """What a row's result is about, as it is now: it may have been deleted since."""
    row = await info.context.load(entity.by_id_even_gone, row_id)
    assert row is not None, "rows that leave stay in the table"
    return object_of(row)
