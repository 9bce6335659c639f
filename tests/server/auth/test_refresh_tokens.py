"""Refresh tokens: how a login goes on, and how often."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from graph.kit.auth import Caller, Scope
from graph.users.tokens import REFRESHES
from persistence import logins, users
from persistence.kit.column_types import utc_now
from persistence.kit.limits.moving_window import MovingWindow
from persistence.logins import Login
from tests.conftest import settings_for
from tests.support.clients.tokens import ADA, ME, REFRESH, REFUSED, is_good, log_in, parts, refresh, revoke
from tests.support.service import Service, running


async def test_go_on_from_refresh_token_to_refresh_token(service: Service) -> None:
    await service.make_user("ada", (Scope.ITEMS_READ,))
    login = await log_in(service)
    seen = {login["refreshToken"]}
    for _ in range(3):
        login = await refresh(service, login["refreshToken"])
        assert (login["__typename"], login["scopes"]) == ("Token", ["ITEMS_READ"])
        assert await service.ask(ME, token=login["accessToken"]) == ADA
        seen.add(login["refreshToken"])
    assert len(seen) == 4
    assert await service.count("logins") == [1]


async def test_end_with_their_login_when_a_refresh_token_comes_again(service: Service) -> None:
    await service.make_user()
    first, elsewhere = await log_in(service), await log_in(service)
    second = await refresh(service, first["refreshToken"])
    third = await refresh(service, second["refreshToken"])
    assert await is_good(service, third["accessToken"])
    assert (await refresh(service, first["refreshToken"])) | REFUSED == await refresh(service, "unknown")
    for token in (second, third):
        assert (await refresh(service, token["refreshToken"]))["__typename"] == "InvalidCredentials"
    assert [await is_good(service, token["accessToken"]) for token in (first, second, third)] == [False] * 3
    # The user's other logins are none of the thief's business.
    assert await is_good(service, elsewhere["accessToken"])
    assert (await refresh(service, elsewhere["refreshToken"]))["__typename"] == "Token"


async def test_are_won_once_when_two_use_a_refresh_token_at_once_and_then_end(service: Service) -> None:
    """Who of the two is the owner, nobody can tell: the winner's tokens end as well."""
    await service.make_user()
    token = (await log_in(service))["refreshToken"]
    async with running(service.settings) as other:
        answers = await asyncio.gather(*(refresh(chosen, token) for chosen in (service, other) * 4))
    (winner,) = (answer for answer in answers if answer["__typename"] == "Token")
    assert [answer["__typename"] for answer in answers].count("InvalidCredentials") == 7
    assert (await refresh(service, winner["refreshToken"]))["__typename"] == "InvalidCredentials"
    assert not await is_good(service, winner["accessToken"])


async def test_follow_what_the_user_holds_unless_they_were_narrowed(service: Service) -> None:
    await service.make_user("ada", (Scope.ITEMS_READ,))
    wide, narrow = await log_in(service), await log_in(service, Scope.ITEMS_READ)
    async with service.database.transaction() as work:
        await users.change_scopes(work, "ada", give=["files:read"])
    assert (await refresh(service, wide["refreshToken"]))["scopes"] == ["ITEMS_READ", "FILES_READ"]
    narrow = await refresh(service, narrow["refreshToken"])
    assert narrow["scopes"] == ["ITEMS_READ"]
    async with service.database.transaction() as work:
        await users.change_scopes(work, "ada", take=["items:read"])
    assert (await refresh(service, narrow["refreshToken"]))["scopes"] == []


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "x" * 60_000, "\x00" * 43])
async def test_are_not_given_for_what_is_no_refresh_token(embedded: Service, token: str) -> None:
    assert (await refresh(embedded, token))["__typename"] == "InvalidCredentials"


async def test_are_not_given_after_thirty_days_nor_to_who_is_shut_out(service: Service) -> None:
    ada = await service.make_user()
    late, out = await log_in(service), await log_in(service)
    async with service.database.transaction() as work:
        _, claims = parts(late["accessToken"])
        await work.session.execute(update(Login).where(Login.id == claims["sid"]).values(expires_at=utc_now()))
    assert (await refresh(service, late["refreshToken"]))["__typename"] == "InvalidCredentials"
    async with service.database.transaction() as work:
        await work.session.execute(update(users.User).where(users.User.id == ada.id).values(is_active=False))
    assert (await refresh(service, out["refreshToken"]))["__typename"] == "InvalidCredentials"
    assert await service.count("refresh_tokens") == [2]


async def test_never_pass_for_each_other(service: Service) -> None:
    await service.make_user()
    login = await log_in(service)
    assert (await refresh(service, login["accessToken"]))["__typename"] == "InvalidCredentials"
    assert await service.refused(ME, token=login["refreshToken"]) == "UNAUTHENTICATED"


async def refresh_code(service: Service, token: str) -> Any:
    """What a refresh comes to: the next token, a type, or the seconds to wait."""
    answer = (await service.send(REFRESH, {"token": token})).json()
    if "errors" in answer:
        assert answer["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        return answer["errors"][0]["extensions"]["retryAfter"]
    return answer["data"]["refreshToken"].get("refreshToken", answer["data"]["refreshToken"]["__typename"])


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_are_refreshed_ten_times_in_ten_minutes(backend: str, tmp_path: Path) -> None:
    """And no token is lost by a refresh that comes too soon, nor is another login held up."""
    async with running(await settings_for(backend, tmp_path, rate_limits_enabled=True)) as service:
        await service.make_user()
        login, other = await log_in(service), await log_in(service)
        token = login["refreshToken"]
        for _ in range(10):
            token = await refresh_code(service, token)
        waits = [await refresh_code(service, token) for _ in range(3)]
        assert all(500 <= wait <= 600 for wait in waits)
        assert await service.count("refresh_tokens") == [logins.USED_TOKENS + 2]
        assert isinstance(await refresh_code(service, other["refreshToken"]), str)
        await one_fewer(service, login["accessToken"])
        token = await refresh_code(service, token)
        assert isinstance(token, str)
        assert len(token) == logins.TOKEN_LENGTH


async def one_fewer(service: Service, access_token: str) -> None:
    """One refresh of the login counts no longer, as if its time had passed."""
    _, claims = parts(access_token)
    key = REFRESHES.key("refreshToken", Caller(None, "", ""), {"login_id": claims["sid"]})
    await service.services.port(MovingWindow).undo(REFRESHES.rate, *key)


async def test_that_were_used_are_kept_only_as_far_as_they_are_the_newest(service: Service) -> None:
    await service.make_user()
    first = await log_in(service)
    tokens_used = [first["refreshToken"]]
    for _ in range(40):
        tokens_used.append((await refresh(service, tokens_used[-1]))["refreshToken"])
    assert await service.count("refresh_tokens") == [logins.USED_TOKENS + 1]
    # One that is forgotten is refused, and does no harm; one that is remembered ends its login.
    assert (await refresh(service, tokens_used[5]))["__typename"] == "InvalidCredentials"
    await revoke(service, tokens_used[5])
    assert await is_good(service, first["accessToken"])
    assert (await refresh(service, tokens_used[-3]))["__typename"] == "InvalidCredentials"
    assert not await is_good(service, first["accessToken"])
    assert (await refresh(service, tokens_used[-1]))["__typename"] == "InvalidCredentials"
