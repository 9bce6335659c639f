"""The `parkedJobs` query and the mutation `retryJob`: background jobs that used up their attempts, for operators."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from graph.kit.auth import Scope
from graph.kit.context import Info
from graph.kit.errors import IdempotencyKeyReused, InvalidInput, NotFound
from graph.kit.fields import mutation, query
from graph.kit.global_ids import global_id, row_id
from graph.kit.idempotency import IdempotencyKey
from graph.kit.limits.cost_rules import Cost
from graph.kit.operations.commands import perform
from persistence import audit
from persistence.kit import errors
from persistence.kit.database.database import UnitOfWork
from persistence.kit.jobs import queue as jobs
from persistence.kit.serialization import NO_RESULT


@strawberry.type(description="Background work that failed too often and waits for an operator, who queues it again by `retryJob`.")
class ParkedJob:
    id: strawberry.ID = strawberry.field(description="For `retryJob`.")
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
            id=global_id(ParkedJob.__name__, job.id),
            number=job.id,
            kind=job.kind,
            key=job.key,
            attempts=job.attempts,
            error=job.error,
            queued_at=job.created_at,
            parked_at=job.parked_at or job.created_at,
        )


@strawberry.type(description="The job is queued again and begins anew, as if it had never failed.")
class RetriedJob:
    id: strawberry.ID = strawberry.field(description="The id that it had.")


RetryJobResult = Annotated[
    RetriedJob | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("RetryJobResult", description="The job that is queued again, or why none is."),
]


JOBS_POINTS = 350  # A statement that no plan makes, in a transaction of its own.


@strawberry.type
class JobQuery:
    @query(
        scope=Scope.AUDIT_READ,
        description=f"Background work that failed too often, the oldest first, {jobs.SHOWN} at most; "
        "the metric `storegraph_jobs` counts all of it.",
        cost=Cost(base=JOBS_POINTS),
    )
    async def parked_jobs(self, info: Info) -> list[ParkedJob]:
        async with info.context.database.reading() as session:
            return [ParkedJob.of(job) for job in await jobs.parked(session)]


@strawberry.type
class JobMutation:
    @mutation(
        scope=Scope.AUDIT_READ,
        description="Queue a parked job again, once the cause of its failures is gone: some process takes it up within a second. "
        "Not found, if it is not parked.",
    )
    async def retry_job(self, info: Info, id: strawberry.ID, idempotency_key: IdempotencyKey = None) -> RetryJobResult:
        actor, job_id = info.context.require(), row_id(ParkedJob.__name__, id)

        async def command(work: UnitOfWork) -> None:
            retried = await jobs.retry(work, [] if job_id is None else [job_id])
            if not retried:
                raise errors.NotFound("parked job")
            [job] = retried
            detail = {"kind": job.kind, "key": job.key}
            await audit.write(work, "job.retried", actor_id=actor.user_id, subject=(ParkedJob.__name__, job.id), detail=detail)

        await perform(info, NO_RESULT, command, key=idempotency_key, arguments=job_id)
        return RetriedJob(id=id)
