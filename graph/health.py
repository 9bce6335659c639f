"""The `health` query: the state of the service and of what it depends on."""

from enum import Enum
from typing import Any, Self

import strawberry

from graph.kit.context import Info
from graph.kit.entity.roots import RunResolver
from graph.kit.fields import query
from persistence.health_checks import HealthChecks, HealthReport

HEALTH_POINTS = 100  # Statements, a look at the files and a word with Redis.


@strawberry.enum(description="How the service is.")
class HealthStatus(Enum):
    OK = strawberry.enum_value("ok", description="All parts work.")
    DEGRADED = strawberry.enum_value("degraded", description="Requests are served, but Redis or files are away, or background work fails.")
    DOWN = strawberry.enum_value(
        "down", description="Requests fail or should go elsewhere: the database is away, or the process is about to end."
    )


@strawberry.type(description="How the service and its parts are.")
class Health:
    status: HealthStatus = strawberry.field(description="In a word.")
    database: bool = strawberry.field(description="Whether the database answers within 2 seconds.")
    migrated: bool = strawberry.field(description="Whether the database has this version's tables.")
    files: bool = strawberry.field(description="Whether files can be stored and read.")
    redis: bool | None = strawberry.field(description="Whether Redis answers within half a second; null where none is used.")
    draining: bool = strawberry.field(description="Whether this process finishes what it has begun and takes nothing new.")

    failing: list[str] = strawberry.field(description="Names of background tasks of this process that fail just now: 10 at most.")

    @classmethod
    def of(cls, found: HealthReport) -> Self:
        status = HealthStatus.OK if found.fully_healthy else HealthStatus.DEGRADED if found.ready else HealthStatus.DOWN
        parts: dict[str, Any] = vars(found) | {"failing": list(found.failing)}
        return cls(status=status, **parts)


@strawberry.type
class HealthQuery:
    @query(scope=None, description="How the service is now.", cost=HEALTH_POINTS, plan=RunResolver())
    async def health(self, info: Info) -> Health:
        return Health.of(await info.context.port(HealthChecks).run())
