"""Numbers and instants out of text …"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from persistence.kit.parsing import values as parsing
from persistence.kit.parsing.values import BadValue


def refusal(parse: Callable[[object], object], value: object) -> str:
    with pytest.raises(BadValue) as refused:
        parse(value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0", 0),
        ("5", 5),
        ("-5", -5),
        ("-0", 0),
        ("0000000005", 5),
        ("5.0", 5),
        ("5.00", 5),
        (5, 5),
        (5.0, 5),
        (1e3, 1_000),
        ("9" * 50, int("9" * 50)),
    ],
)
def test_are_whole_numbers(value: object, number: int) -> None:
    found = parsing.whole_number(value)
    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize(
    "value",
    [*("", " ", "5 ", " 5", "5\n", "+5", "1_0", "5.", ".5", "5.5", "5,0", "1e3", "0x5", "５", "٥", "²", "--5", "5-", "\x005", "nan", "inf", "9" * 51, True, None), *(1.5, float("nan"), float("inf"), [5], b"5")],  # noqa: RUF001
)  # fmt: skip
def test_are_refused_as_whole_numbers(value: object) -> None:
    assert refusal(parsing.whole_number, value).startswith("must be a whole number")


@pytest.mark.parametrize(
    ("value", "number"),
    [("19.90", "19.90"), ("-19.9", "-19.9"), ("0019.90", "19.90"), ("-0", "0"), ("-0.00", "0"), ("0", "0"), (19.9, "19.9"), (-0.0, "0"), (5, "5"), (1e22, "1E+22"), ("1." + "9" * 48, "1." + "9" * 48)],
)  # fmt: skip
def test_are_decimal_numbers(value: object, number: str) -> None:
    found = parsing.decimal_number(value)
    assert (found, found.is_signed()) == (Decimal(number), number.startswith("-"))


@pytest.mark.parametrize(
    "value",
    [
        *("", "1_9.90", "19.9_0", " 19.90", "19.90 ", "19.90\n", "+19.90", "1e1", "1E1", ".5", "5.", "19,90", "1,000.00", "１９.９０", "١٩", "$5", "0x1A", "NaN", "sNaN", "Infinity", "-Infinity"),  # noqa: RUF001
        *("1.2.3", "--1", "−1", "1." + "9" * 49, "1\x00", True, None, float("nan"), float("inf"), [1], 10**60),  # noqa: RUF001
    ],
)  # fmt: skip
def test_are_refused_as_decimal_numbers(value: object) -> None:
    assert refusal(parsing.decimal_number, value).startswith("must be a decimal number such as 9.99")


def test_keep_every_digit_of_a_literal() -> None:
    assert parsing.exact_number("19.999999999999999999") == Decimal("19.999999999999999999")
    assert parsing.exact_number("1e1") == 10
    with pytest.raises(BadValue):
        parsing.exact_number("1e99999999999999999999")


NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-11-30T12:00:00Z", NOON),
        ("2026-11-30t12:00:00z", NOON),
        ("2026-11-30T12:00:00+00:00", NOON),
        ("2026-11-30T12:00:00-00:00", NOON),
        ("2026-11-30T13:30:00+01:30", NOON),
        ("2026-11-29T12:01:00-23:59", NOON),
        ("2026-11-30T12:00:00.5Z", NOON.replace(microsecond=500_000)),
        ("2026-11-30T12:00:00.000001Z", NOON.replace(microsecond=1)),
        ("2026-11-30T12:00:00.123456000Z", NOON.replace(microsecond=123_456)),
        ("2028-02-29T12:00:00Z", datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_are_instants(value: str, instant: datetime) -> None:
    found = parsing.instant(value)
    assert (found, found.utcoffset()) == (instant, UTC.utcoffset(None))


FORM = "must be an instant with its offset, such as 2026-11-24T08:00:00Z"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((value, "must have a T between date and time, as in 2026-11-24T08:00:00Z") for value in ("2026-11-30 12:00:00Z", "2026-11-30_12:00:00Z")),
        *(
            (value, FORM)
            for value in (
                *("", "2026-11-30X12:00:00Z", "20261130T120000Z", "2026-11-30T12:00Z", "2026-11-30T12Z", "2026-11-30T12:00:00", "2026-11-30", "2026-W49-1T12:00:00Z"),
                *("2026-334T12:00:00Z", "2026-11-30T12:00:00,5Z", "2026-11-30T12:00:00.Z", "2026-11-30T12:00:00+0000", "2026-11-30T12:00:00+00", "2026-11-30T12:00:00+00:00:00"),
                *("2026-11-30T12:00:00+24:00", "2026-11-30T12:00:00+00:60", "2026-11-30T12:00:00Z ", " 2026-11-30T12:00:00Z", "2026-11-30T12:00:00Z\n", "+2026-11-30T12:00:00Z"),
                *("26-11-30T12:00:00Z", "12026-11-30T12:00:00Z", "2026-1-1T12:00:00Z", "２０２６-11-30T12:00:00Z", "2026-11-30T12:00:00\N{FULLWIDTH LATIN CAPITAL LETTER Z}"),  # noqa: RUF001
                *("2026-11-30T12:00:00 Z", "2026-11-30T12:00:00UTC", "1764504000", "2026-11-30T12:00:00." + "0" * 100 + "Z"),
            )
        ),
        *((value, FORM) for value in (None, 1_764_504_000, True, NOON)),
        ("2016-12-31T23:59:60Z", "must not be a leap second: instants are kept without them, so give the second before or after"),
        ("2026-11-30T12:00:00.1234567Z", "must have at most six digits behind the second: instants are kept in microseconds"),
        *(
            (value, "must be a day and a time that exist, in the years 0001 to 9999")
            for value in ("2026-02-29T12:00:00Z", "2026-13-01T12:00:00Z", "2026-11-31T12:00:00Z", "2026-00-01T12:00:00Z", "0000-01-01T12:00:00Z")
        ),
        *((value, "must be a day and a time that exist, in the years 0001 to 9999") for value in ("2026-11-30T24:00:00Z", "2026-11-30T12:60:00Z", "2026-11-30T12:00:61Z")),
        *((value, "must be in the years 0001 to 9999 of UTC") for value in ("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01")),
    ],
)  # fmt: skip
def test_are_refused_as_instants(value: object, message: str) -> None:
    assert refusal(parsing.instant, value) == message


def test_are_days() -> None:
    assert parsing.day("2028-02-29") == date(2028, 2, 29)
    for value in ("2026-1-1", "20260101", "２０２６-01-01", "2026-01-01 ", "2026-W01-1", "", None):  # noqa: RUF001
        assert refusal(parsing.day, value) == "must be a day such as 2026-11-24"
    assert refusal(parsing.day, "2026-02-29") == "must be a day that exists, in the years 0001 to 9999"
