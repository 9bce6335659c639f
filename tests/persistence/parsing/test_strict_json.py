"""Strict JSON …"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.kit.parsing.strict_json import BadJson, NotJson, loads

DIGITS = "A number has more digits than are kept: write it as a string."
NAMES = "A name is repeated in a JSON object."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9.99", 9.99),
        ("19.990000000000000000000", 19.99),
        ("1e3", 1000.0),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("123456789012345678", 123_456_789_012_345_678),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1e22", 1e22),
        ('{"a": [0.1, {"b": 0.30000000000000004}]}', {"a": [0.1, {"b": 0.30000000000000004}]}),
        ('{"a\\u0022": 1.5, "b": "19.999999999999999999"}', {'a"': 1.5, "b": "19.999999999999999999"}),
        ('\ufeff{"a": 1}', {"a": 1}),
    ],
)
def test_is_read(text: str, value: Any) -> None:
    assert loads(text) == value
    assert loads(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, DIGITS) for text in ("19.999999999999999999", "[0.12345678901234567890]", "18446744073709551616", "-9223372036854775809", "1e-400", "9007199254740993e0")),
        *((text, DIGITS) for text in ("9" * 30 + ".5", "1." + "1" * 5_000, '{"a": "x", "b": 1.00000000000000000001}')),
        *((text, NAMES) for text in ('{"a": 1, "a": 1}', '{"a": 1.5, "a": 19.99}', '{"a": {"b": 1, "\\u0062": 2}}', '{"a\\u0022": 1, "a\\"": 2}')),
    ],
)  # fmt: skip
def test_is_refused_where_readers_would_differ(text: str, message: str) -> None:
    with pytest.raises(BadJson) as refused:
        loads(text)
    assert (str(refused.value), type(refused.value)) == (message, BadJson)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "Infinity",
        "1e400",
        "01",
        "+1",
        ".5",
        "1.",
        "0x1",
        "１",  # noqa: RUF001
        '"\\ud800"',
        "'a'",
        "[1,]",
        "{}{}",
        "\ud800",
        b"\xff",
        '"\0"',
    ],
)
def test_is_refused_where_it_is_none(text: str | bytes) -> None:
    with pytest.raises(NotJson, match=r"^The JSON cannot be read\.$"):
        loads(text)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1))
def test_is_read_as_programs_write_it(number: float) -> None:
    assert loads(json.dumps(number)) == number
