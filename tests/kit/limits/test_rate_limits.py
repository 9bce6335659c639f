"""Rate limits of fields and REST routes…"""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from graph.kit.auth import Caller, Scope
from graph.kit.errors import Refused
from graph.kit.limits.rate_limits import ADDRESS, CALLER, RateLimitRule
from graph.kit.limits.route_rate_limiter import RouteRateLimiter
from tests.conftest import settings_for
from tests.support.budgets import COUNT, PAGE, known, with_redis
from tests.support.service import Service, running


async def test_let_items_page_be_asked_three_times_a_minute_by_each_address(limited: Service):
    ada, bob = await limited.sign_in(), await limited.sign_in(username="bob")
    for token in (ada, bob, ada):
        assert await limited.ask(PAGE, token=token) == {"itemsPage": {"total": 0}}
    response = await limited.send(PAGE, token=bob)
    [error] = response.json()["errors"]
    wait = error["extensions"]["retryAfter"]
    assert error["extensions"] == {"code": "RATE_LIMITED", "retryAfter": wait}
    assert wait in range(50, 61)
    assert response.headers["retry-after"] == str(wait)
    assert error["message"] == f"itemsPage: at most 3/60seconds for each client address. Try again in {wait} s."
    assert await limited.ask(COUNT) == {"items": {"totalCount": 0}}


async def test_count_aliases_of_one_field_each(limited: Service):
    token = await limited.sign_in()
    pages = "{ a: itemsPage { total } b: itemsPage { total } c: itemsPage { total } d: itemsPage { total } }"
    async with running(limited.settings.model_copy(update={"max_cost": 2_000})) as service:
        answer = (await service.send(pages, token=token)).json()
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["RATE_LIMITED"]


async def test_do_not_count_whoever_may_not_ask(limited: Service):
    reader, writer = await limited.sign_in(Scope.ITEMS_READ), await limited.sign_in(username="bob")
    for _ in range(5):
        assert await limited.refused(PAGE, token=reader) == "FORBIDDEN"
    assert await limited.ask(PAGE, token=writer) == {"itemsPage": {"total": 0}}


@with_redis
async def test_are_shared_for_items_page_by_processes_that_share_a_redis(limited: Service):
    token = await limited.sign_in()
    async with running(limited.settings) as other:
        for service in (limited, other):
            await known(service, PAGE, token=token)
        for service in (limited, other, limited):
            await service.ask(PAGE, token=token)
        assert await other.refused(PAGE, token=token) == "RATE_LIMITED"


async def test_can_be_switched_off_for_fields(service: Service):
    token = await service.sign_in()
    for _ in range(5):
        assert await service.ask(PAGE, token=token) == {"itemsPage": {"total": 0}}


async def test_counts_a_limited_field_once_beside_a_root_that_its_plan_refuses(tmp_path: Path) -> None:
    document = "{ itemsPage { total } a: items(first: 1) { totalCount } items(first: 101) { nodes { id } } }"
    async with running(await settings_for("sqlite", tmp_path, rate_limits_enabled=True)) as service:
        token = await service.sign_in()
        answers = [(await service.send(document, token=token)).json() for _ in range(4)]
    codes = [[error["extensions"]["code"] for error in answer["errors"]] for answer in answers]
    assert codes[:3] == [["BAD_USER_INPUT"]] * 3  # `items` must not be null, and so there is no data.
    assert "RATE_LIMITED" in codes[3]


async def test_of_routes_are_declared_and_refused_in_the_words_of_fields():
    check = RouteRateLimiter(None, enabled=True).limiter("report", RateLimitRule("2/minute", by=ADDRESS))

    async def ask(address: str) -> None:
        await check(Request({"type": "http", "path": "/report", "path_params": {}, "headers": []}), Caller(None, address, ""))

    for address in ("203.0.113.1", "203.0.113.1", "203.0.113.2"):
        await ask(address)
    with pytest.raises(Refused) as refused:
        await ask("203.0.113.1")
    [error] = refused.value.errors
    wait = (error.extensions or {})["retryAfter"]
    assert wait in range(50, 61)
    assert error.message == f"Too many requests: at most 2/minute for each client address. Try again in {wait} s."
    assert refused.value.headers == {"Retry-After": str(wait)}
    await ask("203.0.113.2")


@pytest.mark.parametrize("rule", [RateLimitRule("1/minute; 2/hour", by=CALLER), RateLimitRule("1/minute", by=CALLER, failures=True)])
def test_of_routes_that_slowapi_cannot_count_stop_the_start(rule: RateLimitRule):
    with pytest.raises(ValueError, match="only fields can count"):
        RouteRateLimiter(None, enabled=True).limiter("report", rule)


def test_that_cannot_be_read_stop_the_start():
    with pytest.raises(ValueError, match="couldn't parse"):
        RateLimitRule("three a minute", by=CALLER)
