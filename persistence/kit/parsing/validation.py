"""Validates values from outside field by field, so that a form shows all its problems at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from persistence.kit.errors import InvalidInput, Problem
from persistence.kit.parsing.blank import is_blank, visible_length
from persistence.kit.parsing.values import WHOLE_MAX

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")  # Without tab and line ends; terminals obey the upper ones, too.
LINE_END = re.compile(r"[\t\r\n\x85\u2028\u2029]")
SURROGATE = re.compile("[\ud800-\udfff]")
PRICE_MAX = Decimal("9999999999.99")  # 12 digits.


def client_name(name: str) -> str:
    """What clients call a value: `priceMin` for `price_min`."""
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name)


class Checks:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def report(self, path: str, message: str, *deeper: str) -> None:
        self.problems.append(Problem((path, *deeper), message))

    def finish(self) -> None:
        """Raises: InvalidInput, with all problems that were reported."""
        if self.problems:
            raise InvalidInput(*self.problems)

    def text(self, path: str, value: str | None, *, most: int, least: int = 0, lines: bool = False, deeper: Sequence[str] = ()) -> None:
        """Report a text of less than `least` or more than `most` characters, blank where some are wanted, or with control characters."""
        if value is None:
            return
        if len(value) > most:
            self.report(path, f"must have at most {most} characters, not {len(value)}", *deeper)
        elif least and is_blank(value):
            self.report(path, "must not be blank", *deeper)
        elif least > 1 and visible_length(value) < least:
            self.report(path, f"must have at least {least} characters", *deeper)
        elif CONTROL.search(value) or (not lines and LINE_END.search(value)):
            self.report(path, "must not contain control characters", *deeper)
        elif SURROGATE.search(value):
            self.report(path, "must be valid Unicode: it contains half of a surrogate pair", *deeper)

    def price(self, path: str, value: Decimal) -> None:
        if not value.is_finite() or not 0 <= value <= PRICE_MAX:
            self.report(path, f"must be between 0 and {PRICE_MAX}")
        elif value != value.quantize(Decimal("0.01")):
            self.report(path, "must have at most two decimal places")

    def whole_number(self, path: str, value: int, *, least: int = 0, most: int = WHOLE_MAX, deeper: Sequence[str] = ()) -> None:
        if not least <= value <= most:
            self.report(path, f"must be between {least} and {most}", *deeper)
