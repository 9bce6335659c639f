"""Decorators that declare root fields. Scope and description are required arguments, so authorization cannot be forgotten.

`scope=None` says that a field is public, `scope=()` that any signed-in user may ask it. The scopes are printed in the schema as `@requiresScopes`.
`cost` is for what the tariff's general rules do not price right, `limit` for what may be asked so often and no more, whatever it costs, and `cache`
for what may be kept (see `graph.kit.cache_control`): it is for everybody if the field is public, otherwise for the one who asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from graph.kit.auth import Scope
from graph.kit.cache_control import CacheDependencies
from graph.kit.context import Info
from graph.kit.entity.roots import Root
from graph.kit.errors import as_data, as_error, forbidden, rate_limited
from graph.kit.limits.cost_rules import Cost
from graph.kit.limits.rate_limits import LimitedCall, RateLimitRule
from persistence.kit.errors import DomainError, NotOwner, TooManyAttempts
from persistence.kit.limits.moving_window import MovingWindow

T = TypeVar("T")
Resolver = Callable[..., Any]
Scopes = Scope | tuple[Scope, ...] | None
Limits = RateLimitRule | tuple[RateLimitRule, ...]


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="requiresScopes",
    description="The field needs a token that carries all of these scopes; with an empty list, any valid token.",
)
class RequiresScopes:
    scopes: list[Scope]


def query(
    *,
    scope: Scopes,
    description: str,
    cost: int | Cost | None = None,
    limit: Limits = (),
    cache: CacheDependencies | None = None,
    plan: Root | None = None,
) -> Callable[[Resolver], StrawberryField]:
    """A field that reads. An expected refusal becomes a top-level error. With `plan` it can be read without its resolver."""
    if limit and cache:
        raise TypeError("an answer that is found in the cache is not counted: a field is limited, or kept")
    stored = None if cache is None else cache | CacheDependencies(personal=scope is not None)
    scopes = None if scope is None else _listed(scope)

    def declare(resolver: Resolver) -> StrawberryField:
        @wraps(resolver)
        async def guarded(root: Any, info: Info, **arguments: Any) -> Any:
            await _permit(info, scope, limit, arguments)
            try:
                return await resolver(root, info=info, **arguments)
            except DomainError as error:
                raise as_error(error) from error

        return _field(
            guarded,
            scope,
            _limited(description, limit),
            _metadata(cost=cost, cache=stored, scopes=scopes, plan=plan and Planned(plan, scopes, _listed(limit))),
        )

    return declare


@dataclass(frozen=True)
class Planned:
    """How a root field is read by a plan, the scopes that this takes, None for a public field, and how often it may be asked."""

    root: Root
    scopes: tuple[Scope, ...] | None
    limits: tuple[RateLimitRule, ...] = ()


def mutation(
    *, scope: Scopes, description: str, cost: int | Cost | None = None, limit: Limits = ()
) -> Callable[[Resolver], StrawberryField]:
    """A field that changes something. An expected refusal becomes a member of the result union."""

    def declare(resolver: Resolver) -> StrawberryField:
        @wraps(resolver)
        async def guarded(root: Any, info: Info, **arguments: Any) -> Any:
            _require(info, scope)
            try:
                async with _counted(info, arguments).attempt(_listed(limit)) if limit else nullcontext():
                    return await resolver(root, info=info, **arguments)
            except TooManyAttempts as error:
                raise rate_limited(error) from error
            except NotOwner as error:
                raise forbidden(error) from error
            except DomainError as error:
                return as_data(error)

        return _field(guarded, scope, _limited(description, limit), _metadata(cost=cost))

    return declare


def subscription(
    *, scope: Scopes, description: str, cost: int | Cost | None = None, limit: Limits = ()
) -> Callable[[Resolver], StrawberryField]:
    """A field that streams. An expected refusal ends the stream with a top-level error."""

    def declare(resolver: Resolver) -> StrawberryField:
        @wraps(resolver)
        async def guarded(root: Any, info: Info, **arguments: Any) -> AsyncGenerator[Any]:
            await _permit(info, scope, limit, arguments)
            return _events(resolver(root, info=info, **arguments))

        declared: Any = strawberry.subscription(
            resolver=guarded, description=_limited(description, limit), directives=_directives(scope), metadata=_metadata(cost=cost)
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


async def _permit(info: Info, scope: Scopes, limit: Limits, arguments: dict[str, Any]) -> None:
    _require(info, scope)
    if limit:
        await _counted(info, arguments).count(_listed(limit))


def _require(info: Info, scope: Scopes) -> None:
    if scope is not None:
        info.context.require(*_listed(scope))


def _counted(info: Info, arguments: dict[str, Any]) -> LimitedCall:
    return LimitedCall(info.context.port(MovingWindow), info.field_name, info.context.caller, arguments)


def _limited(description: str, limit: Limits) -> str:
    return " ".join([description, *map(str, _listed(limit))])


def _field(resolver: Resolver, scope: Scopes, description: str, metadata: dict[str, object]) -> StrawberryField:
    return strawberry.field(resolver=resolver, description=description, directives=_directives(scope), metadata=metadata)


def _listed(one_or_more: T | tuple[T, ...]) -> tuple[T, ...]:
    return cast("tuple[T, ...]", one_or_more) if isinstance(one_or_more, tuple) else (one_or_more,)


def _directives(scope: Scopes) -> list[object]:
    return [] if scope is None else [RequiresScopes(scopes=list(_listed(scope)))]


def _metadata(**declared: object) -> dict[str, object]:
    return {name: value for name, value in declared.items() if value is not None}
