"""External ids: what an item is called in another system, unique among items that are not deleted.

A transaction that gives items external ids takes one lock first (`lock`), so that two that give the same one run one after the other, and the second can say
that it is taken. Without it, the unique index would end the second as an internal error, and two that insert the same ids in different orders
would wait for each other. The lock comes before any row's, so that no two transactions wait in a circle.
"""

from __future__ import annotations

from sqlalchemy import text

from persistence.kit.database.database import UnitOfWork
from persistence.kit.parsing.blank import has_invisible
from persistence.kit.parsing.validation import Checks

LENGTH = 200
PATH = "externalId"
TAKEN = "is another item's"
REPEATED = "is that of an earlier row, too"

_LOCK = 7_310_544_212  # Any number that no other lock of the database has.


def check(checks: Checks, value: str | None) -> None:
    """Report an id that is not 1 to LENGTH visible characters: nobody could tell apart two that differ in something else."""
    known = len(checks.problems)
    checks.text(PATH, value, least=1, most=LENGTH)
    if value is None or len(checks.problems) > known:
        return
    if value != value.strip() or has_invisible(value):
        checks.report(PATH, "must have no blanks at its ends and no invisible characters")


def key(external_id: str) -> str | None:
    """By what an item with this external id is found; None for an id that no item can have."""
    checks = Checks()
    check(checks, external_id)
    return None if checks.problems else external_id


async def lock(work: UnitOfWork) -> None:
    """Be the only transaction that gives items external ids, until it ends. On SQLite a transaction is the only writer anyway."""
    if work.session.get_bind().dialect.name == "postgresql":
        await work.session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
