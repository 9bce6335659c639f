"""Users as clients see them."""

from datetime import datetime
from typing import Self

import strawberry

from graph.kit.nodes import Node, global_id
from persistence import users


@strawberry.type(description="Somebody with an account.")
class User(Node):
    username: str = strawberry.field(description="Unique; the name to sign in with.")
    full_name: str | None = strawberry.field(description="The name to show, if it was given.")
    created_at: datetime = strawberry.field(description="When the account was made.")
    row: strawberry.Private[users.User]

    @classmethod
    def of(cls, row: users.User) -> Self:
        return cls(id=global_id("User", row.id), username=row.username, full_name=row.full_name, created_at=row.created_at, row=row)
