"""Users as clients see them: the type, and the fields that read."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry

from graph.kit.auth import Scope
from graph.kit.cache_control import reads
from graph.kit.connections import After, Before, Connection, First, Last, owned, unseen
from graph.kit.context import Info
from graph.kit.fields import query
from graph.kit.global_ids import Node, global_id, refetched
from graph.kit.limits.cost_rules import SEARCH_POINTS, Cost
from persistence import users
from persistence.items import listing
from persistence.items import table as items
from persistence.kit.query.paging import Window
from persistence.purchases import table as purchases

if TYPE_CHECKING:
    from graph.items.types import Item
    from graph.purchases import Purchase


_PRIVATE = {"cache": reads(personal=True)}


@strawberry.type(description="Somebody with an account.")
class User(Node):
    username: str = strawberry.field(description="Unique, whatever its case; the name to sign in with.")
    full_name: str | None = strawberry.field(description="The name to show, if it was given.")
    created_at: datetime = strawberry.field(description="When the account was made.")
    row: strawberry.Private[users.User]
    yours: strawberry.Private[bool]

    @classmethod
    def of(cls, row: users.User, *, yours: bool = False) -> Self:
        """`yours` opens the private fields to whoever asks."""
        id_ = global_id("User", row.id)
        return cls(id=id_, username=row.username, full_name=row.full_name, created_at=row.created_at, row=row, yours=yours)

    @strawberry.field(description="Where to write to, if it was given. Null unless it is you, or you hold `users:read`.", metadata=_PRIVATE)
    def email(self, info: Info) -> str | None:
        return self.row.email if self._open_to(info) else None

    @strawberry.field(description="Whether the user may sign in. Null unless it is you, or you hold `users:read`.", metadata=_PRIVATE)
    def is_active(self, info: Info) -> bool | None:
        return self.row.is_active if self._open_to(info) else None

    @strawberry.field(
        description="What the user may do; a token may carry less. Null unless it is you, or you hold `users:read`.", metadata=_PRIVATE
    )
    def scopes(self, info: Info) -> list[Scope] | None:
        return known_scopes(self.row.scopes) if self._open_to(info) else None

    @strawberry.field(
        description="What this user added to the catalogue and is there still, in the order it was added.",
        metadata={"cache": reads(items.Item)},
    )
    async def items(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Annotated["Item", strawberry.lazy("graph.items.types")]]:
        window = Window(first, after, last, before)
        return await owned(info, "Item", listing.pages_by_owner, listing.counts_by_owner, self.row.id, window)

    @strawberry.field(
        description="What this user bought, oldest first. Empty unless it is you, or you hold `users:read`.",
        metadata={"cache": reads(purchases.Purchase, personal=True)},
    )
    async def purchases(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Annotated["Purchase", strawberry.lazy("graph.purchases")]]:
        window = Window(first, after, last, before)
        if not self._open_to(info):
            return unseen(purchases.listing_of_buyer(self.row.id), window)
        return await owned(info, "Purchase", purchases.pages_by_buyer, purchases.counts_by_buyer, self.row.id, window)

    def _open_to(self, info: Info) -> bool:
        return self.yours or info.context.is_user(self.row.id) or info.context.holds(Scope.USERS_READ)


def known_scopes(stored: Collection[str]) -> list[Scope]:
    """In the order of the schema. What a later version stored and this one does not know is left out."""
    return [scope for scope in Scope if scope.value in stored]


async def _found_by(info: Info, row: users.User) -> User | None:
    """By its id, a user is seen by itself, by `users:read`, and by everyone if an item in the catalogue names it as owner."""
    context = info.context
    seen = context.is_user(row.id) or context.holds(Scope.USERS_READ) or await context.load(items.are_owners, row.id)
    return User.of(row) if seen else None


refetched(users.by_id, _found_by)(User)


@strawberry.type
class UserQuery:
    @query(scope=(), description="You: the user whose token came with this request.", cache=reads(users.User))
    async def me(self, info: Info) -> User:
        row = await info.context.load(users.by_id, info.context.require().user_id)
        assert row is not None, "a token is refused when its user is gone"
        return User.of(row)

    @query(scope=Scope.USERS_READ, description="One user, or null if there is none of this name.", cache=reads(users.User))
    async def user(self, info: Info, username: Annotated[str, strawberry.argument(description="In any case.")]) -> User | None:
        row = await info.context.load(users.by_username, username)
        return User.of(row) if row else None

    @query(
        scope=Scope.USERS_READ,
        description="All users in order of their names, page by page.",
        cost=Cost(given={"search": SEARCH_POINTS}),
        cache=reads(users.User),
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
        async def count() -> int:
            async with info.context.database.reading() as session:
                return await users.count(session, search)

        async with info.context.database.reading() as session:
            page = await users.page(session, search, Window(first, after, last, before))
        return Connection(page=page, of=User.of, count=count)
