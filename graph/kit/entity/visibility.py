"""Who may see a row, or some fields of it: a rule that is written once and asked by resolvers and by plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graph.kit.auth import Scope
from graph.kit.context import Context
from persistence.kit.query.entity import ChildList


@dataclass(frozen=True)
class Visibility:
    """The user whose id is in the attribute `own`, and holders of `scope`.

    The row itself, not its private fields, is shown to the user in `shared_with`, too, and to everybody if one of the rows in `known` points to it.
    """

    scope: Scope
    own: str | None = None
    known: ChildList | None = None
    shared_with: str | None = None

    @property
    def users(self) -> tuple[str, ...]:
        """The attributes with the ids of users who find the row."""
        return tuple(name for name in (self.own, self.shared_with) if name is not None)

    def sees(self, context: Context, owner_id: int | None) -> bool:
        """`owner_id` is what the row has in `own`."""
        return self.rule(context)(owner_id)

    def rule(self, context: Context) -> Callable[[int | None], bool]:
        """`sees` for many rows of one viewer."""
        if context.holds(self.scope):
            return lambda _: True
        return lambda owner_id: self.own is not None and context.is_user(owner_id)

    def finds(self, context: Context, user_ids: Sequence[int | None]) -> bool:
        """Whether the viewer finds the row by its id, though it may not be known; `user_ids` are what the row has in `users`."""
        return any(map(context.is_user, user_ids)) or context.holds(self.scope)

    async def is_known(self, context: Context, row_id: int) -> bool:
        return self.known is not None and bool(await context.load(self.known.exist, row_id))
