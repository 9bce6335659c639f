"""Interleaved rounds of load, so that other load on the machine affects all servers alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from scripts.benchmark import load
from scripts.benchmark.servers import Server


@dataclass(frozen=True)
class Pace:
    """How long a run takes."""

    items: int
    rounds: int
    seconds: float
    big: int  # Items of the big table.
    megabytes: int  # Of a file.
    sockets: int
    events: int


FULL = Pace(items=100_000, rounds=5, seconds=1.2, big=1_000_000, megabytes=256, sockets=500, events=200)
QUICK = Pace(items=20_000, rounds=2, seconds=0.6, big=100_000, megabytes=64, sockets=200, events=50)


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds."""

    cpu_us: float
    per_second: float
    p99_ms: float


async def measured(
    requests: Mapping[str, Sequence[bytes]], who: Sequence[Server], pace: Pace, *, check: Callable[[bytes], bool] | None = None
) -> dict[str, Figures]:
    samples: dict[str, list[Figures]] = {each.name: [] for each in who}
    for each in who:
        await load.run(each.port, requests[each.name], pace.seconds / 2)
    for number in range(pace.rounds):
        for each in who if number % 2 else reversed(who):
            samples[each.name].append(await _sample(requests[each.name], each, pace, check or _is_long))
    return {name: _median(taken) for name, taken in samples.items()}


async def _sample(requests: Sequence[bytes], who: Server, pace: Pace, check: Callable[[bytes], bool]) -> Figures:
    before = who.cpu_seconds
    done = await load.run(who.port, requests, pace.seconds, check=check)
    return Figures((who.cpu_seconds - before) / len(done.waits) * 1e6, done.per_second, done.p99_ms)


def _median(taken: Sequence[Figures]) -> Figures:
    return Figures(median(each.cpu_us for each in taken), median(each.per_second for each in taken), median(each.p99_ms for each in taken))


def _is_long(body: bytes) -> bool:
    """Whether an answer has something in it; that it is the right thing was verified before."""
    return len(body) > 100
