"""Changing who there is and what they may do: sign-up, scopes and activity."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Self

import strawberry

from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.errors import Error, ErrorCode, IdempotencyKeyReused, InvalidInput, NotFound, member_for
from graph.kit.fields import mutation
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.rate_limits import ADDRESS, Limit
from graph.users.types import User
from persistence import audit, logins, passwords, users
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork

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

    def application(self) -> users.Application:
        return users.Application(**vars(self))


@member_for(users.UsernameTaken)
@strawberry.type(description="Somebody has this name already, perhaps in another case.")
class UsernameTaken(Error):
    @classmethod
    def of(cls, error: users.UsernameTaken) -> Self:
        return cls(code=ErrorCode.USERNAME_TAKEN, message=error.message)


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
        cost=20,
        # The first keeps people from trying out which names are taken, the second from filling the table.
        limit=(Limit("100/10minutes", by=ADDRESS, failures=True), Limit("1000/hour", by=ADDRESS)),
    )
    async def signup(self, info: Info, input: SignupInput, idempotency_key: IdempotencyKey = None) -> SignupResult:
        application = input.application()
        application.check()
        if idempotency_key is None:  # With one, the name may be taken by this very request.
            async with info.context.database.reading_latest() as session:
                if await users.by_username(session, [application.username]):
                    raise users.UsernameTaken(application.username)
        password_hash = await passwords.hashed(application.password)
        scopes = [scope.value for scope in info.context.port(SignupPolicy).scopes]

        async def command(work: UnitOfWork) -> users.User:
            user = await users.sign_up(work, application, password_hash=password_hash, scopes=scopes)
            await audit.write(work, "user.signed_up", actor_id=user.id, subject=("User", user.id), detail={"scopes": user.scopes})
            return user

        arguments = [application.username, application.full_name, application.email]
        user = await info.context.once(command, users.ANSWER, key=idempotency_key, operation="signup", arguments=arguments)
        return User.of(user, opened=True)  # There is no token yet, but who asks is who it is.

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Let a user do more. You can grant only what your own token carries. "
        "Tokens that the user has already do not grow: `refreshToken` or `token` gives one that carries the new scopes.",
    )
    async def grant_scopes(
        self, info: Info, username: Username, scopes: list[Scope], idempotency_key: IdempotencyKey = None
    ) -> GrantScopesResult:
        actor = info.context.require(*scopes)
        given = [scope.value for scope in scopes]

        async def command(work: UnitOfWork) -> users.User:
            user = await users.change_scopes(work, username, give=given)
            await audit.write(work, "user.scopes_granted", actor_id=actor.user_id, subject=("User", user.id), detail={"scopes": given})
            return user

        return await _once(info, command, idempotency_key, "grantScopes", [username, given])

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Let a user do less. You can revoke only what your own token carries. It takes effect within a second, "
        "also for tokens that were given out before and for open subscriptions.",
    )
    async def revoke_scopes(
        self, info: Info, username: Username, scopes: list[Scope], idempotency_key: IdempotencyKey = None
    ) -> RevokeScopesResult:
        actor = info.context.require(*scopes)
        taken = [scope.value for scope in scopes]

        async def command(work: UnitOfWork) -> users.User:
            user = await users.change_scopes(work, username, take=taken)
            await audit.write(work, "user.scopes_revoked", actor_id=actor.user_id, subject=("User", user.id), detail={"scopes": taken})
            return user

        return await _once(info, command, idempotency_key, "revokeScopes", [username, taken])

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Shut a user out: every token and open subscription ends within a second, and no new one is given. "
        "What the user owns stays. You cannot shut out yourself, nor somebody who may do what you may not.",
    )
    async def deactivate_user(self, info: Info, username: Username, idempotency_key: IdempotencyKey = None) -> DeactivateUserResult:
        actor = info.context.require()

        async def command(work: UnitOfWork) -> users.User:
            user = await users.set_active(work, username, active=False)
            if user.id == actor.user_id:
                raise errors.InvalidInput.at("username", "must not be your own")
            info.context.require(*(scope for scope in Scope if scope.value in user.scopes))
            await logins.end_all(work, user.id)
            await audit.write(work, "user.deactivated", actor_id=actor.user_id, subject=("User", user.id))
            return user

        return await _once(info, command, idempotency_key, "deactivateUser", username)

    @mutation(
        scope=Scope.USERS_WRITE,
        description="Let a user in again, who must then sign in anew. Not for somebody who may do what you may not.",
    )
    async def reactivate_user(self, info: Info, username: Username, idempotency_key: IdempotencyKey = None) -> ReactivateUserResult:
        actor = info.context.require()

        async def command(work: UnitOfWork) -> users.User:
            user = await users.set_active(work, username, active=True)
            info.context.require(*(scope for scope in Scope if scope.value in user.scopes))
            await audit.write(work, "user.reactivated", actor_id=actor.user_id, subject=("User", user.id))
            return user

        return await _once(info, command, idempotency_key, "reactivateUser", username)


async def _once(
    info: Info, command: Callable[[UnitOfWork], Awaitable[users.User]], key: str | None, operation: str, arguments: object
) -> User:
    return User.of(await info.context.once(command, users.ANSWER, key=key, operation=operation, arguments=arguments))
