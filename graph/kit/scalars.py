"""Custom scalars, with the format of each on the wire."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, NewType, cast

from graphql import FloatValueNode, GraphQLError, IntValueNode, StringValueNode, ValueNode
from strawberry.types.scalar import ScalarDefinition, scalar

from persistence.kit.parsing import values as parsing

INT_MIN, INT_MAX = -(2**31), 2**31 - 1  # GraphQL's Int. Source: GraphQL specification, section 3.5.1.
SAFE_INTEGER = 2**53 - 1  # The largest whole number that every JSON reader keeps exactly. Source: RFC 8259, section 6.

_WHOLE = re.compile(r"-?[0-9]{1,4000}")  # Python itself reads 4,300 digits, in a time that grows with their square.

BigInt = NewType("BigInt", int)
ByteCount = NewType("ByteCount", int)
JsonObject = NewType("JsonObject", dict[str, Any])


def _number(value: int) -> int | str:
    return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else str(value)


def _read_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not _WHOLE.fullmatch(str(value)):
        raise GraphQLError("must be a whole number, or one written as a string")
    return int(value)


def _read_decimal(value: Any) -> Decimal:
    try:
        return parsing.decimal_number(value)
    except parsing.BadValue as error:
        raise GraphQLError(str(error)) from None


def _read_decimal_literal(node: ValueNode, _variables: Any = None) -> Decimal:
    """From the document itself: a float in between would round it."""
    try:
        if isinstance(node, IntValueNode | FloatValueNode):
            return parsing.exact_number(node.value)
        return parsing.decimal_number(node.value if isinstance(node, StringValueNode) else None)
    except parsing.BadValue as error:
        raise GraphQLError(str(error), node) from None


def _read_datetime(value: Any) -> datetime:
    try:
        return parsing.instant(value)
    except parsing.BadValue as error:
        raise GraphQLError(str(error)) from None


def _read_datetime_literal(node: ValueNode, _variables: Any = None) -> datetime:
    """From the document itself, so that a refusal says where it stands."""
    try:
        return parsing.instant(node.value if isinstance(node, StringValueNode) else None)
    except parsing.BadValue as error:
        raise GraphQLError(str(error), node) from None


def _read_object(value: Any) -> JsonObject:
    if not isinstance(value, dict):
        raise GraphQLError("must be a JSON object")
    return JsonObject(cast("dict[str, Any]", value))


def _instant(moment: datetime) -> str:
    return moment.isoformat()


SCALARS: dict[object, ScalarDefinition] = {
    Decimal: scalar(
        name="Decimal",
        description='An exact decimal number, as a string of the digits 0 to 9 with a point and a minus where needed: `"9.99"`. '
        "Numbers are read too, and never rounded. Money has two decimal places.",
        serialize=str,
        parse_value=_read_decimal,
        parse_literal=_read_decimal_literal,
    ),
    datetime: scalar(
        name="DateTime",
        description="An instant in UTC with microseconds, in the form of RFC 3339, section 5.6: `2026-11-24T08:00:00.123456+00:00`. "
        "Any offset is read, but no leap second, and no digits other than 0 beyond microseconds.",
        serialize=_instant,
        parse_value=_read_datetime,
        parse_literal=_read_datetime_literal,
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
