"""Background work …"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select

from graph.kit.auth import Scope
from graph.kit.global_ids import global_id
from persistence.kit.database.database import Database, UnitOfWork
from persistence.kit.jobs import queue as jobs
from persistence.kit.jobs.queue import Job
from persistence.kit.jobs.runner import JobRunner, WorkerConfig
from persistence.purchases import table as purchases
from tests.conftest import settings_for
from tests.server.telemetry.test_metrics import labels, samples
from tests.support.command_line import run
from tests.support.endpoints import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from tests.support.service import Service

QUICK = WorkerConfig(lease_seconds=60, poll_seconds=0.02, first_delay_seconds=0.001, attempts=3)
PARKED = "{ parkedJobs { number kind key attempts error } }"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Database]:
    """Without a service, whose runner would take the jobs."""
    settings = await settings_for(request.param, tmp_path_factory.mktemp("jobs"))
    database = Database.connect(settings.database_url)
    yield database
    await database.close()


class Letters:
    """Work that is told how often to fail."""

    def __init__(self, *, failures: int = 0, bad: str | None = None) -> None:
        self.failures, self.bad, self.performed, self.finished = failures, bad, list[str](), list[str]()
        self.stuck = asyncio.Event()
        self.stuck.set()

    async def perform(self, job: Job) -> None:
        self.performed.append(job.key)
        await self.stuck.wait()
        if len(self.performed) <= self.failures:
            raise TimeoutError

    async def finish(self, work: UnitOfWork, ended: Sequence[Job]) -> None:
        if any(job.key == self.bad for job in ended):
            raise ValueError
        self.finished += [job.key for job in ended]


@asynccontextmanager
async def running(database: Database, letters: Letters, config: WorkerConfig = QUICK, *, stop_seconds: float = 5) -> AsyncGenerator[None]:
    """Stopped also after a failure: it would take the jobs of the tests that follow."""
    runner = JobRunner(database, {"letter": letters}, config)
    await runner.start()
    try:
        yield
    finally:
        await runner.stop(seconds=stop_seconds)


async def enqueue(database: Database, key: str) -> None:
    async with database.transaction() as work:
        await jobs.enqueue(work, "letter", key, {})


async def kept(database: Database, key: str) -> Job | None:
    async with database.reading() as session:
        return await session.scalar(select(Job).where(Job.key == key))


async def gone(database: Database, key: str) -> None:
    async with asyncio.timeout(60):
        while await kept(database, key):  # noqa: ASYNC110 -- another session's work
            await asyncio.sleep(0.01)


async def parked(database: Database, key: str) -> Job:
    async with asyncio.timeout(60):
        while (job := await kept(database, key)) is None or job.parked_at is None:  # noqa: ASYNC110 -- the runner tells nobody
            await asyncio.sleep(0.01)
    return job


async def test_is_tried_again_after_a_failure_and_then_ends(database: Database) -> None:
    letters = Letters(failures=2)
    async with running(database, letters):
        await enqueue(database, "a")
        await gone(database, "a")
    assert (letters.performed, letters.finished) == (["a"] * 3, ["a"])


async def test_is_parked_after_the_last_failure_and_goes_on_when_told(database: Database) -> None:
    letters = Letters(failures=3)
    async with running(database, letters):
        await enqueue(database, "b")
        job = await parked(database, "b")
        assert (job.attempts, job.error, letters.finished) == (3, "TimeoutError()", [])
        async with database.transaction() as work:
            assert [retried.key for retried in await jobs.retry(work, [job.id])] == ["b"]
            assert await jobs.retry(work, [job.id]) == []
        await gone(database, "b")
    assert (letters.performed, letters.finished) == (["b"] * 4, ["b"])


async def test_of_a_process_that_died_is_taken_up_when_the_lease_runs_out(database: Database) -> None:
    dead, alive = Letters(), Letters()
    dead.stuck.clear()
    async with running(database, dead, WorkerConfig(lease_seconds=0.2, poll_seconds=0.02), stop_seconds=0):
        await enqueue(database, "c")
        await until(lambda: "c" in dead.performed)  # More than once where the machine is busy for longer than the lease.
    async with running(database, alive):
        await gone(database, "c")
    assert (dead.finished, alive.performed, alive.finished) == ([], ["c"], ["c"])


async def test_ends_once_although_two_did_it(database: Database) -> None:
    """The first outlives its lease: what it did outside stays done, and the rows are the second's to change."""
    await enqueue(database, "d")
    async with database.transaction() as work:
        (slow,) = await jobs.claim(work, most=1, lease=timedelta(0))
    async with database.transaction() as work:
        (quick,) = await jobs.claim(work, most=1, lease=timedelta(minutes=1))
    async with database.transaction() as work:
        assert await jobs.end(work, [slow]) == []
    async with database.transaction() as work:
        assert await jobs.end(work, [slow, quick]) == [quick]


