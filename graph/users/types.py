"""The `User` type, and the queries for users."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.connections import Connection
from graph.kit.context import Info
from graph.kit.entity.declaration import entity, private, resolved, to_many
from graph.kit.entity.roots import FindByKey, FindViewer
from graph.kit.entity.visibility import Visibility
from graph.kit.fields import query
from graph.kit.global_ids import Node
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations.lists import read_list
from graph.users.logins import Login, logins_of
from persistence import users
from persistence.items import listing
from persistence.logins import SHOWN
from persistence.purchases import table as purchases

if TYPE_CHECKING:
    from graph.items.connection import ItemConnection
    from graph.purchases.types import Purchase


LOGINS_POINTS = 400  # A statement of their own, by way of SQLAlchemy: a millisecond or two.
PRIVATE = Visibility(Scope.USERS_READ, own="id")
FOUND = Visibility(Scope.USERS_READ, own="id", known=listing.BY_OWNER)
"""By its id, a user is seen by itself, by `users:read`, and by everyone if an item in the catalogue names it as owner."""


def known_scopes(stored: Collection[str]) -> list[Scope]:
    """In the order of the schema. What a later version stored and this one does not know is left out."""
    return [scope for scope in Scope if scope.value in stored]


@entity(users.ENTITY, visible=FOUND)
@strawberry.type(description="A user account.")
class User(Node):
    username: str = strawberry.field(description="Unique, whatever its case; the name to sign in with.")
    full_name: str | None = strawberry.field(description="The name to show, if it was given.")
    created_at: datetime = strawberry.field(description="When the account was made.")
    email: str | None = private(
        "email", visible=PRIVATE, description="Where to write to, if it was given. Null unless it is you, or you hold `users:read`."
    )
    is_active: bool | None = private(
        "is_active", visible=PRIVATE, description="Whether the user may sign in. Null unless it is you, or you hold `users:read`."
    )
    scopes: list[Scope] | None = private(
        "scopes",
        visible=PRIVATE,
        compute=known_scopes,
        description="What the user may do; a token may carry less. Null unless it is you, or you hold `users:read`.",
    )
    items: Annotated["ItemConnection", strawberry.lazy("graph.items.connection")] = to_many(
        listing.BY_OWNER,
        description="What this user added to the catalogue and is there still, in the order it was added.",
    )
    purchases: Connection[Annotated["Purchase", strawberry.lazy("graph.purchases.types")]] = to_many(
        purchases.BY_BUYER,
        visible=PRIVATE,
        description="What this user bought, oldest first. Empty unless it is you, or you hold `users:read`.",
    )

    @strawberry.field(
        description=f"Where you are signed in, the login used last first, {SHOWN} at most. Null unless it is you.",
        metadata=resolved("id", cost=Cost(base=LOGINS_POINTS)),
    )
    async def logins(self, info: Info) -> list[Login] | None:
        return await logins_of(info, self.row.id)


@strawberry.type
class UserQuery:
    @query(scope=(), description="You: the user whose token came with this request.", cache=reads(users.User), plan=FindViewer())
    async def me(self, info: Info) -> User:
        row = await info.context.load(users.by_id, info.context.require().user_id)
        assert row is not None, "a token is refused when its user is gone"
        return User.of(row)

    @query(
        scope=Scope.USERS_READ,
        description="One user, or null if there is none of this name.",
        cache=reads(users.User),
        plan=FindByKey("username_key", users.username_key),
    )
    async def user(self, info: Info, username: Annotated[str, strawberry.argument(description="In any case.")]) -> User | None:
        row = await info.context.load(users.by_username, username)
        return User.of(row) if row else None

    users: Connection[User] = read_list(
        users.ALL,
        scope=Scope.USERS_READ,
        description="All users in order of their names, page by page.",
        search="Up to 16 words of up to 64 characters: each must begin a word of the username, full name or e-mail, whatever its case"
        " and accents. In Chinese, Japanese, Thai, Lao, Khmer and Burmese any part of a text is found, and each 3 letters count as a word.",
    )
