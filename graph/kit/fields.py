"""How fields that need a rule are declared. Scope and description are required, so nobody forgets them.

`scope=None` says that a field is public, `scope=()` that any signed-in user may ask it. The scopes are printed in the schema as `@requiresScopes`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from graph.kit.access import Scope
from graph.kit.context import Info
from graph.kit.errors import as_data, as_error
from persistence.kit.errors import DomainError

Resolver = Callable[..., Any]
Scopes = Scope | tuple[Scope, ...] | None


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="requiresScopes",
    description="The field needs a token that carries all of these scopes; with an empty list, any valid token.",
)
class RequiresScopes:
    scopes: list[Scope]


def query(*, scope: Scopes, description: str, cost: int | None = None) -> Callable[[Resolver], StrawberryField]:
    """A field that reads. An expected refusal becomes a top-level error."""

    def declare(resolver: Resolver) -> StrawberryField:
        @wraps(resolver)
        async def guarded(root: Any, info: Info, **arguments: Any) -> Any:
            if scope is not None:
                info.context.require(*_listed(scope))
            try:
                return await resolver(root, info=info, **arguments)
            except DomainError as error:
                raise as_error(error) from error

        return _field(guarded, scope, description, cost)

    return declare


def mutation(*, scope: Scopes, description: str, cost: int | None = None) -> Callable[[Resolver], StrawberryField]:
    """A field that changes something. An expected refusal becomes a member of the result union."""

    def declare(resolver: Resolver) -> StrawberryField:
        @wraps(resolver)
        async def guarded(root: Any, info: Info, **arguments: Any) -> Any:
            if scope is not None:
                info.context.require(*_listed(scope))
            try:
                return await resolver(root, info=info, **arguments)
            except DomainError as error:
                return as_data(error)

        return _field(guarded, scope, description, cost)

    return declare


def subscription(*, scope: Scopes, description: str, cost: int | None = None) -> Callable[[Resolver], StrawberryField]:
    """A field that streams. An expected refusal ends the stream with a top-level error."""

    def declare(resolver: Resolver) -> StrawberryField:
        @wraps(resolver)
        async def guarded(root: Any, info: Info, **arguments: Any) -> AsyncGenerator[Any]:
            if scope is not None:
                info.context.require(*_listed(scope))
            return _events(resolver(root, info=info, **arguments))

        declared: Any = strawberry.subscription(
            resolver=guarded, description=description, directives=_directives(scope), metadata=_metadata(cost)
        )
        return declared

    return declare


async def _events(stream: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    async with aclosing(stream) as events:
        try:
            async for event in events:
                yield event
        except DomainError as error:
            raise as_error(error) from error


def _field(resolver: Resolver, scope: Scopes, description: str, cost: int | None) -> StrawberryField:
    return strawberry.field(resolver=resolver, description=description, directives=_directives(scope), metadata=_metadata(cost))


def _listed(scope: Scope | tuple[Scope, ...]) -> tuple[Scope, ...]:
    return scope if isinstance(scope, tuple) else (scope,)


def _directives(scope: Scopes) -> list[object]:
    return [] if scope is None else [RequiresScopes(scopes=list(_listed(scope)))]


def _metadata(cost: int | None) -> dict[str, int]:
    return {} if cost is None else {"cost": cost}
