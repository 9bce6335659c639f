"""The `Login` type and the mutation `endLogin`: where a user is signed in, and signing out there."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from graph.kit.auth import Principal
from graph.kit.context import Info
from graph.kit.errors import IdempotencyKeyReused, InvalidInput, NotFound
from graph.kit.fields import mutation
from graph.kit.idempotency import IdempotencyKey
from graph.kit.operations.commands import perform
from persistence import logins
from persistence.kit.database.database import UnitOfWork
from persistence.kit.serialization import NO_RESULT


@strawberry.type(description="A sign-in that goes on: by its refresh token some program can get access tokens of yours.")
class Login:
    id: strawberry.ID = strawberry.field(description="For `endLogin`.")
    created_at: datetime = strawberry.field(description="When you signed in.")
    last_used_at: datetime = strawberry.field(description="When its newest access token was given out: by `token` or `refreshToken`.")
    client: str | None = strawberry.field(
        description="What the program that used it last calls itself: the start of its User-Agent, which can say anything. Null if it sent none."
    )
    is_current: bool = strawberry.field(description="Whether the token of this request is of this login.")

    @classmethod
    def of(cls, row: logins.Login, viewer: Principal) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            created_at=row.created_at,
            last_used_at=row.last_used_at or row.created_at,
            client=row.client,
            is_current=row.id == viewer.family,
        )


async def logins_of(info: Info, user_id: int) -> list[Login] | None:
    """None for anybody but the user."""
    if not info.context.is_user(user_id):
        return None
    viewer = info.context.require()
    return [Login.of(row, viewer) for row in await info.context.load(logins.going_on, user_id) or ()]


@strawberry.type(description="The login has ended, with every token that came from it.")
class EndedLogin:
    id: strawberry.ID = strawberry.field(description="The id that it had.")


EndLoginResult = Annotated[
    EndedLogin | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("EndLoginResult", description="The login that has ended, or why none has."),
]


@strawberry.type
class LoginMutation:
    @mutation(
        scope=(),
        description="Sign out somewhere else, or here: ends one of your logins. Its tokens are refused within a second, "
        "and its open subscriptions end.",
    )
    async def end_login(self, info: Info, id: strawberry.ID, idempotency_key: IdempotencyKey = None) -> EndLoginResult:
        user_id = info.context.require().user_id

        async def command(work: UnitOfWork) -> None:
            await logins.end_own(work, user_id, id)

        await perform(info, NO_RESULT, command, key=idempotency_key, arguments=id)
        return EndedLogin(id=id)
