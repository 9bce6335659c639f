"""What mutations of an entity share: a command that runs once, the values that an input gives, and the rule "its owner, or a scope".

row = await perform(info, reviews.ENTITY, command, key=idempotency_key, arguments=[…])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, cast

import strawberry

from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.entity.declaration import object_of
from persistence.kit.database.database import Base, UnitOfWork
from persistence.kit.query.entity import Entity
from persistence.kit.serialization import row_of

R = TypeVar("R", bound=Base)

ExpectedVersion = Annotated[
    int | None, strawberry.argument(description="The `version` that you read: if it has changed since, nothing happens.")
]


async def perform(
    info: Info, entity: Entity[R], command: Callable[[UnitOfWork], Awaitable[R]], *, key: str | None, arguments: object
) -> Any:
    """Run a command in its transaction, under an idempotency key at most once. The object that stands for the row that it returned.

    `arguments` are those of the mutation, by which a repeat is told from another request. Raises: DomainError.
    """
    stored = row_of(entity.model, without=() if entity.words is None else (entity.words,))
    return object_of(await info.context.once(command, stored, key=key, operation=info.field_name, arguments=arguments))


def changes(values: Any) -> dict[str, Any]:
    """What an input gives, null included; fields that were left out, whose default is `strawberry.UNSET`, stay as they are."""
    found = cast("dict[str, Any]", vars(values))
    return {name: value for name, value in found.items() if value is not strawberry.UNSET}


def owner_unless(info: Info, scope: Scope, attribute: str) -> tuple[str, int] | None:
    """For `persistence.kit.rows.locked`: the row must be the viewer's, unless they hold the scope. Raises: GraphQLError, without a token."""
    viewer = info.context.require()
    return None if info.context.holds(scope) else (attribute, viewer.user_id)
