"""One's own account: its password and its profile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from passlib.context import CryptContext  # pyright: ignore[reportMissingTypeStubs] -- libpass has none
from sqlalchemy import select

from persistence import logins, users
from persistence.audit import AuditEntry
from persistence.kit.limits import guess_throttle
from persistence.kit.limits.guess_throttle import GuessThrottle
from persistence.logins import InvalidCredentials
from tests.conftest import settings_for
from tests.echo.test_echo import ECHO
from tests.support.clients.tokens import is_good, log_in, refresh
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import PASSWORD, running

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from tests.support.service import Service

CHANGE = """
mutation Change($current: String!, $new: String!, $key: String) {
  changePassword(currentPassword: $current, newPassword: $new, idempotencyKey: $key) {
    __typename
    ... on ChangedPassword { endedLogins }
    ... on Error { code }
    ... on InvalidInput { path }
  }
}
"""
UPDATE = """
mutation Update($input: UpdateMeInput!, $key: String) {
  updateMe(input: $input, idempotencyKey: $key) {
    __typename
    ... on User { username fullName email isActive }
    ... on InvalidInput { problems { path } }
  }
}
"""
NEW = "a newer horse"
WRONG = {"__typename": "InvalidCredentials", "code": "INVALID_CREDENTIALS"}


async def change(service: Service, token: str, current: str = PASSWORD, new: str = NEW, key: str | None = None) -> dict[str, Any]:
    return (await service.ask(CHANGE, {"current": current, "new": new, "key": key}, token=token))["changePassword"]


async def everything(service: Service) -> list[Any]:
    async with service.database.reading() as session:
        return [(await session.execute(select(table.__table__))).all() for table in (users.User, logins.Login, AuditEntry)]


async def entries(service: Service) -> list[tuple[Any, ...]]:
    columns = (AuditEntry.action, AuditEntry.actor_id, AuditEntry.subject_id, AuditEntry.detail)
    async with service.database.reading() as session:
        return [tuple(entry) for entry in await session.execute(select(*columns).order_by(AuditEntry.id))]


# The password


async def test_password_is_changed_and_the_other_logins_end(service: Service) -> None:
    ada = await service.make_user()
    here, there, elsewhere = [await log_in(service) for _ in range(3)]
    async with (
        listening(service, ECHO, {"channel": "room"}, token=there["accessToken"]) as listener,
        listening(service, ECHO, {"channel": "room"}, token=here["accessToken"]) as staying,
    ):
        assert await change(service, here["accessToken"]) == {"__typename": "ChangedPassword", "endedLogins": 2}
        async with asyncio.timeout(30):
            await listener.socket.wait_closed()
        assert (listener.socket.close_code, staying.socket.close_code) == (4403, None)
    assert [await is_good(service, token["accessToken"]) for token in (here, there, elsewhere)] == [True, False, False]
    assert [(await refresh(service, token["refreshToken"]))["__typename"] for token in (here, there)] == ["Token", "InvalidCredentials"]
    assert [(await log_in(service, password=password))["__typename"] for password in (PASSWORD, NEW)] == ["InvalidCredentials", "Token"]
    assert await entries(service) == [("user.password_changed", ada.id, ada.id, {})]


async def test_password_of_the_present_must_be_right(service: Service) -> None:
    await service.make_user()
    token = (await log_in(service))["accessToken"]
    await log_in(service)
    before = await everything(service)
    for current in ("wrong password", "", PASSWORD + " ", NEW, "x" * 5_000):
        assert await change(service, token, current) == WRONG
        assert await change(service, token, current, key="k") == WRONG
    assert await service.refused(CHANGE, {"current": PASSWORD, "new": NEW}) == "UNAUTHENTICATED"
    assert await everything(service) == before


@pytest.mark.parametrize("new", ["1234567", "x" * 129, "        ", "12345678\x00", "ada.lovelace", "Ada.Lovelace", ""])
async def test_password_to_be_is_as_at_sign_up(service: Service, new: str) -> None:
    await service.make_user("ada.lovelace")
    token = (await log_in(service, name="ada.lovelace"))["accessToken"]
    before = await everything(service)
    refused = await change(service, token, new=new)
    assert refused == {"__typename": "InvalidInput", "code": "INVALID_INPUT", "path": ["newPassword"]}
    assert await everything(service) == before


async def test_password_is_changed_once_under_a_key(service: Service) -> None:
    await service.make_user()
    token = (await log_in(service))["accessToken"]
    await log_in(service)
    done = {"__typename": "ChangedPassword", "endedLogins": 1}
    assert [await change(service, token, key="k") for _ in range(2)] == [done, done]
    before = await everything(service)
    # Another request under the key, by who knows the password and by who does not.
    assert await change(service, token, NEW, "a third horse", "k") == {
        "__typename": "IdempotencyKeyReused",
        "code": "IDEMPOTENCY_KEY_REUSED",
    }
    assert await change(service, token, PASSWORD, "a third horse", "k") == WRONG
    # A repeat without the key that was used.
    assert await change(service, token, key="another") == WRONG
    assert await everything(service) == before


async def test_password_guesses_wait_as_those_of_a_sign_in_do(tmp_path: Path) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    settings = await settings_for("sqlite", tmp_path)
    async with running(settings, {GuessThrottle: GuessThrottle(None, enabled=True, sleep=sleep)}) as service:
        await service.make_user()
        token = (await log_in(service))["accessToken"]
        for _ in range(guess_throttle.PAIR.free + 8):
            assert await change(service, token, "wrong password") == WRONG
        waits.clear()
        assert (await log_in(service, password="wrong password")) == (await log_in(service, password="wrong password"))
        assert await change(service, token, "wrong password") == WRONG
        assert len(waits) == 3
        assert min(waits) >= guess_throttle.FIRST_SECONDS
        assert (await change(service, token))["__typename"] == "ChangedPassword"


async def test_password_that_changes_while_somebody_signs_in_with_the_former_lets_nobody_in(service: Service) -> None:
    await service.make_user()
    token = (await log_in(service))["accessToken"]
    verified = await logins.authenticate(service.database, "ada", PASSWORD)
    assert (await change(service, token))["__typename"] == "ChangedPassword"
    with pytest.raises(InvalidCredentials):
        async with service.database.transaction() as work:
            await logins.begin(work, verified, scopes=None)
    assert await service.count("logins", "refresh_tokens") == [1, 1]


async def test_password_that_changes_while_its_hash_is_renewed_is_the_new_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old hash has weaker parameters, so who signs in replaces it; who changed the password meanwhile has the last word."""
    ada = await service.make_user()
    old: Any = CryptContext(["argon2"], argon2__type="ID", argon2__memory_cost=1024, argon2__time_cost=1, argon2__parallelism=1)
    async with service.database.transaction() as work:
        assert await users.set_password_hash(work, ada, old.hash(PASSWORD))
    verified = logins.passwords.verify

    async def slowly(password: str, stored: str | None) -> Any:
        verdict = await verified(password, stored)
        if verdict.new_hash:
            monkeypatch.undo()
            assert (await change(service, service.tokens.issue(ada.id, ())))["__typename"] == "ChangedPassword"
        return verdict

    monkeypatch.setattr(logins.passwords, "verify", slowly)
    with pytest.raises(InvalidCredentials):
        await logins.authenticate(service.database, "ada", PASSWORD)
    assert [(await log_in(service, password=password))["__typename"] for password in (PASSWORD, NEW)] == ["InvalidCredentials", "Token"]


