"""Mutations of one's own account: password, profile and erasure."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Self, TypeVar

import strawberry
from strawberry.utils.str_converters import to_camel_case

from graph.kit.auth import network
from graph.kit.context import Info
from graph.kit.errors import Error, IdempotencyKeyReused, InvalidInput, NotFound, member_for
from graph.kit.fields import mutation
from graph.kit.global_ids import global_id
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import PASSWORD_POINTS
from graph.kit.limits.rate_limits import ADDRESS, RateLimitRule
from graph.kit.operations import commands
from graph.users.tokens import InvalidCredentials
from graph.users.types import User
from persistence import audit, erasure, logins, passwords, users
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork
from persistence.kit.limits.guess_throttle import GuessThrottle
from persistence.kit.serialization import NUMBER

T = TypeVar("T")


@strawberry.input(description="New values. What is left out stays as it is; null removes it.")
class UpdateMeInput:
    full_name: str | None = strawberry.field(default=strawberry.UNSET, description="1 to 200 characters, or null. Everybody sees it.")
    email: str | None = strawberry.field(
        default=strawberry.UNSET, description="An address of at most 254 characters, or null. Only you and `users:read` see it."
    )


@strawberry.type(description="The new password is in force.")
class ChangedPassword:
    ended_logins: int = strawberry.field(description="How many other logins were ended by it.")


@member_for(erasure.LastAdministrator)
@strawberry.type(description="Nobody else holds `users:write`, without which nobody could give a scope to anybody.")
class LastAdministrator(Error):
    @classmethod
    def of(cls, error: erasure.LastAdministrator) -> Self:
        return cls(message=error.message)


@strawberry.type(description="The account is erased.")
class DeletedUser:
    id: strawberry.ID = strawberry.field(description="The id that it had.")
    username: str = strawberry.field(description="What your purchases show as their buyer from now on.")


UpdateMeResult = Annotated[
    User | InvalidInput | NotFound | IdempotencyKeyReused,
    strawberry.union("UpdateMeResult", description="You as you are now, or why nothing was changed."),
]
ChangePasswordResult = Annotated[
    ChangedPassword | InvalidCredentials | InvalidInput | IdempotencyKeyReused,
    strawberry.union("ChangePasswordResult", description="That the new password is in force, or why the former one still is."),
]

DeleteMeResult = Annotated[
    DeletedUser | InvalidCredentials | LastAdministrator,
    strawberry.union("DeleteMeResult", description="That your account is erased, or why it is not."),
]


@strawberry.type
class AccountMutation:
    @mutation(scope=(), description="Change what your account says of you. What is the same already is not written again.")
    async def update_me(self, info: Info, input: UpdateMeInput, idempotency_key: IdempotencyKey = None) -> UpdateMeResult:
        user_id, changes = info.context.require().user_id, commands.changes(input)

        async def command(work: UnitOfWork) -> users.User:
            user, changed = await users.change_profile(work, user_id, changes)
            if changed:
                fields = [to_camel_case(name) for name in changed]
                await audit.write(work, "user.updated", actor_id=user_id, subject=("User", user_id), detail={"fields": fields})
            return user

        return await commands.perform(info, users.ENTITY, command, key=idempotency_key, arguments=changes)

    @mutation(
        scope=(),
        description="Change your password. Every other login of yours ends: its tokens are refused within a second, and its subscriptions end. "
        "Wrong current passwords slow the next attempt down, as in `token`.",
        cost=2 * PASSWORD_POINTS,
    )
    async def change_password(
        self,
        info: Info,
        current_password: str,
        new_password: Annotated[str, strawberry.argument(description="8 to 128 characters, and not the username.")],
        idempotency_key: IdempotencyKey = None,
    ) -> ChangePasswordResult:
        me, database = info.context.require(), info.context.database
        users.check_password("newPassword", new_password, me.username)

        async def verified() -> tuple[users.User, str] | None:
            try:
                user = await logins.verify_password(database, me.user_id, current_password)
            except logins.InvalidCredentials:
                if idempotency_key is None:
                    raise
                await logins.verify_password(database, me.user_id, new_password)
                return None  # Sent again: it is in force already, if the key was used for that.
            return user, await passwords.hash_password(new_password)

        proof, is_repeat = await prove(info, verified), True

        async def command(work: UnitOfWork) -> int:
            nonlocal is_repeat
            if proof is None:
                raise logins.InvalidCredentials
            user, password_hash = proof
            is_repeat = False
            if not await users.set_password_hash(work, user, password_hash):
                raise logins.InvalidCredentials
            await audit.write(work, "user.password_changed", actor_id=me.user_id, subject=("User", me.user_id))
            return await logins.end_all(work, me.user_id, but=me.family)

        ended = await commands.perform(info, NUMBER, command, key=idempotency_key, arguments=None)
        if is_repeat and proof is not None:  # Passwords are not kept to be compared, but a repeat's current one is not right any more.
            raise errors.KeyReused
        return ChangedPassword(ended_logins=ended)

    @mutation(
        scope=(),
        description="Erase your account, for good: your name, e-mail address, files, logins, and every trace of them. "
        "What you sold or bought stays in the books: items without an owner, purchases with a buyer `deleted-<number>`. "
        "Your tokens are refused within a second, and your subscriptions end. Not for the last who holds `users:write`.",
        cost=2 * PASSWORD_POINTS,
        limit=RateLimitRule("30/hour", by=ADDRESS),  # On SQLite, each writes the database file anew.
    )
    async def delete_me(self, info: Info, password: str) -> DeleteMeResult:
        me, database = info.context.require(), info.context.database
        user = await prove(info, lambda: logins.verify_password(database, me.user_id, password))
        async with database.transaction() as work:
            await erasure.erase_own(work, user)
        await erasure.wait(database, user.id)
        return DeletedUser(id=global_id("User", user.id), username=users.erased_name(user.id))


async def prove(info: Info, check: Callable[[], Awaitable[T]]) -> T:
    """What a check of the viewer's password returns; wrong ones count as in `token`. Raises: InvalidCredentials, and as GuessThrottle.attempt."""
    place = network(info.context.caller.client_ip)
    return await info.context.port(GuessThrottle).attempt(place, info.context.require().username, check, logins.InvalidCredentials)
