"""How the service is, for people and monitors."""

from enum import Enum
from typing import Self

import strawberry

from graph.kit.context import Info
from graph.kit.fields import query
from persistence import condition


@strawberry.enum(description="How the service is.")
class HealthStatus(Enum):
    OK = strawberry.enum_value("ok", description="All parts work.")
    DOWN = strawberry.enum_value("down", description="Requests fail: a part that all of them need does not work.")


@strawberry.type(description="How the service and its parts are.")
class Health:
    status: HealthStatus = strawberry.field(description="In a word.")
    database: bool = strawberry.field(description="Whether the database answers within 2 seconds.")
    migrated: bool = strawberry.field(description="Whether the database has this version's tables.")

    @classmethod
    def of(cls, found: condition.Condition) -> Self:
        return cls(status=HealthStatus.OK if found.is_good else HealthStatus.DOWN, database=found.database, migrated=found.migrated)


@strawberry.type
class HealthQuery:
    @query(scope=None, description="How the service is now.")
    async def health(self, info: Info) -> Health:
        return Health.of(await condition.of(info.context.database))
