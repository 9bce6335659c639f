"""How far an import has come, kept with the changes of each batch: an import that was interrupted goes on where it stopped, and creates each row once.

It is an idempotency record, so it shares their table and is kept for as long. Two runs of one import at once would do the same rows: the later batch finds
that the record has moved on, and its run ends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
from sqlalchemy import select

from persistence.kit.database.database import Database, UnitOfWork
from persistence.kit.errors import InvalidInput
from persistence.kit.idempotency import Attempt, IdempotencyKey

CHUNK_BYTES = 2**20
OPERATOR = "operator"  # At the command line. Callers of the API have other names: those of users and networks.


@dataclass
class ImportJournal:
    """`state` is what was noted last: JSON, empty at first."""

    attempt: Attempt
    state: dict[str, Any]

    @classmethod
    async def begin(cls, database: Database, attempt: Attempt) -> ImportJournal:
        """Raises: KeyReused, if something else was imported under the key."""
        async with database.transaction() as work:
            earlier = await attempt.earlier(work.session)
            return cls(attempt, dict(earlier.answer or {}) if earlier else {})

    async def note(self, work: UnitOfWork, state: dict[str, Any]) -> None:
        """Raises: InvalidInput, if another run of the import has come further."""
        record = await self._record(work)
        if record is None or (record.answer or {}) != self.state:
            raise InvalidInput.at("Idempotency-Key", "another run of this import is under way: wait for its end")
        record.answer = state
        self.state = state

    async def forget(self, database: Database) -> None:
        """The import is done, and would be another one if it came again."""
        async with database.transaction() as work:
            if (record := await self._record(work)) is not None:
                await work.session.delete(record)

    async def _record(self, work: UnitOfWork) -> IdempotencyKey | None:
        mine = (IdempotencyKey.caller == self.attempt.caller) & (IdempotencyKey.key == self.attempt.key)
        return await work.session.scalar(select(IdempotencyKey).where(mine).with_for_update())


def attempt(file: BinaryIO, *options: object) -> Attempt:
    """An operator's import of this content with these options, which say how it is read: with others it is another import. The file is left at its start."""
    named = [str(option) for option in options]
    digest = hashlib.blake2b(orjson.dumps(named), digest_size=16)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    return Attempt.of(caller=OPERATOR, key=digest.hexdigest(), operation="import", arguments=named)
