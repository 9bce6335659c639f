"""A background task …"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from graph.server.graceful_shutdown import ShutdownStack
from persistence.kit.events.redis_broker import RedisBroker
from persistence.kit.tasks.supervisor import WELL_SECONDS, Supervisor
from tests.server.telemetry.test_metrics import labels, scraped
from tests.support.endpoints import until
from tests.support.servers import databases

if TYPE_CHECKING:
    from tests.support.service import Service


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("ending", [RuntimeError("broken"), TimeoutError(), None])
async def test_is_started_again_however_it_ends(ending: Exception | None) -> None:
    runs, again, clock = list[int](), list[str](), Clock()
    supervisor = Supervisor(restarted=again.append, clock=clock)

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) <= 3:
            if ending:
                raise ending
            return
        await asyncio.Event().wait()

    supervisor.start("work", work)
    await until(lambda: len(runs) == 4)
    # An outage shows by itself, and is over when it is over.
    assert (again, supervisor.failing) == (["work"] * 3, [] if isinstance(ending, TimeoutError) else ["work"])
    clock.now += WELL_SECONDS
    assert supervisor.failing == []
    await supervisor.stop()
    assert (len(runs), supervisor.failing) == (4, [])


async def test_is_not_started_again_once_it_was_stopped() -> None:
    supervisor, runs = Supervisor(), list[None]()

    async def work() -> None:
        runs.append(None)
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("at its end")

    task = supervisor.start("work", work)
    await until(lambda: len(runs) == 1)
    await task.stop()
    await supervisor.stop()
    assert (runs, supervisor.failing) == ([None], [])


async def test_is_stopped_although_its_library_loses_a_cancellation() -> None:
    supervisor, lost = Supervisor(), list[None]()

    async def work() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(None)

    task = supervisor.start("work", work)
    await asyncio.sleep(0)
    await task.stop()
    assert (lost, supervisor.failing) == ([None], [])


async def test_that_fails_shows_in_health_and_metrics(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed of events cannot be read: requests are served, and an operator sees it."""
    feed = service.services.feed
    before = (await scraped(service)).get(("storegraph_background_restarts_total", labels(task="event log")), 0)
    with monkeypatch.context() as patch:

        async def broken() -> None:
            raise RuntimeError("no such log")

        patch.setattr(feed, "_advance", broken)
        feed._look.set()  # pyright: ignore[reportPrivateUsage] -- nobody else has to wait for it
        async with asyncio.timeout(30):
            while (await service.http.get("/ready")).json().get("failing") != ["event log"]:  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.01)
        ready = await service.http.get("/ready")
        assert (ready.status_code, ready.json()["status"], ready.json()["failing"]) == (200, "degraded", ["event log"])
        assert await service.ask("{ health { status failing } }") == {"health": {"status": "DEGRADED", "failing": ["event log"]}}
        shown = await scraped(service)
    assert shown["storegraph_background_restarts_total", labels(task="event log")] > before
    assert shown["storegraph_background_failing", labels(task="event log")] == 1
    assert shown["storegraph_background_failing", labels(task="monitoring")] == 0
    await all_run(service)


async def all_run(service: Service) -> None:
    async with asyncio.timeout(30):
        while "failing" in (await service.http.get("/ready")).json():  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


async def test_of_monitoring_goes_on_after_an_unexpected_exception(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = list[None]()

    def share() -> None:
        shares.append(None)
        if len(shares) == 1:
            raise RuntimeError("the folder is gone")

    metrics: Any = service.services.observer
    monkeypatch.setattr(metrics.metrics, "write_snapshot", share)
    await until(lambda: len(shares) >= 2)
    await all_run(service)


async def test_of_the_broker_goes_on_after_an_unexpected_exception() -> None:
    here, there = (RedisBroker(databases.redis(), "supervised") for _ in range(2))
    pings, client = list[None](), there._client  # pyright: ignore[reportPrivateUsage] -- a fault is put in
    ping = client.ping

    async def broken() -> None:
        pings.append(None)
        if len(pings) == 1:
            raise ValueError("not of Redis")
        await ping()

    client.ping = broken
    await here.start()
    await there.start()
    try:
        with there.listening("room") as messages:
            heard = asyncio.ensure_future(anext(messages))
            async with asyncio.timeout(30):
                while not heard.done():
                    await here.publish("room", b"hello")
                    await asyncio.wait([heard], timeout=0.05)
        assert await heard == b"hello"
    finally:
        await here.stop()
        await there.stop()


async def test_shutdown_goes_on_after_a_step_that_fails_and_one_that_hangs() -> None:
    taken = list[str]()

    async def good() -> None:
        taken.append("good")

    async def broken() -> None:
        taken.append("broken")
        raise RuntimeError("broken")

    async def hung() -> None:
        taken.append("hung")
        await asyncio.Event().wait()

    async with ShutdownStack() as stack:
        stack.step("good", good)
        stack.step("hung", hung, seconds=0.01)
        stack.step("broken", broken)
    assert taken == ["broken", "hung", "good"]
