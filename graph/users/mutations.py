"""Mutations of users: sign-up, scopes and activation."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Self

import strawberry
from graphql import GraphQLError

from graph.kit.auth import Principal, Scope, network
from graph.kit.context import Info
from graph.kit.errors import FORBIDDEN, Error, IdempotencyKeyReused, InvalidInput, NotFound, member_for
from graph.kit.fields import mutation
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import PASSWORD_POINTS
from graph.kit.limits.rate_limits import ADDRESS, RateLimitRule
from graph.kit.operations.commands import perform
from graph.users.types import User
from persistence import audit, logins, passwords, users
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork
from persistence.kit.limits.guess_throttle import GuessThrottle

Username = Annotated[str, strawberry.argument(description="Whose; in any case.")]


@dataclass(frozen=True)
class SignupPolicy:
    """What everybody who signs up may do."""

    scopes: tuple[Scope, ...]


@strawberry.input(description="A new account.")
class SignupInput:
    username: str = strawberry.field(
        description="3 to 32 letters (a to z), digits, dots, hyphens or underscores, beginning with a letter or digit. Unique, whatever its case."
    )
    password: str = strawberry.field(description="8 to 128 characters, and not the username. Kept as an argon2id hash only.")
    email: str | None = strawberry.field(
        default=None, description="An address of at most 254 characters. Only you and `users:read` see it."
    )
    full_name: str | None = strawberry.field(default=None, description="1 to 200 characters. Everybody sees it.")

    def application(self) -> users.SignUpValues:
        return users.SignUpValues(**vars(self))


@member_for(users.UsernameTaken)
@strawberry.type(description="Another user has this username, perhaps in another case.")
class UsernameTaken(Error):
    @classmethod
    def of(cls, error: users.UsernameTaken) -> Self:
        return cls(message=error.message)


SignupResult = Annotated[
    User | UsernameTaken | InvalidInput | IdempotencyKeyReused,
    strawberry.union("SignupResult", description="The new user, or why there is none."),
]
GrantScopesResult = Annotated[
    User | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("GrantScopesResult", description="The user with the new scopes, or why they were not given."),
]
RevokeScopesResult = Annotated[
    User | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("RevokeScopesResult", description="The user without the scopes, or why they were not taken."),
]
DeactivateUserResult = Annotated[
    User | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("DeactivateUserResult", description="The user, who can no longer sign in, or why that is not so."),
]
ReactivateUserResult = Annotated[
    User | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("ReactivateUserResult", description="The user, who can sign in again, or why that is not so."),
]


@strawberry.type
class UserMutation:
    @mutation(
        scope=None,
        description="Make an account. Then get a token with the mutation `token`.",
        cost=PASSWORD_POINTS,
        # The first keeps people from trying out which names are taken, the second from filling the table.
        limit=(RateLimitRule("100/10minutes", by=ADDRESS, failures=True), RateLimitRule("1000/hour", by=ADDRESS)),
    )
    async def signup(self, info: Info, input: SignupInput, idempotency_key: IdempotencyKey = None) -> SignupResult:
        application = input.application()
        application.check()
        if idempotency_key is None:  # With one, the name may be taken by this very request.
            async with info.context.database.reading_latest() as session:
                if await users.by_username(session, [application.username]):
                    raise users.UsernameTaken(application.username)
        async with info.context.port(GuessThrottle).place(network(info.context.caller.client_ip)):
            password_hash = await passwords.hash_password(application.password)
        scopes = [scope.value for scope in info.context.port(SignupPolicy).scopes]

        async def command(work: UnitOfWork) -> users.User:
            user = await users.sign_up(work, application, password_hash=password_hash, scopes=scopes)
            await audit.write(work, "user.signed_up", actor_id=user.id, subject=("User", user.id), detail={"scopes": user.scopes})
            return user

        arguments = [application.username, application.full_name, application.email]
        user: User = await perform(info, users.ENTITY, command, key=idempotency_key, arguments=arguments)
        if info.context.replayed:
            await _check_password(info, user.row, application.password)
        user.opened = True  # There is no token yet, but who asks is who it is.
        return user

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Grant scopes to a user. You can grant only what your own token carries. "
        "Tokens that the user has already do not grow: `refreshToken` or `token` gives one that carries the new scopes.",
    )
    async def grant_scopes(
        self, info: Info, username: Username, scopes: list[Scope], idempotency_key: IdempotencyKey = None
    ) -> GrantScopesResult:
        actor = _may_change(info, scopes)
        supplied = [scope.value for scope in scopes]

        async def command(work: UnitOfWork) -> users.User:
            user = await users.change_scopes(work, username, give=supplied)
            await audit.write(work, "user.scopes_granted", actor_id=actor.user_id, subject=("User", user.id), detail={"scopes": supplied})
            return user

        return await perform(info, users.ENTITY, command, key=idempotency_key, arguments=[username, supplied])

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Revoke scopes of a user. You can revoke only what your own token carries, and nothing from a user with scopes that your token lacks, "
        "nor `users:write` from the last who holds it. It takes effect within a second, "
        "also for tokens that were given out before and for open subscriptions.",
    )
    async def revoke_scopes(
        self, info: Info, username: Username, scopes: list[Scope], idempotency_key: IdempotencyKey = None
    ) -> RevokeScopesResult:
        actor = _may_change(info, scopes)
        taken = [scope.value for scope in scopes]

        async def command(work: UnitOfWork) -> users.User:
            if users.ADMINISTRATION in taken:
                await users.check_another_administers(work, username)
            user = await users.change_scopes(work, username, take=taken)
            _may_act_upon(info, user)
            await audit.write(work, "user.scopes_revoked", actor_id=actor.user_id, subject=("User", user.id), detail={"scopes": taken})
            return user

        return await perform(info, users.ENTITY, command, key=idempotency_key, arguments=[username, taken])

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Deactivate a user: every token and open subscription ends within a second, and no new one is issued. "
        "What the user owns stays. You cannot deactivate yourself, nor a user with scopes that your token lacks, nor the last who holds `users:write`.",
    )
    async def deactivate_user(self, info: Info, username: Username, idempotency_key: IdempotencyKey = None) -> DeactivateUserResult:
        actor = info.context.require()

        async def command(work: UnitOfWork) -> users.User:
            await users.check_another_administers(work, username)
            user = await users.set_active(work, username, active=False)
            if user.id == actor.user_id:
                raise errors.InvalidInput.at("username", "must not be your own")
            _may_act_upon(info, user)
            await logins.end_all(work, user.id)
            await audit.write(work, "user.deactivated", actor_id=actor.user_id, subject=("User", user.id))
            return user

        return await perform(info, users.ENTITY, command, key=idempotency_key, arguments=username)

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Reactivate a user, who must then sign in again. Not for a user with scopes that your token lacks.",
    )
    async def reactivate_user(self, info: Info, username: Username, idempotency_key: IdempotencyKey = None) -> ReactivateUserResult:
        actor = info.context.require()

        async def command(work: UnitOfWork) -> users.User:
            user = await users.set_active(work, username, active=True)
            _may_act_upon(info, user)
            await audit.write(work, "user.reactivated", actor_id=actor.user_id, subject=("User", user.id))
            return user

        return await perform(info, users.ENTITY, command, key=idempotency_key, arguments=username)


def _may_change(info: Info, scopes: Collection[Scope]) -> Principal:
    """The caller, who may grant or revoke these scopes. Raises: InvalidInput without any, so that no user is shown for nothing; GraphQLError FORBIDDEN."""
    if not scopes:
        raise errors.InvalidInput.at("scopes", "must name one scope or more")
    return info.context.require(*scopes)


def _may_act_upon(info: Info, user: users.User) -> None:
    """Raises: GraphQLError FORBIDDEN, if the user may do what the token of the caller may not; what that is, is not told."""
    held = {scope.value for scope in info.context.require().scopes}
    if not held.issuperset(user.scopes):
        raise GraphQLError("That user may do what your token may not.", extensions={"code": FORBIDDEN})


async def _check_password(info: Info, user: users.User, password: str) -> None:
    """Check that the caller who repeats a sign-up knows its password: an idempotency key tells requests apart, not people. Raises: KeyReused."""
    async with info.context.database.reading_latest() as session:
        present = (await users.by_id(session, [user.id])).get(user.id)
    if not (await passwords.verify(password, present.password_hash if present else None)).right:
        raise errors.KeyReused
