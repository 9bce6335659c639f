"""The catalogue of GraphQL errors: how each domain error and each refusal reaches a client.

An expected refusal (`DomainError`) is data in a mutation: a member of the result union that implements `Error`. Elsewhere it is a top-level
error with `extensions.code`. Anything else is our fault: it is masked, and logged with its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import strawberry
import structlog
from graphql import GraphQLError

from persistence.kit import errors

if TYPE_CHECKING:
    ErrorCode = str  # In the schema an enum, made when all refusals are known: see the module named below.

log = structlog.get_logger(__name__)

UNAUTHENTICATED = "UNAUTHENTICATED"
FORBIDDEN = "FORBIDDEN"
RATE_LIMITED = "RATE_LIMITED"
COST_EXCEEDED = "COST_EXCEEDED"
BAD_USER_INPUT = "BAD_USER_INPUT"
PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
DOCUMENT_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
UNAVAILABLE = "SERVICE_UNAVAILABLE"
INTERNAL = "INTERNAL_SERVER_ERROR"


def code_of(member: type[Error]) -> str:
    """`OUT_OF_STOCK` for `OutOfStock`: declaring an error type declares its code."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", member.__name__).upper()


@strawberry.interface(description="An expected refusal. Nothing was changed.")
class Error:
    code: Annotated[ErrorCode, strawberry.lazy("graph.kit.error_codes")] = strawberry.field(
        default="", description="For programs: stays the same in every language and version."
    )
    message: str = strawberry.field(description="For people: one sentence that says what to do. May change.")

    def __post_init__(self) -> None:
        self.code = code_of(type(self))


_members: dict[type[errors.DomainError], Callable[[Any], Error]] = {}


class Member(Protocol):
    """A union member that can be made from a refusal."""

    @classmethod
    def of(cls, error: Any, /) -> Any: ...


M = TypeVar("M", bound=type[Member])


def member_for(error: type[errors.DomainError]) -> Callable[[M], M]:
    """Declare the union member that a refusal becomes; its `of(error)` makes one."""

    def register(member: M) -> M:
        _members[error] = member.of
        return member

    return register


def as_data(error: errors.DomainError) -> Error:
    """Raises: TypeError, for a refusal that no union member stands for."""
    if (member := _members.get(type(error))) is None:
        raise TypeError(
            f"no union member stands for {type(error).__name__}: declare one with @member_for({type(error).__name__})"
        ) from error
    return member(error)


def rate_limited(error: errors.TooManyAttempts) -> GraphQLError:
    return GraphQLError(error.message, extensions={"code": RATE_LIMITED, "retryAfter": error.retry_after})


def forbidden(error: errors.NotOwner) -> GraphQLError:
    return GraphQLError(error.message, extensions={"code": FORBIDDEN})


def as_error(error: errors.DomainError) -> GraphQLError:
    """For places without a result union: a query's bad arguments."""
    return GraphQLError(error.message, extensions={"code": BAD_USER_INPUT})


@strawberry.type(description="One value that is out of its bounds.")
class InputProblem:
    path: list[str] = strawberry.field(description='Leads to the value from the input, such as `["tags", "2"]`; at most 5 parts.')
    message: str = strawberry.field(description="What the value must be.")


@member_for(errors.InvalidInput)
@strawberry.type(description="Values are out of their bounds.")
class InvalidInput(Error):
    path: list[str] = strawberry.field(description="The path of the first problem.")
    problems: list[InputProblem] = strawberry.field(
        description="One for each bad value, in the order of the fields.",
        metadata={"cost": 0},  # They are at hand; by the general rule a bulk call could not ask for those of its rows.
    )

    @classmethod
    def of(cls, error: errors.InvalidInput) -> InvalidInput:
        problems = [InputProblem(path=list(problem.path), message=problem.message) for problem in error.problems]
        return cls(message=error.message, path=problems[0].path, problems=problems)


@member_for(errors.NotFound)
@strawberry.type(description="There is no such object, or none that you may see.")
class NotFound(Error):
    @classmethod
    def of(cls, error: errors.NotFound) -> NotFound:
        return cls(message=error.message)


@member_for(errors.VersionConflict)
@strawberry.type(description="The object has been changed since you read it.")
class VersionConflict(Error):
    current_version: int = strawberry.field(description="The version that it has now.")

    @classmethod
    def of(cls, error: errors.VersionConflict) -> VersionConflict:
        return cls(message=error.message, current_version=error.current_version)


@member_for(errors.KeyReused)
@strawberry.type(description="The idempotency key was used for another request within the last 24 hours.")
class IdempotencyKeyReused(Error):
    @classmethod
    def of(cls, error: errors.KeyReused) -> IdempotencyKeyReused:
        return cls(message=error.message)


class Refused(Exception):
    """A request is refused before it runs: its response has `errors` and no `data`."""

    def __init__(self, errors: Sequence[GraphQLError], headers: Mapping[str, str] | None = None) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors, self.headers = errors, dict(headers or {})

    @property
    def code(self) -> str:
        return (self.errors[0].extensions or {}).get("code", INTERNAL)


def refusal(code: str, message: str, *, headers: Mapping[str, str] | None = None, **extensions: Any) -> Refused:
    return Refused([GraphQLError(message, extensions={"code": code, **extensions})], headers)


def internal(request_id: str) -> GraphQLError:
    """All that a client sees of an internal error; the log has the rest under the same id."""
    return GraphQLError(f"Internal error. Request id: {request_id}", extensions={"code": INTERNAL})


def unavailable(cause: Exception) -> GraphQLError:
    """It promises nothing about a mutation: its transaction may have been committed when the connection broke."""
    log.warning("the database or the object store is unavailable or overloaded", error=repr(cause))
    return GraphQLError(
        "The service cannot reach its database or its files just now, or has too much to do: repeat the request in a moment. "
        "A mutation with an idempotency key is safe to repeat.",
        extensions={"code": UNAVAILABLE},
    )


def out_of_service(cause: Exception) -> Refused:
    return Refused([unavailable(cause)], {"Retry-After": "1"})
