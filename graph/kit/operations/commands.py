"""What mutations of an entity share: a command that runs once, the values that an input gives, and the rule "its owner, or a scope".

row = await perform(info, reviews.ENTITY, command, key=idempotency_key, arguments=[…])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, cast, overload

import strawberry

from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.entity.declaration import object_of
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.idempotency import Attempt
from persistence.kit.query.entity import Entity
from persistence.kit.serialization import Serializer

R = TypeVar("R", bound=Base)
T = TypeVar("T")
Command = Callable[[UnitOfWork], Awaitable[T]]

ExpectedVersion = Annotated[
    int | None, strawberry.argument(description="The `version` that you read: if it has changed since, nothing happens.")
]


@overload
async def perform(
    info: Info,
    result: Entity[R],
    command: Command[R],
    *,
    key: str | None,
    arguments: object,
    shortcut: Callable[[Attempt | None], Awaitable[R | None]] | None = None,
) -> Any: ...
@overload
async def perform(info: Info, result: Serializer[T], command: Command[T], *, key: str | None, arguments: object) -> T: ...
async def perform(
    info: Info,
    result: Entity[Any] | Serializer[Any],
    command: Command[Any],
    *,
    key: str | None,
    arguments: object,
    shortcut: Callable[[Attempt | None], Awaitable[Any]] | None = None,
) -> Any:
    """Run a command in its transaction, under an idempotency key at most once. The object that stands for the row that it returned.

    A command that returns something else than a row of an entity names how that is kept, and its result is returned as it is.
    `arguments` are those of the mutation, by which a repeat is told from another request: see `Context.once`. Raises: DomainError.
    """
    stored = result.replay_format if isinstance(result, Entity) else result
    found = await info.context.once(command, stored, key=key, operation=info.field_name, arguments=arguments, shortcut=shortcut)
    return object_of(found) if isinstance(result, Entity) else found


def changes(values: Any) -> dict[str, Any]:
    """What an input gives, null included; fields that were left out, whose default is `strawberry.UNSET`, stay as they are."""
    found = cast("dict[str, Any]", vars(values))
    return {name: value for name, value in found.items() if value is not strawberry.UNSET}


def owner_unless(info: Info, scope: Scope, attribute: str) -> tuple[str, int] | None:
    """For `persistence.kit.rows.locked`: the row must be the viewer's, unless they hold the scope. Raises: GraphQLError, without a token."""
    viewer = info.context.require()
    return None if info.context.holds(scope) else (attribute, viewer.user_id)
