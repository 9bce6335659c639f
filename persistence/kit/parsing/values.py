"""Parses whole numbers, decimal numbers and instants: one grammar for each, whether the value comes by GraphQL, REST, CSV, JSON or the command line.

Python's own readers take more than any of these formats mean: `1_000`, full-width digits, blanks, `1e3`, `2026-W01`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

NUMBER_CHARACTERS = 50  # Any honest number is shorter, and converting a long one takes the square of its length.
INSTANT_CHARACTERS = 100
WHOLE_MAX = 2**31 - 1  # GraphQL's Int.
MICROSECOND_DIGITS = 6

WHOLE = "must be a whole number"
DECIMAL = "must be a decimal number such as 9.99"
INSTANT = "must be an instant with its offset, such as 2026-11-24T08:00:00Z"
DAY = "must be a day such as 2026-11-24"

_WHOLE = re.compile(r"(-?[0-9]+)(?:\.0+)?")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt](?P<time>[0-9]{2}:[0-9]{2}:(?P<second>[0-9]{2}))"
    r"(?:\.(?P<fraction>[0-9]+))?(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9]))"
)
_WITHOUT_T = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ _][0-9]{2}:.*", re.DOTALL)


class BadValue(ValueError):
    """The message says what the value must be, and is meant for the client."""


def whole_number(value: object) -> int:
    """Of digits, with a minus in front or not; `5.0` is 5, in text and as a JSON number. Raises: BadValue."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _WHOLE.fullmatch(_short(value, WHOLE))
    if found is None:
        raise BadValue(WHOLE)
    return int(found[1])


def whole_between(value: object, least: int, most: int = WHOLE_MAX) -> int:
    """Raises: BadValue."""
    number = whole_number(value)
    if not least <= number <= most:
        raise BadValue(f"must be between {least} and {most}")
    return number


def decimal_number(value: object) -> Decimal:
    """Of digits, with a minus in front and a point among them or not, or a JSON number; exact, and never minus zero. Raises: BadValue."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return exact_number(repr(value))
    text = _short(value, DECIMAL)
    if _DECIMAL.fullmatch(text) is None:
        raise BadValue(DECIMAL)
    return exact_number(text)


def exact_number(literal: str) -> Decimal:
    """Of a literal of JSON or GraphQL, which may have an exponent. Raises: BadValue."""
    try:
        number = Decimal(_short(literal, DECIMAL))
    except InvalidOperation:
        raise BadValue(DECIMAL) from None
    if not number.is_finite():
        raise BadValue(DECIMAL)
    return number or Decimal(0)


def boolean(value: object) -> bool:
    """`true` or `false`, as text and in JSON. Raises: BadValue."""
    if not isinstance(value, bool) and value not in ("true", "false"):
        raise BadValue("must be true or false")
    return value in (True, "true")


def instant(value: object) -> datetime:
    """An instant in UTC. Source: RFC 3339, section 5.6, with `T` or `t` between date and time.

    Digits beyond microseconds must be zeros, since they would be lost. Raises: BadValue.
    """
    text = value if isinstance(value, str) and len(value) <= INSTANT_CHARACTERS else ""
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise BadValue("must have a T between date and time, as in 2026-11-24T08:00:00Z" if _WITHOUT_T.fullmatch(text) else INSTANT)
    if found["second"] == "60":
        raise BadValue("must not be a leap second: instants are kept without them, so give the second before or after")
    fraction = found["fraction"] or ""
    if fraction[MICROSECOND_DIGITS:].strip("0"):
        raise BadValue("must have at most six digits behind the second: instants are kept in microseconds")
    try:
        moment = datetime.fromisoformat(f"{found['day']}T{found['time']}.{fraction[:MICROSECOND_DIGITS]:0<6}")
        return moment.replace(tzinfo=_offset(found)).astimezone(UTC)
    except ValueError:
        raise BadValue("must be a day and a time that exist, in the years 0001 to 9999") from None
    except OverflowError:
        raise BadValue("must be in the years 0001 to 9999 of UTC") from None


def day(value: object) -> date:
    """Raises: BadValue."""
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        raise BadValue(DAY)
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise BadValue("must be a day that exists, in the years 0001 to 9999") from None


def _offset(found: re.Match[str]) -> timezone:
    if found["sign"] is None:
        return UTC
    offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    return timezone(-offset if found["sign"] == "-" else offset)


def _short(value: object, message: str) -> str:
    if not isinstance(value, str):
        raise BadValue(message)
    if len(value) > NUMBER_CHARACTERS:
        raise BadValue(f"{message}, of at most {NUMBER_CHARACTERS} characters")
    return value
