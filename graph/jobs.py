"""The `parkedJobs` query: background jobs that used up their attempts, for operators."""

from datetime import datetime
from typing import Self

import strawberry

from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.fields import query
from persistence.kit.jobs import queue as jobs


@strawberry.type(description="Background work that failed too often and waits for an operator: `storegraph jobs retry` queues it again.")
class ParkedJob:
    number: int = strawberry.field(description="What the command line calls it by.")
    kind: str = strawberry.field(description="What is to be done, such as `purchase.placed`.")
    key: str = strawberry.field(description="What it is to be done for, such as `purchase:42`.")
    attempts: int = strawberry.field(description="How often it was tried.")
    error: str | None = strawberry.field(description="How the last attempt failed.")
    queued_at: datetime = strawberry.field(description="When it was asked for.")
    parked_at: datetime = strawberry.field(description="When it was given up.")

    @classmethod
    def of(cls, job: jobs.Job) -> Self:
        return cls(
            number=job.id,
            kind=job.kind,
            key=job.key,
            attempts=job.attempts,
            error=job.error,
            queued_at=job.created_at,
            parked_at=job.parked_at or job.created_at,
        )


@strawberry.type
class JobQuery:
    @query(
        scope=Scope.AUDIT_READ,
        description=f"Background work that failed too often, the oldest first, {jobs.SHOWN} at most; "
        "the metric `storegraph_jobs` counts all of it.",
    )
    async def parked_jobs(self, info: Info) -> list[ParkedJob]:
        async with info.context.database.reading() as session:
            return [ParkedJob.of(job) for job in await jobs.parked(session)]
