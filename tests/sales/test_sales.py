"""The sales report …"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import insert

from graph.kit.auth import Scope
from graph.kit.global_ids import split
from graph.server.pages import sales_chart as picture
from persistence import sales
from persistence.purchases.table import COMPLETED, Purchase

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import httpx

    from tests.support.service import Service

REPORT = """
query ($from: DateTime!, $to: DateTime!, $by: SalesPeriod!) {
  salesReport(from: $from, to: $to, by: $by) { revenue units purchases periods { startsAt revenue units purchases } }
}
"""
LARGEST_PRICE, LARGEST_QUANTITY = "9999999999.99", 2**31 - 1


async def sold(service: Service, item: str, *sales: tuple[str, int, str]) -> None:
    """Purchases of an item: when, how many, at what price."""
    user = await service.make_user(f"buyer{Random().getrandbits(40)}")
    found = split(item)
    assert found
    rows = [
        {
            "item_id": found[1],
            "buyer_id": user.id,
            "quantity": quantity,
            "unit_price": Decimal(price),
            "status": COMPLETED,
            "created_at": datetime.fromisoformat(at),
        }
        for at, quantity, price in sales
    ]
    async with service.database.transaction() as work:
        await work.session.execute(insert(Purchase), rows)


async def asked(service: Service, token: str, start: str, end: str, by: str = "DAY") -> dict[str, Any]:
    report = (await service.ask(REPORT, {"from": start, "to": end, "by": by}, token=token))["salesReport"]
    return report | {"periods": {each.pop("startsAt")[:10]: tuple(each.values()) for each in report["periods"]}}


async def test_counts_from_its_first_instant_up_to_its_last_and_shows_empty_days(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item()
    await sold(
        service,
        item,
        ("2026-02-27T23:59:59.999999+00:00", 1, "5.00"),
        ("2026-02-28T00:00:00+00:00", 2, "0.10"),
        ("2026-02-28T23:59:59.999999+00:00", 1, "19.99"),
        ("2026-03-02T00:30:00+01:00", 3, "1.00"),
        ("2026-03-03T00:00:00+00:00", 1, "7.00"),
    )
    assert await asked(service, token, "2026-02-28T00:00:00Z", "2026-03-03T00:00:00Z") == {
        "revenue": "23.19",
        "units": 6,
        "purchases": 3,
        "periods": {
            "2026-02-28": ("20.19", 3, 2),
            "2026-03-01": ("3.00", 3, 1),
            "2026-03-02": ("0.00", 0, 0),
        },
    }


async def test_begins_weeks_on_monday_and_months_on_the_first(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item()
    # 2024-12-30 is the Monday of the first ISO week of 2025.
    days = ("2024-12-29", "2024-12-30", "2024-12-31", "2025-01-01", "2025-01-05", "2025-01-06", "2025-02-28")
    await sold(service, item, *((f"{day}T12:00:00+00:00", 1, "1.00") for day in days))
    weeks = await asked(service, token, "2024-12-29T00:00:00Z", "2025-01-07T00:00:00Z", "WEEK")
    assert weeks["periods"] == {"2024-12-23": ("1.00", 1, 1), "2024-12-30": ("4.00", 4, 4), "2025-01-06": ("1.00", 1, 1)}
    months = await asked(service, token, "2024-12-30T00:00:00Z", "2025-03-01T00:00:00Z", "MONTH")
    assert months["periods"] == {"2024-12-01": ("2.00", 2, 2), "2025-01-01": ("3.00", 3, 3), "2025-02-01": ("1.00", 1, 1)}


async def test_adds_up_the_largest_sales_to_the_cent(service: Service) -> None:
    token, item = await service.sign_in(), await service.make_item()
    await sold(service, item, *(("2026-05-05T05:05:05+00:00", LARGEST_QUANTITY, LARGEST_PRICE) for _ in range(3)))
    report = await asked(service, token, "2026-05-05T00:00:00Z", "2026-05-06T00:00:00Z")
    assert report["revenue"] == str(3 * LARGEST_QUANTITY * Decimal(LARGEST_PRICE))
    assert report["units"] == 3 * LARGEST_QUANTITY


async def test_agrees_with_what_python_adds_up(service: Service) -> None:
    token, item, chance = await service.sign_in(), await service.make_item(), Random(8)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    sales = [
        ((start + timedelta(seconds=chance.uniform(0, 40 * 86_400))).isoformat(), chance.randint(1, 9), f"{chance.uniform(0, 500):.2f}")
        for _ in range(500)
    ]
    await sold(service, item, *sales)
    nothing: tuple[Decimal, int, int] = (Decimal("0.00"), 0, 0)
    expected: dict[str, tuple[Decimal, int, int]] = dict.fromkeys((f"{start + timedelta(days=day):%Y-%m-%d}" for day in range(40)), nothing)
    for at, quantity, price in sales:
        revenue, units, purchases = expected[at[:10]]
        expected[at[:10]] = (revenue + quantity * Decimal(price), units + quantity, purchases + 1)
    report = await asked(service, token, start.isoformat(), (start + timedelta(days=40)).isoformat())
    assert report["periods"] == {day: (str(revenue), *rest) for day, (revenue, *rest) in expected.items()}


async def test_shows_a_seller_the_sales_of_their_own_items_only(service: Service) -> None:
    create = 'mutation { createItem(input: {name: "Cup", price: "1"}) { ... on Item { id } } }'
    seller = await service.sign_in(Scope.ITEMS_WRITE, username="seller")
    auditor = await service.sign_in(Scope.USERS_READ, username="auditor")
    own = (await service.ask(create, token=seller))["createItem"]["id"]
    await sold(service, own, ("2026-05-05T05:05:05+00:00", 2, "3.00"))
    await sold(service, await service.make_item(), ("2026-05-05T05:05:05+00:00", 1, "40.00"))
    revenue = [(await asked(service, token, "2026-05-05T00:00:00Z", "2026-05-06T00:00:00Z"))["revenue"] for token in (seller, auditor)]
    assert revenue == ["6.00", "46.00"]
    assert await service.refused(REPORT, {"from": "2026-05-05T00:00:00Z", "to": "2026-05-06T00:00:00Z", "by": "DAY"}) == "UNAUTHENTICATED"


async def test_is_refused_backwards_and_beyond_a_thousand_periods(service: Service) -> None:
    token = await service.sign_in()
    for start, end, by in (
        ("2026-05-06T00:00:00Z", "2026-05-06T00:00:00Z", "DAY"),
        ("2026-05-06T00:00:00Z", "2026-05-05T00:00:00Z", "DAY"),
        ("2023-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "DAY"),
        ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "MONTH"),
    ):
        assert await service.refused(REPORT, {"from": start, "to": end, "by": by}, token=token) == "BAD_USER_INPUT"
    edge = await asked(service, token, "9999-12-31T00:00:00Z", "9999-12-31T12:00:00Z", "MONTH")
    assert edge["periods"] == {"9999-12-01": ("0.00", 0, 0)}


async def test_is_one_statement(service: Service, statements: Callable[[], AbstractContextManager[list[str]]]) -> None:
    token = await service.sign_in()
    await asked(service, token, "2026-01-01T00:00:00Z", "2026-12-30T00:00:00Z")
    with statements() as sent:
        await asked(service, token, "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z")
    assert len([each for each in sent if "FROM purchases" in each]) == 1


# -- as a picture ----------------------------------------------------------------------------------------------------------------------

CHART = "/api/v2/reports/sales.svg"


async def drawn(service: Service, token: str | None, **asked: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await service.http.get(CHART, params=asked, headers=headers)


def bars(answer: httpx.Response) -> list[str | None]:
    """What the bars of a picture say of themselves: those of revenue, then those of units."""
    svg = ET.fromstring(answer.text)
    return [bar.findtext("{*}title") for bar in svg.iterfind("{*}rect[{*}title]")]


async def test_can_be_seen_as_a_picture_by_those_who_may_see_them(service: Service) -> None:
    seller, auditor = await service.sign_in(Scope.ITEMS_WRITE), await service.sign_in(Scope.USERS_READ, username="audit")
    created = 'mutation { createItem(input: {name: "Pan", price: "3.00", inventory: 9}) { ... on Item { id } } }'
    own = (await service.ask(created, token=seller))["createItem"]["id"]
    await sold(service, own, ("2026-04-30T23:59:59+00:00", 2, "3.00"), ("2026-05-01T00:00:00+00:00", 1, "1.50"))
    await sold(service, await service.make_item(), ("2026-05-05T05:05:05+00:00", 1, "40.00"))
    span = {"from": "2026-04-01", "to": "2026-05-31"}
    assert bars(await drawn(service, seller, **span)) == ["Apr 2026: 6.00", "May 2026: 1.50", "Apr 2026: 2", "May 2026: 1"]
    assert bars(await drawn(service, auditor, **span)) == ["Apr 2026: 6.00", "May 2026: 41.50", "Apr 2026: 2", "May 2026: 2"]
    picture = await drawn(service, seller, **span)
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert picture.headers["cache-control"] == "private, no-store"
    assert picture.content == (await drawn(service, seller, **span)).content
    # Without days it ends with the newest purchase that the caller may see, not with the day on which it is looked at.
    assert "2025-05-02 to 2026-05-01" in (await drawn(service, seller)).text
    assert "2025-05-06 to 2026-05-05" in (await drawn(service, auditor)).text
    stranger = await drawn(service, None, **span)
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"from": "2026-05-05", "to": "2026-05-04"}, "to: must be later than from"),
        ({"from": "20260505"}, "from: must be a day such as 2026-11-30"),
        ({"to": "2026-02-30"}, "to: must be a day such as 2026-11-30"),
        ({"to": "2026-05-05T00:00:00Z"}, "to: must be a day such as 2026-11-30"),
        ({"to": "\u0662026-05-05"}, "to: must be a day such as 2026-11-30"),
        ({"by": "year"}, "by: must be one of day, week, month"),
        ({"by": "day", "from": "2020-01-01", "to": "2026-01-01"}, "from: must be at most 1000 days before to"),
    ],
)
async def test_are_no_picture_of_a_span_that_is_none(service: Service, asked: dict[str, str], message: str) -> None:
    answer = await drawn(service, await service.sign_in(), **asked)
    assert (answer.status_code, answer.json()["error"]) == (400, {"code": "BAD_USER_INPUT", "message": message})


@pytest.mark.parametrize("span", [{"to": "0001-01-01"}, {"from": "9999-12-31", "to": "9999-12-31"}, {"by": "week", "to": "9999-12-31"}])
async def test_have_a_picture_at_the_ends_of_the_calendar(service: Service, span: dict[str, str]) -> None:
    answer = await drawn(service, await service.sign_in(), **span)
    assert (answer.status_code, {bar.rpartition(": ")[2] for bar in bars(answer) if bar}) == (200, {"0.00", "0"})


def test_are_drawn_with_numbers_that_fit_and_names_that_are_text() -> None:
    largest = sales.SalesTotal(datetime(2026, 5, 1, tzinfo=UTC), Decimal("9999999999.99") * LARGEST_QUANTITY, LARGEST_QUANTITY, 1)
    svg = ET.fromstring(picture.render([largest], sales.Period.MONTH, "<b>Shop & Co</b>"))
    assert svg.findtext("{*}title") == "<b>Shop & Co</b>"
    assert [text.text for text in svg.iterfind("{*}text[@class='number']") if len(text.text or "") > 10] == []
    tops = [float(bar.attrib["y"]) for bar in svg.iterfind("{*}rect[{*}title]")]
    assert all(top >= picture.PANELS["Revenue"][0] for top in tops)
