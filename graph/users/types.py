"""The `User` type, and the queries for users."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.connections import After, Before, Connection, First, Last, listed
from graph.kit.context import Info
from graph.kit.entity.declaration import entity, private, to_many
from graph.kit.entity.roots import FindByKey, FindViewer, ReadList
from graph.kit.entity.visibility import Visibility
from graph.kit.fields import query
from graph.kit.global_ids import Node
from graph.kit.limits.cost_rules import SEARCH_POINTS, Cost
from persistence import users
from persistence.items import listing
from persistence.items import table as items
from persistence.kit.query.paging import PageArguments
from persistence.purchases import table as purchases

if TYPE_CHECKING:
    from graph.items.types import Item
    from graph.purchases import Purchase


PRIVATE = Visibility(Scope.USERS_READ, own="id")
FOUND = Visibility(Scope.USERS_READ, own="id", known=items.are_owners)
"""By its id, a user is seen by itself, by `users:read`, and by everyone if an item in the catalogue names it as owner."""


def known_scopes(stored: Collection[str]) -> list[Scope]:
    """In the order of the schema. What a later version stored and this one does not know is left out."""
    return [scope for scope in Scope if scope.value in stored]


@entity(users.ENTITY, find=users.by_id, visible=FOUND)
@strawberry.type(description="Somebody with an account.")
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
    items: Connection[Annotated["Item", strawberry.lazy("graph.items.types")]] = to_many(
        listing.BY_OWNER,
        entity=items.ENTITY,
        description="What this user added to the catalogue and is there still, in the order it was added.",
    )
    purchases: Connection[Annotated["Purchase", strawberry.lazy("graph.purchases")]] = to_many(
        purchases.BY_BUYER,
        entity=purchases.ENTITY,
        visible=PRIVATE,
        description="What this user bought, oldest first. Empty unless it is you, or you hold `users:read`.",
    )


def user_list(
    search: str | None = None, first: int | None = None, after: str | None = None, last: int | None = None, before: str | None = None
) -> tuple[users.UserList, PageArguments]:
    """What the arguments of `users` mean."""
    return users.UserList(search), PageArguments(first, after, last, before)


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

    @query(
        scope=Scope.USERS_READ,
        description="All users in order of their names, page by page.",
        cost=Cost(supplied={"search": SEARCH_POINTS}),
        cache=reads(users.User),
        plan=ReadList(user_list),
    )
    async def users(
        self,
        info: Info,
        search: Annotated[
            str | None,
            strawberry.argument(
                description="Up to 16 words of up to 64 characters: each must begin a word of the username, full name or e-mail, whatever its case"
                " and accents. In Chinese, Japanese, Thai, Lao, Khmer and Burmese any part of a text is found, and each 3 letters count as a word."
            ),
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[User]:
        return await listed(info, *user_list(search, first, after, last, before), of=User.of)