async def test_password_of_two_changes_at_once_is_that_of_one(service: Service) -> None:
    await service.make_user()
    token = (await log_in(service))["accessToken"]
    attempts: list[Awaitable[dict[str, Any]]] = [change(service, token, new=f"horse number {number}") for number in range(4)]
    answers = await asyncio.gather(*attempts)
    assert sorted(answer["__typename"] for answer in answers) == ["ChangedPassword", *["InvalidCredentials"] * 3]
    (changed,) = (number for number, answer in enumerate(answers) if answer["__typename"] == "ChangedPassword")
    assert (await log_in(service, password=f"horse number {changed}"))["__typename"] == "Token"
    assert len(await entries(service)) == 1


# The profile


async def test_profile_keeps_what_is_left_out_and_loses_what_is_null(service: Service) -> None:
    ada = await service.make_user("ada", full_name="Ada Lovelace", email="ada@example.com")
    token = service.tokens.issue(ada.id, ())
    for given, full_name, email in (
        ({"fullName": "Augusta Ada"}, "Augusta Ada", "ada@example.com"),
        ({"email": "a@lovelace.example"}, "Augusta Ada", "a@lovelace.example"),
        ({"email": None}, "Augusta Ada", None),
        ({"fullName": None, "email": "b@lovelace.example"}, None, "b@lovelace.example"),
    ):
        seen = {"username": "ada", "fullName": full_name, "email": email, "isActive": True}
        assert (await service.ask(UPDATE, {"input": given}, token=token))["updateMe"] == {"__typename": "User", **seen}
        assert (await service.ask("{ me { username fullName email isActive } }", token=token))["me"] == seen
    assert [(action, actor, detail["fields"]) for action, actor, _, detail in await entries(service)] == [
        ("user.updated", ada.id, ["fullName"]),
        ("user.updated", ada.id, ["email"]),
        ("user.updated", ada.id, ["email"]),
        ("user.updated", ada.id, ["fullName", "email"]),
    ]