async def test_that_end_together_do_not_fail_together(database: Database) -> None:
    letters = Letters(bad="g")
    async with database.transaction() as work:
        for key in ("f", "g", "h"):
            await jobs.enqueue(work, "letter", key, {})
    async with running(database, letters):
        await parked(database, "g")
    assert letters.finished == ["f", "h"]
    assert [await kept(database, key) for key in ("f", "h")] == [None, None]


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
async def test_does_not_wait_for_a_clock_that_jumps(database: Database, jump: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back, it does not put off for a year what failed before; set forward, it ends leases early, and work still ends once."""
    await enqueue(database, "e")
    async with database.transaction() as work:
        (job,) = await jobs.claim(work, most=1, lease=timedelta(minutes=1))
        await jobs.reschedule(work, job, delay=timedelta(minutes=30), error="")
        assert not await jobs.is_due(work.session)
    monkeypatch.setattr(jobs, "utc_now", lambda: datetime.now(UTC) + jump)
    letters = Letters()
    async with running(database, letters):
        await gone(database, "e")
    assert letters.finished == ["e"]


async def test_that_is_parked_is_shown_counted_and_queued_again_by_an_operator(service: Service, tmp_path: Path) -> None:
    token, item = await service.sign_in(), await service.make_item(inventory=1)
    bought = await service.ask(f'mutation {{ purchaseItem(itemId: "{item}") {{ ... on Purchase {{ id }} }} }}', token=token)
    await service.background_done()
    assert bought
    number = await service.park(purchases.PLACED, "purchase:again", {"purchase_id": await only_purchase(service)})

    told: dict[str, Any] = {"number": number, "kind": "purchase.placed", "key": "purchase:again", "attempts": 0, "error": "TimeoutError()"}
    assert await service.ask(PARKED, token=token) == {"parkedJobs": [told]}
    assert await service.refused(PARKED, token=await service.sign_in(Scope.USERS_READ, username="bob")) == "FORBIDDEN"
    counted = samples((await service.http.get("/metrics")).text)
    assert counted["storegraph_jobs", labels(state="parked")] == 1
    listed = await run(service.settings, tmp_path, "jobs", "list")
    assert listed.out.splitlines()[-1] == "1 parked, 0 waiting."
    assert f"{number}  purchase.placed  purchase:again  parked " in listed.out

    assert (await run(service.settings, tmp_path, "jobs", "retry")).code == 2
    missing = await run(service.settings, tmp_path, "jobs", "retry", str(number + 1))
    assert (missing.code, missing.err) == (1, "There is no such parked job.\n")
    again = await run(service.settings, tmp_path, "jobs", "retry", str(number))
    assert (again.code, again.out) == (0, "1 queued again.\n")
    await service.background_done()
    assert await service.ask(PARKED, token=token) == {"parkedJobs": []}


RETRY = "mutation ($id: ID!, $key: String) { retryJob(id: $id, idempotencyKey: $key) { __typename ... on RetriedJob { id } ... on Error { code } } }"


async def test_is_retried_by_those_who_see_that_it_is_parked(service: Service) -> None:
    item = await service.make_item(inventory=1)
    token = await service.sign_in()
    await service.ask("mutation ($id: ID!) { purchaseItem(itemId: $id) { __typename } }", {"id": item}, token=token)
    await service.background_done()
    parked_id = await service.park(purchases.PLACED, "purchase:again", {"purchase_id": await only_purchase(service)})
    other = await service.park(purchases.PLACED, "purchase:other", {"purchase_id": 0})
    listed = (await service.ask("{ parkedJobs { id number } }", token=token))["parkedJobs"]
    assert [job["number"] for job in listed] == [parked_id, other]
    reader = await service.sign_in(Scope.ITEMS_READ, username="reader")
    assert await service.refused(RETRY, {"id": listed[0]["id"]}, token=reader) == "FORBIDDEN"
    for nothing in ("", "nothing", item, str(parked_id), global_id("ParkedJob", 10**9)):
        assert (await service.ask(RETRY, {"id": nothing}, token=token))["retryJob"] == {"__typename": "NotFound", "code": "NOT_FOUND"}
    assert await service.count("jobs") == [2]
    variables = {"id": listed[0]["id"], "key": "k"}
    retried = {"__typename": "RetriedJob", "id": listed[0]["id"]}
    assert (await service.ask(RETRY, variables, token=token))["retryJob"] == retried
    async with asyncio.timeout(30):
        while await service.count("jobs") != [1]:  # noqa: ASYNC110 -- another task's work
            await asyncio.sleep(0.01)
    assert (await service.ask(RETRY, variables, token=token))["retryJob"] == retried
    assert (await service.ask(RETRY, {"id": listed[0]["id"]}, token=token))["retryJob"]["__typename"] == "NotFound"
    entries = (await service.ask("{ auditLog(first: 9) { nodes { action subject detail } } }", token=token))["auditLog"]["nodes"]
    detail = {"kind": "purchase.placed", "key": "purchase:again"}
    assert [(each["subject"], each["detail"]) for each in entries if each["action"] == "job.retried"] == [(listed[0]["id"], detail)]
    assert (await service.ask("{ parkedJobs { number } }", token=token))["parkedJobs"] == [{"number": other}]


async def only_purchase(service: Service) -> int:
    async with service.database.reading() as session:
        return (await session.scalars(select(purchases.Purchase.id))).one()


async def test_end_with_the_runner_that_performs_them(database: Database) -> None:
    """What a stopped runner has begun must not go on beside the process that takes it up."""
    ended = list[str]()

    class Endless(Letters):
        async def perform(self, job: Job) -> None:
            self.performed.append(job.key)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(job.key)

    letters = Endless()
    async with database.transaction() as work:
        await jobs.enqueue(work, "letter", "endless", {})
    async with running(database, letters, WorkerConfig(poll_seconds=0.01), stop_seconds=0.05):
        await until(lambda: letters.performed == ["endless"])
    assert ended == ["endless"]
    async with database.transaction() as work:
        assert await work.session.scalar(select(Job.attempts).where(Job.key == "endless")) == 1
        await work.session.execute(delete(Job).where(Job.key == "endless"))
