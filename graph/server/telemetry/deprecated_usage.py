"""Flushes this process's counts of deprecated usage into their table."""

from __future__ import annotations

from collections import Counter

import structlog

from graph.server.telemetry import metric_values
from persistence import deprecated_usage
from persistence.deprecated_usage import ClientUse
from persistence.kit.column_types import utc_now
from persistence.kit.database.database import Database

log = structlog.get_logger(__name__)


class DeprecatedUsageRecorder:
    """The meter only grows, so what it grew by since the last time is what is to be added. A process that is killed loses ten seconds' worth."""

    def __init__(self, meter: metric_values.Counter, database: Database) -> None:
        self._meter, self._database = meter, database
        self._flushed: Counter[ClientUse] = Counter()

    async def flush(self) -> None:
        counted = Counter({ClientUse(*labels): int(value) for labels, (value,) in self._meter.series.items()})
        fresh = counted - self._flushed
        if not fresh:
            return
        try:
            async with self._database.transaction() as work:
                await deprecated_usage.add(work, fresh, utc_now())
        except Exception as error:  # noqa: BLE001 -- nothing is lost: what is not kept now is kept the next time
            log.warning("uses of deprecated elements could not be stored", error=repr(error))
            return
        self._flushed = counted
