"""The feed of events …"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from persistence.kit.database import hosts
from persistence.kit.database.database import Database
from persistence.kit.events import feed, watermark
from persistence.kit.events import log as events
from persistence.kit.events.broker import LocalBroker
from persistence.kit.events.feed import EventBuffer, EventGap, EventGapReason, Feed, held_back_poll_seconds
from persistence.kit.events.log import Event, EventRetention
from persistence.kit.tasks.supervisor import Supervisor
from tests.server.telemetry.test_metrics import samples

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.service import Service


@asynccontextmanager
async def started(service: Service, broker: LocalBroker | None = None, supervisor: Supervisor | None = None) -> AsyncGenerator[Feed]:
    """As a process has it that starts now: it knows what is in the table."""
    fresh = Feed(service.database, broker or LocalBroker(), supervisor)
    await fresh.start()
    await fresh.position()
    yield fresh
    await fresh.stop()


async def tell(database: Database, *subjects: int) -> list[int]:
    """The ids of new events, one for each subject."""
    ids: list[int] = []
    for subject in subjects:
        async with database.transaction() as work:
            await events.record(work, "item.updated", subject, {"fields": []})
            ids.append(await events.newest(work.session))
    return ids


async def prune_to_the_newest(database: Database) -> None:
    async with database.transaction() as work:
        await events.prune(work, EventRetention(timedelta(days=1), count=1))


async def take(stream: AsyncGenerator[Event | EventGap], count: int) -> list[Any]:
    """Ids of events, and what was missed."""
    async with asyncio.timeout(60):
        found = [await anext(stream) for _ in range(count)]
    return [each.id if isinstance(each, Event) else each for each in found]


async def test_says_that_a_cursor_has_expired_and_goes_on_after_the_hole(service: Service) -> None:
    first, second, third = await tell(service.database, 1, 2, 3)
    await prune_to_the_newest(service.database)
    async with started(service) as fresh:
        stream = fresh.resume(fresh.cursor(first - 1))
        assert await take(stream, 2) == [EventGap(second, EventGapReason.EXPIRED), third]
        await stream.aclose()


async def test_says_that_a_subscriber_was_too_slow(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RECENT_EVENTS", 1)
    async with started(service) as fresh:
        stream = fresh.resume(None)
        reading = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        (first,) = await tell(service.database, 1)
        assert await reading == [first]
        second, third, fourth = await tell(service.database, 2, 3, 4)
        async with asyncio.timeout(60):
            while await fresh.position() < fourth:  # noqa: ASYNC110 -- its news are for subscribers
                await asyncio.sleep(0.01)
        await prune_to_the_newest(service.database)
        assert await take(stream, 2) == [EventGap(third, EventGapReason.OVERFLOW), fourth]
        assert second < third
        await stream.aclose()


@pytest.mark.parametrize("cursor", [None, ""])
async def test_finds_what_nobody_woke_it_for(service: Service, cursor: str | None) -> None:
    """Wake-ups are lost with Redis; the clock stands in for them. Without a cursor, or with an empty one, it begins now."""
    await tell(service.database, 1)
    silent = Database.connect(service.settings.database_url)
    async with started(service) as fresh:
        stream = fresh.resume(cursor)
        reading = asyncio.ensure_future(take(stream, 2))
        await asyncio.sleep(0)
        told = await tell(silent, 1, 2)
        assert await reading == told
        await stream.aclose()
    await silent.close()


async def nothing_read() -> None:
    raise AssertionError("a page of the table was read")


async def test_hears_of_other_processes_and_serves_what_is_new_from_memory(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 3_600.0)
    monkeypatch.setattr(events, "between", nothing_read)
    broker, elsewhere = LocalBroker(), Database.connect(service.settings.database_url)
    supervisor = Supervisor()
    async with started(service, broker, supervisor) as fresh:
        other = Feed(elsewhere, broker)
        await other.start()
        stream = fresh.resume(None, reading=nothing_read)
        reading = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(feed.REST_SECONDS * 3)
        assert await tell(elsewhere, 1) == await reading
        await stream.aclose()
        await other.stop()
        assert [task.name for task in supervisor._tasks] == ["event log", "event wake-ups"]  # pyright: ignore[reportPrivateUsage] -- as logs and metrics name them
    await elsewhere.close()


async def test_waits_for_an_event_that_was_told_elsewhere_already(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 3_600.0)
    silent = Database.connect(service.settings.database_url)
    async with started(service) as fresh:
        await asyncio.sleep(feed.REST_SECONDS * 3)
        (ahead,) = await tell(silent, 1)
        stream = fresh.resume(fresh.cursor(ahead))
        reading = asyncio.ensure_future(take(stream, 1))
        assert await fresh.position() < ahead
        (following,) = await tell(service.database, 2)
        assert await reading == [following]
        await stream.aclose()
    await silent.close()


async def test_ends_subscriptions_where_they_were_told_to_end(service: Service) -> None:
    told = await tell(service.database, 1, 2)
    async with started(service) as fresh:
        fresh.stop_subscriptions()
        (later,) = await tell(service.database, 3)
        async with asyncio.timeout(60):
            while await fresh.position() < later:  # noqa: ASYNC110 -- its news are for subscribers
                await asyncio.sleep(0.01)
            found = [event async for event in fresh.resume(fresh.cursor(told[0] - 1))]
        assert [event.id for event in found if isinstance(event, Event)] == told
    await Feed(service.database, LocalBroker()).stop()  # One that was never started.


def test_looks_less_often_the_longer_a_transaction_is_open() -> None:
    delays = [held_back_poll_seconds(None)]
    for _ in range(11):
        delays.append(held_back_poll_seconds(delays[-1]))
    assert delays[:4] == pytest.approx([0.02, 0.03, 0.045, 0.0675])
    assert (delays[9] < 1.0, delays[10:]) == (True, [1.0, 1.0])


def fail_over() -> None:
    hosts_of_a_cluster = (("first", 1), ("second", 2))
    for address in hosts_of_a_cluster:
        hosts._found((hosts_of_a_cluster, "primary"), address)  # pyright: ignore[reportPrivateUsage] -- as a new connection does


async def test_tells_of_events_that_a_failover_lost_though_others_have_their_ids(service: Service) -> None:
    async with started(service) as fresh:
        stream = fresh.resume(None)
        reading = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        (first,) = await tell(service.database, 1)
        assert await reading == [first]
        fail_over()
        (second,) = await tell(service.database, 2)
        assert await take(stream, 1) == [second]  # Nothing was lost.
        async with service.database.transaction() as work:
            await work.session.execute(update(Event).where(Event.id == first).values(occurred_at=datetime(2020, 1, 1, tzinfo=UTC)))
        fail_over()
        with capture_logs() as logs:
            assert await take(stream, 1) == [EventGap(second, EventGapReason.UNKNOWN)]
        assert {each["event"] for each in logs} == {"the event log was reset to an earlier state; subscribers get a gap"}
        (third,) = await tell(service.database, 3)
        assert await take(stream, 1) == [third]
        await stream.aclose()


async def test_says_that_a_position_is_of_no_log_that_it_knows(service: Service) -> None:
    _, newest = await tell(service.database, 1, 2)
    async with started(service) as fresh:
        for stream in (fresh.resume(events.cursor("elsewhere", 1)), fresh.subscribe(newest + 1_000)):
            assert await take(stream, 1) == [EventGap(newest, EventGapReason.UNKNOWN)]
            (following,) = await tell(service.database, 3)
            assert await take(stream, 1) == [following]
            newest = following
            await stream.aclose()


async def test_is_charged_for_pages_of_the_table_and_ends_where_it_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAGE_EVENTS", 2)
    pages: list[int] = []

    async def read() -> None:
        pages.append(1)

    told = await tell(service.database, *range(5))
    assert Feed(service.database, LocalBroker()).stop_subscriptions() is None
    async with started(service) as fresh:
        assert fresh.stop_subscriptions() == fresh.cursor(told[-1])
        found = [event async for event in fresh.resume(fresh.cursor(told[0] - 1), reading=read)]
        assert [event.id for event in found if isinstance(event, Event)] == told
        assert len(pages) == 3
        assert [event async for event in fresh.resume(None, reading=read)] == []
        assert len(pages) == 3


def test_keeps_the_end_of_the_log_and_gives_it_out_by_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RECENT_EVENTS", 4)
    monkeypatch.setattr(feed, "PAGE_EVENTS", 2)
    kept, log = EventBuffer(4), [Event(id=id_) for id_ in (5, 7, 8, 9, 10, 11)]
    kept.add(log[:4])
    assert (kept.after, kept.events) == (4, log[:4])
    assert kept.between(4, 9) == log[:2]
    kept.add(log[4:])
    assert (kept.after, kept.events) == (7, log[2:])
    assert [kept.between(7, 11), kept.between(8, 9), kept.between(10, 99), kept.between(11, 99)] == [log[2:4], [log[3]], [log[5]], []]
    kept.add(another := [Event(id=12)])
    assert (kept.after, kept.events) == (8, log[3:] + another)


async def test_ends_although_there_is_news_at_that_moment(service: Service) -> None:
    for _ in range(3):
        fresh = Feed(service.database, LocalBroker())
        await fresh.start()
        await fresh.position()
        await asyncio.sleep(feed.REST_SECONDS * 3)
        await fresh._wake([])  # pyright: ignore[reportPrivateUsage] -- as a commit does
        async with asyncio.timeout(10):
            await fresh.stop()


async def test_holds_back_what_an_older_transaction_may_still_precede(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured, it is logged with its culprit, and the order holds."""
    if service.database.dialect == "sqlite":
        return  # Its one writer lets nothing overtake.
    monkeypatch.setattr(watermark, "WARN_SECONDS", 0.0)
    with capture_logs() as logs:
        async with started(service) as fresh:
            start = await fresh.position()
            async with service.database.transaction() as older:
                await events.record(older, "item.updated", 1, {"fields": []})
                (younger,) = await tell(service.database, 2)
                async with asyncio.timeout(60):
                    while not (fresh.held_back_seconds and await lag(service) and warned(logs)):  # noqa: ASYNC110 -- it goes by the clock
                        await asyncio.sleep(0.02)
                assert await fresh.position() == start
            assert await take(fresh.subscribe(start), 2) == [younger - 1, younger]
            async with asyncio.timeout(60):
                while fresh.held_back_seconds or await lag(service):  # noqa: ASYNC110 -- as above
                    await asyncio.sleep(0.02)
    assert {"pid", "state", "seconds", "held_back_seconds"} <= warned(logs)[0].keys()


async def test_looks_again_by_itself_for_what_an_older_transaction_held_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    if service.database.dialect == "sqlite":
        return  # Its one writer lets nothing overtake.
    monkeypatch.setattr(feed, "POLL_SECONDS", 3_600.0)
    silent = Database.connect(service.settings.database_url)
    async with started(service) as fresh:
        start = await fresh.position()
        async with silent.transaction() as older:
            await events.record(older, "item.updated", 1, {"fields": []})
            (younger,) = await tell(service.database, 2)
            async with asyncio.timeout(60):
                while not fresh.held_back_seconds:  # noqa: ASYNC110 -- it goes by the clock
                    await asyncio.sleep(0.005)
            await asyncio.sleep(feed.REST_SECONDS * 5)  # No wake-up is left that it could come by.
        assert await take(fresh.subscribe(start), 2) == [younger - 1, younger]
    await silent.close()


async def lag(service: Service) -> float:
    return samples((await service.http.get("/metrics")).text)["storegraph_event_lag_seconds", frozenset()]


def warned(logs: Any) -> list[dict[str, Any]]:
    return [each for each in logs if each["event"] == "a long transaction holds back events"]
