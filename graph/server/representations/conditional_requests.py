"""Conditional requests: whether the preconditions of a request hold for the present representation. Source: RFC 9110, section 13.

Pure functions of header fields. What is not well formed counts as not sent, where the RFC says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from graph.server.asgi.request_headers import RequestHeaders, text

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY, _LONG_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH, _TIME = f"(?P<month>{'|'.join(_MONTHS)})", r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),  # Source: RFC 850.
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),  # As C's `asctime` writes it.
)


@dataclass(frozen=True)
class Validators:
    """What tells one version of a representation from another: its entity tag, as it is sent, and when it was changed; either may be unknown."""

    etag: str | None = None
    modified_at: datetime | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Validators:
        """Those that a response carries."""
        return cls(headers.get("ETag"), http_date(headers.get("Last-Modified")))


def evaluate(method: str, headers: RequestHeaders, current: Validators) -> HTTPStatus | None:
    """412 or 304, if that is the answer; None to go on. In the order of section 13.2.2."""
    safe, if_match, if_none_match = method in {"GET", "HEAD"}, _field(headers, b"if-match"), _field(headers, b"if-none-match")
    if if_match is not None:
        if not _names(if_match, current.etag, weakly=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif _since(headers, b"if-unmodified-since", current) is False:
        return HTTPStatus.PRECONDITION_FAILED
    if if_none_match is not None:
        if _names(if_none_match, current.etag, weakly=True):
            return HTTPStatus.NOT_MODIFIED if safe else HTTPStatus.PRECONDITION_FAILED
    elif safe and _since(headers, b"if-modified-since", current) is True:
        return HTTPStatus.NOT_MODIFIED
    return None


def range_applies(headers: RequestHeaders, current: Validators) -> bool:
    """Whether a Range is of the version that its client has a part of: without If-Range, always. Source: section 13.1.5."""
    condition = _field(headers, b"if-range")
    if condition is None:
        return True
    if _TAG.fullmatch(condition):
        return condition == current.etag and not condition.startswith("W/")
    date = http_date(condition)
    return date is not None and current.modified_at is not None and date == _whole_seconds(current.modified_at)


def http_date(text: str | None, now: datetime | None = None) -> datetime | None:
    """An HTTP-date in any of its three forms; None for anything else. Source: section 5.6.7."""
    found = next((match for form in _DATES if (match := form.fullmatch(text or ""))), None)
    if found is None:
        return None
    year, month, day = int(found["year"]), _MONTHS.index(found["month"]) + 1, int(found["day"])
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    leap = second == 60
    try:
        if len(found["year"]) == 2:
            year = _century(year, now or datetime.now(UTC))
        return datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        return None


def _century(year: int, now: datetime) -> int:
    """Two digits that would be more than 50 years ahead are of the last such year that is past."""
    year += now.year // 100 * 100
    return year - 100 if year > now.year + 50 else year


def _names(field: str, etag: str | None, *, weakly: bool) -> bool:
    """Whether a list of entity tags holds the current one; `*` stands for any, also for one that has none. Source: section 8.8.3.2."""
    if field.strip() == "*":
        return True
    current = _TAG.fullmatch(etag or "")
    if current is None or (current[1] and not weakly):
        return False
    return any(tag[2] == current[2] and (weakly or not tag[1]) for tag in _TAG.finditer(field))


def _since(headers: RequestHeaders, name: bytes, current: Validators) -> bool | None:
    """Whether nothing has changed since then; None where that cannot be told."""
    date = http_date(_field(headers, name))
    if date is None or current.modified_at is None:
        return None
    return _whole_seconds(current.modified_at) <= date


def _field(headers: RequestHeaders, name: bytes) -> str | None:
    value = text(headers, name)
    return None if value is None else value.strip(" \t")


def _whole_seconds(instant: datetime) -> datetime:
    """As far as an HTTP-date tells."""
    return instant.astimezone(UTC).replace(microsecond=0)
