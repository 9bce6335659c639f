"""Conditional requests, on every route that sends a representation. RFC 9110, section 13."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from graph.server.asgi.request_headers import RequestHeaders, read_headers
from graph.server.representations.conditional_requests import Validators, evaluate, http_date, range_applies
from persistence.files import StoredFile

if TYPE_CHECKING:
    import httpx

    from tests.support.service import Service

TAG, OTHER = '"x"', '"y"'
MOMENT = datetime(2026, 3, 29, 12, 0, 7, 654_321, tzinfo=UTC)
AT, BEFORE, AFTER = "Sun, 29 Mar 2026 12:00:07 GMT", "Sun, 29 Mar 2026 12:00:06 GMT", "Sun, 29 Mar 2026 12:00:08 GMT"
CURRENT = Validators(TAG, MOMENT)


def sent(fields: dict[str, str]) -> RequestHeaders:
    return {name.encode(): value.encode() for name, value in fields.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Wed Nov 16 08:49:37 1994", datetime(1994, 11, 16, 8, 49, 37, tzinfo=UTC)),
        ("Thursday, 29-Feb-24 23:59:59 GMT", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("Friday, 01-Jan-76 00:00:00 GMT", datetime(2076, 1, 1, tzinfo=UTC)),
        ("Friday, 01-Jan-77 00:00:00 GMT", datetime(1977, 1, 1, tzinfo=UTC)),
        ("Sat, 31 Dec 2016 23:59:60 GMT", datetime(2017, 1, 1, tzinfo=UTC)),
        ("Fri, 31 Dec 9999 23:59:60 GMT", None),
        ("Sun, 30 Feb 2025 00:00:00 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("06 Nov 1994 08:49:37 GMT", None),
        ("Sun Nov 6 08:49:37 1994", None),
        ("1994-11-06T08:49:37Z", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("784111777", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_have_three_forms(text: str | None, expected: datetime | None) -> None:
    assert http_date(text, now=datetime(2026, 11, 30, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        # If-Match compares strongly.
        ({"if-match": TAG}, None),
        ({"if-match": "*"}, None),
        ({"if-match": " * "}, None),
        ({"if-match": f"{OTHER},{TAG}"}, None),
        ({"if-match": f", {OTHER} ,, {TAG} ,"}, None),
        ({"if-match": '"a,b", "x"'}, None),
        ({"if-match": OTHER}, 412),
        ({"if-match": f"W/{TAG}"}, 412),
        ({"if-match": '"a,"x"'}, 412),
        ({"if-match": "x"}, 412),
        ({"if-match": '"*"'}, 412),
        ({"if-match": ""}, 412),
        # If-Unmodified-Since counts only without it.
        ({"if-unmodified-since": AT}, None),
        ({"if-unmodified-since": AFTER}, None),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": "Sunday, 29-Mar-26 12:00:06 GMT"}, 412),
        ({"if-unmodified-since": "Sun Mar 29 12:00:06 2026"}, 412),
        ({"if-unmodified-since": "yesterday"}, None),
        ({"if-unmodified-since": f"{BEFORE}, {BEFORE}"}, None),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, None),
        ({"if-match": OTHER, "if-unmodified-since": AFTER}, 412),
        # If-None-Match compares weakly.
        ({"if-none-match": TAG}, 304),
        ({"if-none-match": f"W/{TAG}"}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": f"{OTHER}, W/{TAG}"}, 304),
        ({"if-none-match": '"a,b","x"'}, 304),
        ({"if-none-match": OTHER}, None),
        ({"if-none-match": f"w/{OTHER}"}, None),
        ({"if-none-match": "x"}, None),
        ({"if-none-match": '"x'}, None),
        ({"if-none-match": '"X"'}, None),
        ({"if-none-match": ""}, None),
        # If-Modified-Since counts only without it.
        ({"if-modified-since": AT}, 304),
        ({"if-modified-since": AFTER}, 304),
        ({"if-modified-since": "Sunday, 29-Mar-26 12:00:07 GMT"}, 304),
        ({"if-modified-since": "Sun Mar 29 12:00:07 2026"}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-modified-since": "tomorrow"}, None),
        ({"if-modified-since": "0"}, None),
        ({"if-modified-since": f"{AT}, {AT}"}, None),
        ({"if-none-match": OTHER, "if-modified-since": AT}, None),
        ({"if-none-match": TAG, "if-modified-since": BEFORE}, 304),
        # Those that may forbid come first.
        ({"if-match": OTHER, "if-none-match": TAG}, 412),
        ({"if-match": TAG, "if-none-match": TAG}, 304),
        ({"if-match": TAG, "if-modified-since": AT}, 304),
        ({"if-unmodified-since": BEFORE, "if-none-match": TAG}, 412),
        ({"if-unmodified-since": AT, "if-modified-since": AT}, 304),
        ({"if-unmodified-since": "yesterday", "if-none-match": OTHER}, None),
    ],
)
def test_preconditions_are_evaluated_in_order(fields: dict[str, str], expected: int | None) -> None:
    for method in ("GET", "HEAD"):
        assert evaluate(method, sent(fields), CURRENT) == expected


def test_preconditions_of_what_changes_something_never_say_not_modified() -> None:
    for field in (TAG, "*"):
        assert evaluate("DELETE", sent({"if-none-match": field}), CURRENT) == 412
    assert evaluate("DELETE", sent({"if-modified-since": AT}), CURRENT) is None
    assert evaluate("DELETE", sent({"if-unmodified-since": BEFORE}), CURRENT) == 412


def test_preconditions_on_what_a_representation_has_not() -> None:
    nothing, weak = Validators(), Validators(f"W/{TAG}")
    for fields, expected in (
        ({"if-match": TAG}, 412),
        ({"if-match": "*"}, None),
        ({"if-unmodified-since": BEFORE}, None),
        ({"if-none-match": TAG}, None),
        ({"if-none-match": "*"}, 304),
        ({"if-modified-since": AFTER}, None),
    ):
        assert evaluate("GET", sent(fields), nothing) == expected
    assert evaluate("GET", sent({"if-match": f"W/{TAG}"}), weak) == 412
    assert evaluate("GET", sent({"if-match": TAG}), weak) == 412
    assert evaluate("GET", sent({"if-none-match": TAG}), weak) == 304


def test_preconditions_may_stand_on_several_lines() -> None:
    lines = [(b"if-none-match", b'"a"'), (b"if-none-match", b'W/"x"')]
    assert evaluate("GET", read_headers(lines), CURRENT) == 304
    dates = [(b"if-modified-since", AT.encode())] * 2
    assert evaluate("GET", read_headers(dates), CURRENT) is None


@pytest.mark.parametrize(
    ("field", "applies"),
    [
        (TAG, True),
        (OTHER, False),
        (f"W/{TAG}", False),
        ("*", False),
        (f"{TAG}, {OTHER}", False),
        (AT, True),
        ("Sunday, 29-Mar-26 12:00:07 GMT", True),
        ("Sun Mar 29 12:00:07 2026", True),
        (AFTER, False),
        (BEFORE, False),
        ("x", False),
        ("", False),
    ],
)
def test_a_range_is_of_the_version_that_it_names(field: str, applies: bool) -> None:
    assert range_applies(sent({"if-range": field}), CURRENT) is applies
    assert range_applies({}, CURRENT)
    assert not range_applies(sent({"if-range": f"W/{TAG}"}), Validators(f"W/{TAG}", MOMENT))


# On the routes

DOWNLOAD = "/api/v2/files/download/ten.txt"
LISTING = "/api/v2/files/list"
PUBLIC = ("/schema.graphql", "/", "/docs/README.md", "/explorer/page.css", "/explorer/favicon.svg", "/docs/docs/architecture.md")
PROBES = ("/live", "/ready", "/api/v2/health", "/api/v2/reports/sales.svg?to=2026-03-29")
EXPORTS = tuple(f"/api/v2/stream/items.{name}" for name in ("csv", "txt", "json"))


async def uploaded(service: Service, content: bytes = b"0123456789") -> dict[str, str]:
    """The header fields of somebody who may read `ten.txt`."""
    signed_in = {"Authorization": f"Bearer {await service.sign_in()}"}
    sent = await service.http.post("/api/v2/files/upload", headers=signed_in, files={"file": ("ten.txt", content)})
    assert sent.status_code == 201
    async with service.database.transaction() as work:
        await work.session.execute(update(StoredFile).values(uploaded_at=MOMENT))
    return signed_in


async def ask(service: Service, path: str, signed_in: dict[str, str], method: str = "GET", **fields: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return await service.http.request(method, path, headers=signed_in | headers)


async def test_a_download_that_is_resumed_never_mixes_two_versions(service: Service) -> None:
    signed_in = await uploaded(service)
    etag = (await ask(service, DOWNLOAD, signed_in)).headers["etag"]
    for fields, status, body in (
        ({"If_Match": etag}, 206, b"5678"),
        ({"If_Match": OTHER}, 412, None),
        ({"If_Match": f"W/{etag}"}, 412, None),
        ({"If_Unmodified_Since": AT}, 206, b"5678"),
        ({"If_Unmodified_Since": BEFORE}, 412, None),
        ({"If_Unmodified_Since": "Sunday, 29-Mar-26 12:00:06 GMT"}, 412, None),
        ({"If_Unmodified_Since": "no date"}, 206, b"5678"),
        ({"If_Range": etag}, 206, b"5678"),
        ({"If_Range": OTHER}, 200, b"0123456789"),
        ({"If_Range": "Sun Mar 29 12:00:07 2026"}, 206, b"5678"),
        ({"If_Range": BEFORE}, 200, b"0123456789"),
        ({"If_None_Match": etag}, 304, b""),
        ({"If_Modified_Since": AT}, 304, b""),
        ({"If_Modified_Since": BEFORE}, 206, b"5678"),
        ({"If_Match": OTHER, "If_Range": OTHER}, 412, None),
    ):
        answer = await ask(service, DOWNLOAD, signed_in, Range="bytes=5-8", **fields)
        assert (fields, answer.status_code) == (fields, status)
        if body is not None:
            assert answer.content == body
    # A range that nobody could satisfy is looked at last.
    for fields, status in (
        ({"If_Match": OTHER}, 412),
        ({"If_None_Match": etag}, 304),
        ({"If_Match": etag}, 416),
        ({"If_Range": OTHER}, 200),
    ):
        assert (await ask(service, DOWNLOAD, signed_in, Range="bytes=99-", **fields)).status_code == status


async def test_a_refusal_has_the_form_of_the_others_and_the_present_validators(service: Service) -> None:
    signed_in = await uploaded(service)
    current = await ask(service, DOWNLOAD, signed_in)
    refused = await ask(service, DOWNLOAD, signed_in, If_Match=OTHER)
    message = "It is not the version that your request is about any more: If-Match or If-Unmodified-Since does not hold."
    assert refused.json() == {"error": {"code": "PRECONDITION_FAILED", "message": message}, "path": DOWNLOAD}
    assert [refused.headers[name] for name in ("etag", "last-modified")] == [current.headers["etag"], AT]
    assert (await ask(service, DOWNLOAD, signed_in, "HEAD", If_Match=OTHER)).status_code == 412
    # What would be refused anyway is refused for that.
    assert (await ask(service, DOWNLOAD, {}, If_Match=OTHER)).status_code == 401
    assert (await ask(service, "/api/v2/files/download/none.txt", signed_in, If_Match=OTHER)).status_code == 404


@pytest.mark.parametrize("path", [*PUBLIC, *PROBES, LISTING, DOWNLOAD])
async def test_every_representation_has_conditions(service: Service, path: str) -> None:
    signed_in = await uploaded(service, b"0123456789" * 100)
    signed_in["Accept-Encoding"] = "identity"
    first = await ask(service, path, signed_in)
    etag = first.headers["etag"]
    assert (first.status_code, etag[0]) == (200, '"')
    for method in ("GET", "HEAD"):
        for fields, status in (
            ({"If_None_Match": etag}, 304),
            ({"If_None_Match": f"{OTHER}, W/{etag}"}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_None_Match": OTHER}, 200),
            ({"If_Match": etag}, 200),
            ({"If_Match": "*"}, 200),
            ({"If_Match": OTHER}, 412),
            ({"If_Match": f"W/{etag}"}, 412),
            ({"If_Match": OTHER, "If_None_Match": etag}, 412),
        ):
            answer = await ask(service, path, signed_in, method, **fields)
            assert (method, fields, answer.status_code) == (method, fields, status)
            if status == 304:
                assert (answer.content, answer.headers["etag"]) == (b"", etag)
                assert [answer.headers.get(name) for name in ("cache-control", "vary")] == [
                    first.headers.get(name) for name in ("cache-control", "vary")
                ]
                assert not {"content-length", "content-type"} & {*answer.headers}
    if moment := first.headers.get("last-modified"):
        written = parsedate_to_datetime(moment)
        earlier = format_datetime(written.replace(year=written.year - 1), usegmt=True)
        for fields, status in (
            ({"If_Modified_Since": moment}, 304),
            ({"If_Modified_Since": earlier}, 200),
            ({"If_Unmodified_Since": moment}, 200),
            ({"If_Unmodified_Since": earlier}, 412),
        ):
            assert (fields, (await ask(service, path, signed_in, **fields)).status_code) == (fields, status)


@pytest.mark.parametrize("path", [*PUBLIC, LISTING, DOWNLOAD])
async def test_a_compressed_representation_has_a_weak_tag(service: Service, path: str) -> None:
    signed_in = await uploaded(service, b"0123456789" * 100)
    signed_in["Accept-Encoding"] = "gzip"
    first = await ask(service, path, signed_in)
    if first.headers.get("content-encoding") != "gzip":
        assert first.headers["etag"][0] == '"'
        return
    etag = first.headers["etag"]
    assert etag.startswith('W/"')
    again = await ask(service, path, signed_in, If_None_Match=etag)
    assert (again.status_code, again.headers["etag"], "Accept-Encoding" in again.headers["vary"]) == (304, etag, True)
    assert (await ask(service, path, signed_in, If_Match=etag)).status_code == 412
    part = await ask(service, path, signed_in, Range="bytes=0-3", If_Range=etag.removeprefix("W/"))
    assert (part.status_code, part.headers.get("content-encoding"), len(part.content)) == (206, None, 4)
    assert (await ask(service, path, signed_in, Range="bytes=0-3", If_Range=etag)).status_code == 200


@pytest.mark.parametrize("path", EXPORTS)
async def test_an_export_has_no_version_to_name(service: Service, path: str) -> None:
    signed_in = {"Authorization": f"Bearer {await service.sign_in()}"}
    for method in ("GET", "HEAD"):
        assert (await ask(service, path, signed_in, method, If_Match=OTHER)).status_code == 412
        for coding in ("identity", "gzip", "gzip, identity;q=0"):
            there = await ask(service, path, signed_in, method, If_None_Match="*", Accept_Encoding=coding)
            assert (there.status_code, there.content, there.headers.get("etag")) == (304, b"", None)
    for fields in ({"If_Match": "*"}, {"If_None_Match": OTHER}, {"If_Modified_Since": AFTER}, {"If_Unmodified_Since": BEFORE}):
        answer = await ask(service, path, signed_in, **fields)
        assert (answer.status_code, answer.headers.get("etag")) == (200, None)


async def test_a_public_answer_of_graphql_has_conditions(service: Service) -> None:
    await service.make_item()
    url, signed_in = "/graphql?query={items{nodes{name}}}", {"Accept-Encoding": "identity"}
    first = await ask(service, url, signed_in)
    etag = first.headers["etag"]
    for fields, status in (
        ({"If_None_Match": f"W/{etag}"}, 304),
        ({"If_None_Match": f'"a,b", {etag}'}, 304),
        ({"If_None_Match": OTHER}, 200),
        ({"If_Match": etag}, 200),
        ({"If_Match": OTHER}, 412),
    ):
        assert (await ask(service, url, signed_in, **fields)).status_code == status
    refused = (await ask(service, url, signed_in, If_Match=OTHER)).json()
    assert refused["errors"][0]["extensions"]["code"] == "PRECONDITION_FAILED"
    await service.make_item("Toaster")
    assert (await ask(service, url, signed_in, If_None_Match=etag)).status_code == 200
