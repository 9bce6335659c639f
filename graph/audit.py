"""GraphQL types and fields of the audit log."""

from datetime import datetime

import strawberry

from graph.kit.auth import Scope
from graph.kit.connections import Connection
from graph.kit.entity.declaration import computed, entity, to_one
from graph.kit.entity.visibility import Visibility
from graph.kit.global_ids import Node, global_id
from graph.kit.operations.exports import export
from graph.kit.operations.lists import read_list
from graph.kit.scalars import JsonObject
from graph.users.types import User
from persistence import audit, users


def _subject(kind: str | None, id_: int | None) -> strawberry.ID | None:
    return None if kind is None or id_ is None else global_id(kind, id_)


@entity(audit.ENTITY, visible=Visibility(Scope.AUDIT_READ))
@strawberry.type(description="One entry of the audit log: who changed what.")
class Audit(Node):
    action: str = strawberry.field(description="What was done, such as `user.scopes_granted` or `item.deleted`.")
    subject: strawberry.ID | None = computed(
        "subject_kind", "subject_id", compute=_subject, description="The global id of what it was done to, which may be gone since."
    )
    detail: JsonObject = computed("detail", compute=JsonObject, description="What else is worth knowing; never a secret.")
    at: datetime = strawberry.field(description="When.")
    actor: User | None = to_one(
        "actor_id",
        users.ENTITY,
        description="Who did it; null for an operator at the command line, and for the service itself.",
    )


export(audit.ALL, "audit", scope=Scope.AUDIT_READ)


@strawberry.type
class AuditQuery:
    audit_log: Connection[Audit] = read_list(
        audit.ALL, scope=Scope.AUDIT_READ, description="Who changed what, the newest first.", cached=False
    )
