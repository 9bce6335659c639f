"""Logins: where a user is signed in, and signing out there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select, update

from graph.kit.auth import Scope
from persistence import audit, logins
from persistence.kit.column_types import utc_now
from persistence.logins import Login
from tests.echo.test_echo import ECHO
from tests.support.clients.tokens import ME, REFRESH, TOKEN, is_good, log_in, refresh, revoke
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import PASSWORD

if TYPE_CHECKING:
    from tests.support.service import Service

LOGINS = "{ me { logins { id createdAt lastUsedAt client isCurrent } } }"
END = """
mutation End($id: ID!, $key: String) {
  endLogin(id: $id, idempotencyKey: $key) { __typename ... on EndedLogin { id } ... on Error { code } }
}
"""


async def sign_in_with(service: Service, client: bytes, query: str = TOKEN, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    body = {"query": query, "variables": variables or {"name": "ada", "password": PASSWORD}}
    answer = await service.http.post("/graphql", json=body, headers=[(b"User-Agent", client)])
    (token,) = answer.json()["data"].values()
    return token


async def shown(service: Service, token: str) -> list[dict[str, Any]]:
    return (await service.ask(LOGINS, token=token))["me"]["logins"]


async def end(service: Service, login_id: str, token: str, key: str | None = None) -> dict[str, Any]:
    return (await service.ask(END, {"id": login_id, "key": key}, token=token))["endLogin"]


async def stored(service: Service) -> list[Any]:
    async with service.database.reading() as session:
        return [(await session.execute(select(table.__table__))).all() for table in (Login, logins.RefreshToken, audit.AuditEntry)]


async def test_are_listed_with_their_clients_the_one_used_last_first(service: Service) -> None:
    await service.make_user()
    began = datetime.now(UTC)
    phone, browser = await sign_in_with(service, b"Shop/1.0 (phone)"), await sign_in_with(service, b"Mozilla/5.0")
    found = await shown(service, phone["accessToken"])
    assert [(each["client"], each["isCurrent"]) for each in found] == [("Mozilla/5.0", False), ("Shop/1.0 (phone)", True)]
    assert [each["createdAt"] == each["lastUsedAt"] for each in found] == [True, True]
    newer = await sign_in_with(service, b"Shop/1.1 (phone)", REFRESH, {"token": phone["refreshToken"]})
    first, second = await shown(service, newer["accessToken"])
    assert [(each["client"], each["isCurrent"]) for each in (first, second)] == [("Shop/1.1 (phone)", True), ("Mozilla/5.0", False)]
    assert began.isoformat() < first["createdAt"].replace("Z", "+00:00") < first["lastUsedAt"].replace("Z", "+00:00")
    assert [each["isCurrent"] for each in await shown(service, browser["accessToken"])] == [False, True]


async def test_that_have_ended_or_expired_are_not_listed(service: Service) -> None:
    ada = await service.make_user()
    ended, expired, present = [await log_in(service) for _ in range(3)]
    ids = {each["id"] for each in await shown(service, present["accessToken"])}
    (own,) = (each["id"] for each in await shown(service, present["accessToken"]) if each["isCurrent"])
    await revoke(service, ended["refreshToken"])
    async with service.database.transaction() as work:
        (old,) = (each["id"] for each in await shown(service, expired["accessToken"]) if each["isCurrent"])
        await work.session.execute(update(Login).where(Login.id == old).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert len(ids) == 3
    assert [each["id"] for each in await shown(service, present["accessToken"])] == [own]
    assert await shown(service, service.tokens.issue(ada.id, ())) == [
        each | {"isCurrent": False} for each in await shown(service, present["accessToken"])
    ]


async def test_are_nobody_elses_business(service: Service) -> None:
    ada = await service.make_user("ada", (Scope.ITEMS_READ,))
    await log_in(service)
    admin = await service.sign_in(username="admin")
    query = '{ user(username: "ada") { email logins { id } } users { nodes { username logins { id } } } }'
    seen = await service.ask(query, token=admin)
    assert seen["user"] == {"email": None, "logins": None}
    assert [(each["username"], each["logins"] is None) for each in seen["users"]["nodes"]] == [("ada", True), ("admin", False)]
    assert ada.id


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        (b"Caf\xe9/1.0", "Café/1.0"),
        (b"x" * 290, "x" * 200),
        (b"y" * 5_000, "y" * 200),
        (b"soft\xadhyphen\x85and\x9fmore", "softhyphenandmore"),
        (b"\xa0\xad", None),
        (b"", None),
    ],
)
async def test_show_of_a_user_agent_what_is_text_within_bounds(service: Service, sent: bytes, client: str | None) -> None:
    await service.make_user()
    token = await sign_in_with(service, sent)
    assert [each["client"] for each in await shown(service, token["accessToken"])] == [client]


async def test_end_alone_when_their_user_says_so(service: Service) -> None:
    ada = await service.make_user()
    here, there = await log_in(service), await log_in(service)
    (other,) = (each["id"] for each in await shown(service, here["accessToken"]) if not each["isCurrent"])
    async with (
        listening(service, ECHO, {"channel": "room"}, token=there["accessToken"]) as listener,
        listening(service, ECHO, {"channel": "room"}, token=here["accessToken"]) as staying,
    ):
        assert await end(service, other, here["accessToken"], "k") == {"__typename": "EndedLogin", "id": other}
        async with asyncio.timeout(30):
            await listener.socket.wait_closed()
        assert (listener.socket.close_code, listener.socket.close_reason) == (4403, "Token revoked")
        assert staying.socket.close_code is None
    assert [await is_good(service, token["accessToken"]) for token in (here, there)] == [True, False]
    assert (await refresh(service, there["refreshToken"]))["__typename"] == "InvalidCredentials"
    assert [each["isCurrent"] for each in await shown(service, here["accessToken"])] == [True]
    async with service.database.reading() as session:
        entries = (await session.execute(select(audit.AuditEntry.action, audit.AuditEntry.actor_id, audit.AuditEntry.subject_id))).all()
    assert [tuple(entry) for entry in entries] == [("login.ended", ada.id, ada.id)]
    assert await end(service, other, here["accessToken"], "k") == {"__typename": "EndedLogin", "id": other}
    assert await end(service, other, here["accessToken"]) == {"__typename": "NotFound", "code": "NOT_FOUND"}


async def test_may_end_themselves(service: Service) -> None:
    await service.make_user()
    token = (await log_in(service))["accessToken"]
    (own,) = await shown(service, token)
    assert (await end(service, own["id"], token))["__typename"] == "EndedLogin"
    assert not await is_good(service, token)


async def test_of_others_and_of_nobody_are_not_found(service: Service) -> None:
    await service.make_user("ada")
    await service.make_user("eve")
    (ada,) = await shown(service, (await log_in(service))["accessToken"])
    eve = (await log_in(service, name="eve"))["accessToken"]
    before = await stored(service)
    for login_id in (ada["id"], "", "nobody's", "\x00", "é", "x" * 50_000, "TG9naW46MQ=="):
        assert await end(service, login_id, eve) == {"__typename": "NotFound", "code": "NOT_FOUND"}
    assert await service.refused(END, {"id": ada["id"]}) == "UNAUTHENTICATED"
    assert await stored(service) == before
    assert await service.ask(ME, token=eve) == {"me": {"username": "eve"}}


async def test_are_listed_up_to_a_bound(service: Service) -> None:
    ada = await service.make_user()
    now = utc_now()
    rows = [
        {
            "id": f"login-{number:03}",
            "user_id": ada.id,
            "created_at": now - timedelta(seconds=number),
            "expires_at": now + timedelta(days=1),
        }
        for number in range(logins.SHOWN + 5)
    ]
    async with service.database.transaction() as work:
        await work.session.execute(insert(Login), rows)
    found = await shown(service, service.tokens.issue(ada.id, ()))
    # As a version before wrote them, without their last use.
    assert [each["id"] for each in found] == [f"login-{number:03}" for number in range(logins.SHOWN)]
    assert all(each["lastUsedAt"] == each["createdAt"] for each in found)
