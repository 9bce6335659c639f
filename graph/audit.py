"""The audit log as clients see it."""

from datetime import datetime
from typing import Self

import strawberry

from graph.kit.auth import Scope
from graph.kit.connections import After, Before, Connection, First, Last
from graph.kit.context import Info
from graph.kit.fields import query
from graph.kit.global_ids import Node, global_id, refetched
from graph.kit.scalars import JsonObject
from graph.users.types import User
from persistence import audit, users
from persistence.kit.query.paging import Window


@strawberry.type(description="One entry of the audit log: somebody changed something.")
class Audit(Node):
    action: str = strawberry.field(description="What was done, such as `user.scopes_granted` or `item.deleted`.")
    subject: strawberry.ID | None = strawberry.field(description="The global id of what it was done to, which may be gone since.")
    detail: JsonObject = strawberry.field(description="What else is worth knowing; never a secret.")
    at: datetime = strawberry.field(description="When.")
    actor_id: strawberry.Private[int | None]

    @classmethod
    def of(cls, row: audit.AuditEntry) -> Self:
        return cls(
            id=global_id("Audit", row.id),
            action=row.action,
            subject=None if row.subject_kind is None or row.subject_id is None else global_id(row.subject_kind, row.subject_id),
            detail=JsonObject(row.detail),
            at=row.at,
            actor_id=row.actor_id,
        )

    @strawberry.field(description="Who did it; null for an operator at the command line, and for the service itself.")
    async def actor(self, info: Info) -> User | None:
        row = None if self.actor_id is None else await info.context.load(users.by_id, self.actor_id)
        return User.of(row) if row else None


refetched(audit.by_id, lambda info, row: Audit.of(row) if info.context.holds(Scope.AUDIT_READ) else None)(Audit)


@strawberry.type
class AuditQuery:
    @query(scope=Scope.AUDIT_READ, description="Who changed what, the newest first.")
    async def audit_log(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Audit]:
        async def count() -> int:
            async with info.context.database.reading() as session:
                return await audit.count(session)

        async with info.context.database.reading() as session:
            page = await audit.page(session, Window(first, after, last, before))
        return Connection(page=page, of=Audit.of, count=count)
