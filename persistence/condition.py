"""Whether the database answers, and has this version's tables."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from persistence.kit.database import Database
from persistence.schema import is_current

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 2.0  # A database that takes longer serves nobody.


@dataclass(frozen=True)
class Condition:
    database: bool
    migrated: bool

    @property
    def is_good(self) -> bool:
        return self.database and self.migrated


async def of(database: Database) -> Condition:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return Condition(database=True, migrated=await is_current(database))
    except Exception as error:  # noqa: BLE001 -- whatever keeps it from answering, it is not well
        log.warning("the database does not answer", error=repr(error))
        return Condition(database=False, migrated=False)
