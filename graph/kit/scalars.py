"""Scalars beyond the specification's five, each with its form on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NewType, cast

from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition, scalar

INT_MIN, INT_MAX = -(2**31), 2**31 - 1  # GraphQL's Int. Source: GraphQL specification, section 3.5.1.
SAFE_INTEGER = 2**53 - 1  # The largest whole number that every JSON reader keeps exactly. Source: RFC 8259, section 6.

BigInt = NewType("BigInt", int)
ByteCount = NewType("ByteCount", int)
JsonObject = NewType("JsonObject", dict[str, Any])


def _number(value: int) -> int | str:
    return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else str(value)


def _read_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 5_000:
        raise GraphQLError("must be a whole number, or one written as a string")
    try:
        return int(value)
    except ValueError:
        raise GraphQLError("must be a whole number, or one written as a string") from None


def _read_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 50:
        raise GraphQLError('must be a decimal number, best written as a string: "9.99"')
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise GraphQLError('must be a decimal number, best written as a string: "9.99"')
    return amount


def _read_datetime(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise GraphQLError('must be an instant with its offset, such as "2026-11-24T08:00:00Z"') from None
    if moment.tzinfo is None:
        raise GraphQLError('must say its offset, such as "2026-11-24T08:00:00Z"')
    return _utc(moment)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise GraphQLError("must be in the years 1 to 9999") from None


def _read_object(value: Any) -> JsonObject:
    if not isinstance(value, dict):
        raise GraphQLError("must be a JSON object")
    return JsonObject(cast("dict[str, Any]", value))


def _instant(moment: datetime) -> str:
    return moment.isoformat()


SCALARS: dict[object, ScalarDefinition] = {
    Decimal: scalar(
        name="Decimal",
        description='An exact decimal number, as a string: `"9.99"`. Numbers are read too. Money has two decimal places.',
        serialize=str,
        parse_value=_read_decimal,
    ),
    datetime: scalar(
        name="DateTime",
        description="An instant in UTC with microseconds, in the form of RFC 3339: `2026-11-24T08:00:00.123456+00:00`.",
        serialize=_instant,
        parse_value=_read_datetime,
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    ),
    BigInt: scalar(
        name="BigInt",
        description="A whole number of any size: a JSON number up to 2^53 - 1, which every reader keeps exactly, a string beyond.",
        serialize=_number,
        parse_value=_read_number,
    ),
    ByteCount: scalar(name="ByteCount", description="A number of bytes, up to 2^53 - 1.", serialize=_number, parse_value=_read_number),
    JsonObject: scalar(
        name="JSON",
        description="Any JSON object.",
        serialize=dict,
        parse_value=_read_object,
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
    ),
}
