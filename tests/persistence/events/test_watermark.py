"""The watermark of the event log, against a database that answers what it is told …"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from persistence.kit.events import watermark
from persistence.kit.events.watermark import MARKS, WARN_SECONDS, ConcurrentWatermark, LogReset, SerialWatermark
from tests.proofs.simulation.model_database import Rows


class Culprit(Rows):
    def first(self) -> Any:
        return {"pid": 7}


@dataclass
class Log:
    """`newest` and the oldest open transaction are set by the test; each look that asks for a number draws the next one."""

    newest: int = 0
    oldest_open: int = 1
    number: int = 10
    known: list[int] = field(default_factory=list[int])
    looks: int = 0

    async def execute(self, statement: Any, values: dict[str, int] | None = None) -> Rows:
        if statement is watermark._CULPRIT:  # pyright: ignore[reportPrivateUsage]
            return Culprit(())
        if statement is not watermark._NEWEST:  # pyright: ignore[reportPrivateUsage]
            return Rows((self.oldest_open,))
        self.looks += 1
        self.known.append((values or {})["known"])
        if self.known[-1] == self.newest:
            return Rows((self.newest, None))
        self.number += 1
        return Rows((self.newest, self.number))

    async def scalar(self, _: Any) -> int:
        return self.newest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(watermark, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


async def final(mark: ConcurrentWatermark | SerialWatermark, log: Log) -> int | None:
    return await mark.final(cast("Any", log))


async def test_releases_an_id_once_all_that_may_hold_a_smaller_one_have_ended() -> None:
    log, mark = Log(newest=5, oldest_open=10), ConcurrentWatermark()
    assert await final(mark, log) is None  # Drawn: 11.
    log.oldest_open = 11
    assert await final(mark, log) == 5
    assert log.known == [-1, 5]


async def test_knows_an_empty_log_from_one_that_it_has_not_seen() -> None:
    log, mark = Log(newest=0, oldest_open=10), ConcurrentWatermark()
    assert await final(mark, log) is None
    log.oldest_open = 11
    assert await final(mark, log) == 0
    assert await final(mark, log) == 0
    assert log.known == [-1, 0, 0]


async def test_draws_no_number_where_nothing_is_new() -> None:
    log, mark = Log(newest=5, oldest_open=99), ConcurrentWatermark()
    assert [await final(mark, log) for _ in range(3)] == [5, 5, 5]
    assert (log.number, log.known) == (11, [-1, 5, 5])


async def test_releases_what_waits_in_steps_as_far_as_it_is_final() -> None:
    log, mark = Log(newest=5, oldest_open=10), ConcurrentWatermark()
    await final(mark, log)
    log.newest = 7
    assert await final(mark, log) is None
    log.oldest_open = 11
    assert await final(mark, log) == 5
    log.oldest_open = 12
    assert await final(mark, log) == 7


async def test_keeps_so_many_marks_and_then_moves_the_newest_on() -> None:
    log, mark = Log(oldest_open=1), ConcurrentWatermark()
    for newest in range(1, MARKS + 6):
        log.newest = newest
        assert await final(mark, log) is None
    log.oldest_open = 10 + MARKS - 1  # All but the last one that is kept.
    assert await final(mark, log) == MARKS - 1
    log.oldest_open = 10 + MARKS + 5
    assert await final(mark, log) == MARKS + 5


async def test_says_once_that_the_log_was_set_back_and_begins_anew() -> None:
    log, mark = Log(newest=5, oldest_open=99), ConcurrentWatermark()
    await final(mark, log)
    log.newest = 4
    with pytest.raises(LogReset):
        await final(mark, log)
    log.oldest_open = 1
    assert await final(mark, log) is None
    assert mark.held_back_seconds > 0
    log.oldest_open = 99
    assert await final(mark, log) == 4
    assert log.known == [-1, 5, -1, 4]


async def test_says_how_long_the_oldest_event_has_been_held_back(clock: SimpleNamespace) -> None:
    log, mark = Log(newest=5, oldest_open=10), ConcurrentWatermark()
    assert mark.held_back_seconds == 0
    await final(mark, log)
    clock.now += 2
    log.newest = 6
    await final(mark, log)
    clock.now += 1
    assert mark.held_back_seconds == 3
    log.oldest_open = 99
    await final(mark, log)
    assert mark.held_back_seconds == 0


async def test_warns_of_a_long_transaction_each_time_that_the_delay_has_doubled_and_anew_the_next_time(clock: SimpleNamespace) -> None:
    log, mark = Log(newest=5, oldest_open=10), ConcurrentWatermark()
    with structlog.testing.capture_logs() as lines:
        await final(mark, log)
        for seconds in (WARN_SECONDS, 0.5, 1, 4, 0.5, 1, 13):  # 5, 5.5, 6.5, 10.5, 11, 12 and 25 s in all.
            clock.now += seconds
            await final(mark, log)
        assert [line["held_back_seconds"] for line in lines] == [5.5, 12, 25]
        log.oldest_open = 99
        await final(mark, log)
        log.newest, log.oldest_open = 6, 1
        await final(mark, log)
        clock.now += WARN_SECONDS + 1
        await final(mark, log)
    assert [line["held_back_seconds"] for line in lines][3:] == [WARN_SECONDS + 1]
    assert {(line["event"], line["pid"]) for line in lines} == {("a long transaction holds back events", 7)}


async def test_of_sqlite_releases_all_that_is_visible_and_says_once_that_the_log_was_set_back() -> None:
    log, mark = Log(newest=0), SerialWatermark()
    assert await final(mark, log) == 0
    log.newest = 1
    assert (await final(mark, log), mark.held_back_seconds) == (1, 0)
    log.newest = 0
    with pytest.raises(LogReset):
        await final(mark, log)
    assert await final(mark, log) == 0
