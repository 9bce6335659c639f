"""Column types with one meaning on SQLite and PostgreSQL.

Money is kept as whole cents, so that sums and comparisons are exact on both; instants are UTC and aware.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, DateTime, Integer, String, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from sqlalchemy import Dialect

CENT = Decimal("0.01")

# SQLite numbers rows by itself only when the key column is exactly INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")

# `info` of a column that names a user: its rows are deleted with the account. See `persistence.erasure`.
ERASED_WITH_USER = {"erased_with_user": True}

# Text in code point order on both: PostgreSQL's default collation depends on the machine, SQLite compares bytes.
SortableText = String().with_variant(String(collation="C"), "postgresql")

Document = JSON().with_variant(JSONB, "postgresql")


class Money(TypeDecorator[Decimal]):
    """Decimal with two places in Python, whole cents in the table."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else cents(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-2)

    @property
    def python_type(self) -> type[Any]:
        return Decimal


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetime with microseconds; SQLite, which has no time zones, keeps the same instant as text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def bind_processor(self, dialect: Dialect) -> Any:
        """What SQLAlchemy writes for SQLite, in a quarter of the time: a row has two or three of them."""
        return _sqlite_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @property
    def python_type(self) -> type[Any]:
        return datetime


def _sqlite_text(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds").removesuffix("+00:00")


def cents(amount: Decimal) -> int:
    """Whole cents of an amount that has at most two decimal places."""
    return int(amount.scaleb(2).to_integral_exact())


def utc_now() -> datetime:
    return datetime.now(UTC)
