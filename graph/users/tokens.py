"""Mutations of tokens: `token`, `refreshToken` and `revokeToken`."""

from datetime import datetime
from functools import partial
from typing import Annotated, Self

import strawberry

from graph.kit.auth import TOKEN_LENGTH, AccessTokens, Scope, network
from graph.kit.context import Info
from graph.kit.errors import Error, InvalidInput, member_for
from graph.kit.fields import mutation
from graph.kit.limits.cost_rules import PASSWORD_POINTS, TOKEN_WRITE_POINTS
from graph.kit.limits.rate_limits import LOGIN, LimitedCall, RateLimitRule
from graph.users.types import known_scopes
from persistence import logins
from persistence.kit import errors
from persistence.kit.column_types import utc_now
from persistence.kit.limits.guess_throttle import GuessThrottle
from persistence.kit.limits.moving_window import MovingWindow

BEARER = "Bearer"
REFRESHES = RateLimitRule("10/10minutes", by=LOGIN)  # An access token is good for half an hour, and browsers' tabs refresh one by one.


@member_for(logins.InvalidCredentials)
@strawberry.type(description="Username, password or token are not right, or not any more. Why is not said.")
class InvalidCredentials(Error):
    @classmethod
    def of(cls, error: logins.InvalidCredentials) -> Self:
        return cls(message=error.message)


@strawberry.type(description="Proof of who you are: send `Authorization: Bearer <accessToken>`.")
class Token:
    access_token: str = strawberry.field(description="For requests. A signed JWT.")
    token_type: str = strawberry.field(description="Always `Bearer`.")
    expires_in: int = strawberry.field(description="Seconds for which the access token is good.")
    refresh_token: str = strawberry.field(description="For one call of `refreshToken`, within 30 days of signing in. Keep it secret.")
    scopes: list[Scope] = strawberry.field(description="What the access token allows.")

    @classmethod
    def of(cls, login: logins.IssuedLogin, tokens: AccessTokens) -> Self:
        scopes = known_scopes(login.scopes)
        return cls(
            access_token=tokens.issue(login.user.id, scopes, family=login.login_id),
            token_type=BEARER,
            expires_in=tokens.lifetime_seconds,
            refresh_token=login.refresh_token,
            scopes=scopes,
        )


@strawberry.type(description="If this was a token, it is one no more. A token that nobody knows is answered the same.")
class RevokedToken:
    revoked_at: datetime = strawberry.field(description="Since when this process refuses it; others follow within a second.")


TokenResult = Annotated[
    Token | InvalidCredentials | InvalidInput, strawberry.union("TokenResult", description="New tokens, or why there are none.")
]
RevokeTokenResult = Annotated[
    RevokedToken | InvalidInput, strawberry.union("RevokeTokenResult", description="That the token is void now, or why it is not.")
]


@strawberry.type
class TokenMutation:
    @mutation(
        scope=None,
        description="Sign in. The same time passes and the same is said for an unknown user and a wrong password. "
        "After many wrong passwords the next attempt takes up to 4 seconds longer; the right one is never refused for them.",
        cost=PASSWORD_POINTS,
    )
    async def token(
        self,
        info: Info,
        username: Annotated[str, strawberry.argument(description="In any case.")],
        password: str,
        scopes: Annotated[
            list[Scope] | None,
            strawberry.argument(
                description="The token carries only these, which you must hold; `[]` is a token that only says who you are. "
                "Without it, the token carries all you hold, and refreshing it follows what you hold then."
            ),
        ] = None,
    ) -> TokenResult:
        user = await info.context.port(GuessThrottle).attempt(
            network(info.context.caller.client_ip),
            username,
            lambda: logins.authenticate(info.context.database, username, password),
            logins.InvalidCredentials,
        )
        requested = None if scopes is None else [scope.value for scope in scopes]
        async with info.context.database.transaction() as work:
            login = await logins.begin(work, user, scopes=requested, client=info.context.caller.user_agent)
        return Token.of(login, info.context.port(AccessTokens))

    @mutation(
        scope=None,
        description="Stay signed in: a new access token and a new refresh token for a refresh token, which works once. "
        "Used twice, even at the same moment, it is in two hands: the login ends, and every token that came from it is refused. "
        f"{REFRESHES} A token that is refused for that may be used later.",
        cost=TOKEN_WRITE_POINTS,
    )
    async def refresh_token(
        self, info: Info, refresh_token: Annotated[str, strawberry.argument(description="The newest one of your login.")]
    ) -> TokenResult:
        async with info.context.database.transaction() as work:
            login = await logins.refresh(work, refresh_token, client=info.context.caller.user_agent, admit=partial(_count_refresh, info))
        if login is None:
            raise logins.InvalidCredentials
        return Token.of(login, info.context.port(AccessTokens))

    @mutation(
        scope=None,
        description="Sign out. A refresh token ends its login, with every token that came from it; an access token ends alone. "
        "No other token is needed for it.",
        cost=TOKEN_WRITE_POINTS,
    )
    async def revoke_token(
        self, info: Info, token: Annotated[str, strawberry.argument(description="An access token or a refresh token.")]
    ) -> RevokeTokenResult:
        if len(token) > TOKEN_LENGTH:
            raise errors.InvalidInput.at("token", f"must have at most {TOKEN_LENGTH} characters")
        access = info.context.port(AccessTokens).read(token)
        async with info.context.database.transaction() as work:
            if access is None:
                await logins.end(work, token)
            else:
                await logins.revoke(work, access.token_id, user_id=access.user_id, expires_at=access.expires_at)
        return RevokedToken(revoked_at=utc_now())


async def _count_refresh(info: Info, login_id: str) -> None:
    """Raises: GraphQLError RATE_LIMITED."""
    context = info.context
    await LimitedCall(context.port(MovingWindow), info.field_name, context.caller, {"login_id": login_id}).count((REFRESHES,))
