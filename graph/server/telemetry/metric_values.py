"""Counters, gauges and histograms as plain lists of numbers, cheap enough for every request.

prometheus_client writes the answer of `/metrics`, but does not count: its own values take 5 µs each, 14 µs with several processes (measured), and an
operation has five of them. With several processes on one machine, each leaves its numbers in a file, and whichever is asked adds them up.
"""

from __future__ import annotations

import fcntl
import os
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
Series = dict[Labels, list[float]]

SERIES = 1_000  # Of one instrument; the labels of whatever comes after them become "other", so that nobody can fill the memory.
OVERFLOW_LABEL = "other"
ENDED = "ended.json"  # The sums of processes that have ended.
CLOCK_SECONDS = 2.0  # A file system's clock may be behind the system's by a moment.


class Instrument(ABC):
    """Numbers by labels. `aggregation` says when one process's numbers are added to another's."""

    aggregation: Literal["always", "while it lives", "never"] = "always"

    def __init__(self, name: str, description: str, labels: Sequence[str] = (), *, size: int = 1, series: int = SERIES) -> None:
        self.name, self.description, self.labels = name, description, tuple(labels)
        self._size, self._limit = size, series
        self.series: Series = {}
        if not labels:
            self.series_for()

    def series_for(self, *labels: str) -> list[float]:
        """The numbers under these labels."""
        found = self.series.get(labels)
        if found is not None:
            return found
        if len(self.series) >= self._limit:
            labels = (OVERFLOW_LABEL,) * len(self.labels)
        return self.series.setdefault(labels, [0.0] * self._size)

    @abstractmethod
    def family(self, series: Series) -> Metric: ...


class Counter(Instrument):
    def add(self, amount: float, *labels: str) -> None:
        self.series_for(*labels)[0] += amount

    def family(self, series: Series) -> Metric:
        family = CounterMetricFamily(self.name, self.description, labels=self.labels)
        for labels, (value,) in series.items():
            family.add_metric(labels, value)
        return family


class Gauge(Counter):
    """Goes up and down. The sum over all processes that live."""

    aggregation = "while it lives"

    def set(self, value: float, *labels: str) -> None:
        self.series_for(*labels)[0] = value

    def family(self, series: Series) -> Metric:
        family = GaugeMetricFamily(self.name, self.description, labels=self.labels)
        for labels, (value,) in series.items():
            family.add_metric(labels, value)
        return family


class SampledGauge(Gauge):
    """What every process sees alike, such as the length of a queue in the database."""

    aggregation = "never"


class Histogram(Instrument):
    """How many observations were at or below each bound, and their sum, which stands last."""

    def __init__(self, name: str, description: str, labels: Sequence[str] = (), *, bounds: Sequence[float], series: int = SERIES) -> None:
        self.bounds = tuple(bounds)
        super().__init__(name, description, labels, size=len(self.bounds) + 2, series=series)

    def observe(self, value: float, *labels: str) -> None:
        numbers = self.series.get(labels) or self.series_for(*labels)
        numbers[bisect_left(self.bounds, value)] += 1
        numbers[-1] += value

    def family(self, series: Series) -> Metric:
        family = HistogramMetricFamily(self.name, self.description, labels=self.labels)
        ends = [*map(str, self.bounds), "+Inf"]
        for labels, (*counts, total) in series.items():
            family.add_metric(labels, list(zip(ends, accumulate(counts), strict=True)), total)
        return family


class Instruments(Collector):
    """The instruments of one process and, through `folder`, of its siblings."""

    def __init__(self, instruments: Iterable[Instrument], folder: Path | None = None) -> None:
        self._instruments, self._folder = tuple(instruments), folder

    def collect(self) -> Iterator[Metric]:
        siblings = list(self._siblings())
        for instrument in self._instruments:
            series = {labels: list(numbers) for labels, numbers in instrument.series.items()}
            for sibling in siblings:
                _add(series, sibling.get(instrument.name, ()))
            yield instrument.family(series)

    def write_snapshot(self) -> None:
        """Leave the numbers for whichever process is asked next."""
        if self._folder is not None:
            mine = {
                instrument.name: list(instrument.series.items()) for instrument in self._instruments if instrument.aggregation != "never"
            }
            file = self._folder / f"{os.getpid()}.json"
            draft = file.with_suffix(".new")
            draft.write_bytes(orjson.dumps(mine))
            draft.replace(file)

    def _siblings(self) -> Iterator[Mapping[str, Any]]:
        if self._folder is None:
            return
        with _locked(self._folder):
            alive, ended = _read(self._folder)
        counted = [instrument.name for instrument in self._instruments if instrument.aggregation != "never"]
        yield from ({name: numbers.get(name, ()) for name in counted} for numbers in alive)
        yield {instrument.name: ended.get(instrument.name, ()) for instrument in self._instruments if instrument.aggregation == "always"}


def clear(folder: Path) -> None:
    """Forget what an earlier service has counted, unless some of its processes still run."""
    if folder.is_dir():
        with _locked(folder):
            if not _read(folder)[0]:
                (folder / ENDED).unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # For as long as some small files are read.
        yield


def _read(folder: Path) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """The numbers of the other processes that live, and the sums of those that have ended, whose files go into one."""
    snapshot = folder / ENDED
    alive: list[Mapping[str, Any]] = []
    ended: dict[str, Any] = orjson.loads(snapshot.read_bytes()) if snapshot.exists() else {}
    gone: list[Path] = []
    for file in folder.glob("*.json"):
        if not file.stem.isdigit() or int(file.stem) == os.getpid():
            continue
        numbers, modified_at = orjson.loads(file.read_bytes()), file.stat().st_mtime
        if _process_alive(int(file.stem), modified_at):
            alive.append(numbers)
        else:
            gone.append(file)
            ended = _sum(ended, numbers)
    if gone:
        draft = snapshot.with_suffix(".new")
        draft.write_bytes(orjson.dumps(ended))
        draft.replace(snapshot)
        for file in gone:
            file.unlink()
    return alive, ended


def _sum(ended: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    total = dict(ended)
    for name, more in numbers.items():
        series: Series = {tuple(labels): held for labels, held in ended.get(name, ())}
        _add(series, more)
        total[name] = list(series.items())
    return total


def _add(series: Series, more: Iterable[tuple[Sequence[str], Sequence[float]]]) -> None:
    for labels, numbers in more:
        held = series.get(tuple(labels))
        series[tuple(labels)] = list(numbers) if held is None else [sum(pair) for pair in zip(held, numbers, strict=True)]


def _process_alive(pid: int, modified_at: float) -> bool:
    """Whether the process that left a file still runs; another may have its number by now, and is younger than the file."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    started_at = _started_at(pid)
    return started_at is None or started_at <= modified_at + CLOCK_SECONDS


def _started_at(pid: int) -> float | None:
    """None where the system does not tell. Source: Linux, proc_pid_stat(5), field 22."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