async def test_profile_is_found_by_its_new_words_only(service: Service) -> None:
    ada = await service.make_user("ada", full_name="Ada Lovelace")
    admin = await service.sign_in(username="admin")
    await service.ask(UPDATE, {"input": {"fullName": "Augusta King"}}, token=service.tokens.issue(ada.id, ()))
    found = "query ($search: String!) { users(search: $search) { nodes { username } } }"
    for words, names in (("lovelace", []), ("king august", ["ada"])):
        nodes = (await service.ask(found, {"search": words}, token=admin))["users"]["nodes"]
        assert [node["username"] for node in nodes] == names


@pytest.mark.parametrize("given", [{}, {"fullName": "Ada Lovelace"}, {"email": "ada@example.com", "fullName": "Ada Lovelace"}])
async def test_profile_that_is_the_same_is_not_written(service: Service, given: dict[str, Any]) -> None:
    ada = await service.make_user("ada", full_name="Ada Lovelace", email="ada@example.com")
    before = await everything(service)
    seen = (await service.ask(UPDATE, {"input": given}, token=service.tokens.issue(ada.id, ())))["updateMe"]
    assert seen == {"__typename": "User", "username": "ada", "fullName": "Ada Lovelace", "email": "ada@example.com", "isActive": True}
    assert await everything(service) == before


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"fullName": " "}, [["fullName"]]),
        ({"fullName": "x" * 201, "email": "ada"}, [["fullName"], ["email"]]),
        ({"email": ""}, [["email"]]),
        ({"fullName": "Good", "email": "a@b"}, [["email"]]),
    ],
)
async def test_profile_is_checked_as_at_sign_up(service: Service, given: dict[str, Any], paths: list[list[str]]) -> None:
    ada = await service.make_user("ada", full_name="Ada Lovelace", email="ada@example.com")
    before = await everything(service)
    refused = (await service.ask(UPDATE, {"input": given}, token=service.tokens.issue(ada.id, ())))["updateMe"]
    assert refused == {"__typename": "InvalidInput", "problems": [{"path": path} for path in paths]}
    assert await everything(service) == before


async def test_profile_is_changed_once_under_a_key(service: Service) -> None:
    ada = await service.make_user("ada")
    token = service.tokens.issue(ada.id, ())
    first = await service.ask(UPDATE, {"input": {"fullName": "One"}, "key": "k"}, token=token)
    await service.ask(UPDATE, {"input": {"fullName": "Two"}}, token=token)
    assert await service.ask(UPDATE, {"input": {"fullName": "One"}, "key": "k"}, token=token) == first
    refused = (await service.ask(UPDATE, {"input": {"fullName": None}, "key": "k"}, token=token))["updateMe"]
    assert refused == {"__typename": "IdempotencyKeyReused"}
    assert (await service.ask("{ me { fullName } }", token=token))["me"] == {"fullName": "Two"}
