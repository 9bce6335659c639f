"""Tokens: who gets them, which are believed, and when they stop."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from passlib.context import CryptContext  # pyright: ignore[reportMissingTypeStubs] -- libpass has none
from sqlalchemy import event, update

from graph.kit.auth import Scope
from graph.kit.errors import Refused
from graph.server.auth import tokens
from graph.server.graphql.subscriptions.connection_registry import CLOSING_SECONDS
from graph.server.settings import BadSettings, load
from persistence import logins, passwords, users
from persistence.kit.column_types import utc_now
from persistence.logins import Login, RefreshToken, RevokedToken
from tests.support.clients.tokens import ADA, ME, OTHER_KEY, REFUSED, REVOKE, TOKEN, is_good, log_in, parts, refresh, revoke
from tests.support.clients.websocket_subscriber import listening
from tests.support.endpoints import LATE_SECONDS
from tests.support.service import PASSWORD, SECRET, Service, running

# What they are


async def test_say_who_and_what_for_half_an_hour(service: Service) -> None:
    ada = await service.make_user("ada", (Scope.ITEMS_READ, Scope.FILES_READ))
    token = await log_in(service)
    assert (token["tokenType"], token["expiresIn"], token["scopes"]) == ("Bearer", 1800, ["ITEMS_READ", "FILES_READ"])
    header, claims = parts(token["accessToken"])
    assert header == {"alg": "HS256", "typ": "JWT", "kid": tokens.key_id(SECRET.encode())}
    assert sorted(claims) == ["aud", "exp", "iat", "iss", "jti", "scopes", "sid", "sub", "typ"]
    assert (claims["sub"], claims["scopes"], claims["exp"] - claims["iat"]) == (str(ada.id), ["files:read", "items:read"], 1800)
    assert (claims["typ"], claims["iss"], claims["aud"]) == ("access", "storegraph", "storegraph")
    assert jwt.decode(token["accessToken"], SECRET, ["HS256"], audience="storegraph") == claims
    assert await service.ask(ME, token=token["accessToken"]) == ADA


async def test_are_kept_as_hashes_only(service: Service) -> None:
    await service.make_user()
    token = await log_in(service)
    async with service.database.reading() as session:
        kept = await session.get_one(RefreshToken, logins.hash_token(token["refreshToken"]))
    assert token["refreshToken"] not in str(vars(kept))


async def test_carry_less_when_less_is_asked_for(service: Service) -> None:
    await service.make_user("ada", (Scope.ITEMS_READ, Scope.USERS_READ))
    narrow = await log_in(service, Scope.ITEMS_READ)
    assert narrow["scopes"] == ["ITEMS_READ"]
    assert await service.refused("{ users { totalCount } }", token=narrow["accessToken"]) == "FORBIDDEN"
    nothing = (await service.ask(TOKEN, {"name": "ada", "password": PASSWORD, "scopes": []}))["token"]
    assert nothing["scopes"] == []
    assert await service.ask(ME, token=nothing["accessToken"]) == ADA


async def test_are_not_given_for_scopes_that_the_user_does_not_hold(service: Service) -> None:
    await service.make_user("ada", (Scope.ITEMS_READ,))
    refused = await log_in(service, Scope.ITEMS_READ, Scope.USERS_WRITE)
    assert (refused["__typename"], refused["path"]) == ("InvalidInput", ["scopes"])
    assert "users:write" in refused["message"]
    assert await service.count("logins", "refresh_tokens") == [0, 0]


# Which are believed


def forged(claims: dict[str, Any], key: str = SECRET, algorithm: str | None = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, key if algorithm else "", algorithm, headers=headers or None)


def nested(depth: int) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":' + b"[" * depth + b"]" * depth + b"}").decode().rstrip("=")
    return f"{header}.e30.AAAA"


FORGERIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "no signature at all": lambda claims: forged(claims, algorithm=None),
    "the signature cut off": lambda claims: forged(claims).rpartition(".")[0] + ".",
    "another key": lambda claims: forged(claims, OTHER_KEY),
    "another algorithm": lambda claims: forged(claims, SECRET * 2, "HS512"),
    "the key named as none we have": lambda claims: forged(claims, kid="000000000000"),
    "the key named as a path": lambda claims: forged(claims, kid="../../dev/null"),
    "the key named as a list": lambda claims: nested(1),
    "a header nested deep": lambda claims: nested(1_400),
    "another issuer": lambda claims: forged(claims | {"iss": "somebody"}),
    "another audience": lambda claims: forged(claims | {"aud": "somebody"}),
    "several audiences": lambda claims: forged(claims | {"aud": ["storegraph", "somebody"]}),
    "another type": lambda claims: forged(claims | {"typ": "refresh"}),
    "expired": lambda claims: forged(claims | {"exp": claims["iat"] - 10}),
    "from the future": lambda claims: forged(claims | {"iat": claims["iat"] + 60}),
    "not good yet": lambda claims: forged(claims | {"nbf": claims["iat"] + 60}),
    "an instant that is none": lambda claims: forged(claims | {"exp": "soon"}),
    "the end of time": lambda claims: forged(claims | {"exp": 10**20}),
    "no user": lambda claims: forged(claims | {"sub": "999999"}),
    "a user's name": lambda claims: forged(claims | {"sub": "ada"}),
    "a user of too many digits": lambda claims: forged(claims | {"sub": "9" * 30}),
    "a user of far too many digits": lambda claims: forged(claims | {"sub": "9" * 3_000}),
    "a negative user": lambda claims: forged(claims | {"sub": "-1"}),
    "the user as a number": lambda claims: forged(claims | {"sub": int(claims["sub"])}),
    "a scope that there is not": lambda claims: forged(claims | {"scopes": ["everything"]}),
    "scopes as one text": lambda claims: forged(claims | {"scopes": "items:read"}),
    "scopes in a list in the list": lambda claims: forged(claims | {"scopes": [["items:read"]]}),
    "an id that is no text": lambda claims: forged(claims | {"jti": 7}),
    "an id with a NUL": lambda claims: forged(claims | {"jti": "\x00"}),
    "a login that there is not": lambda claims: forged(claims | {"sid": "nowhere"}),
    "a login with a NUL": lambda claims: forged(claims | {"sid": "\x00"}),
    "a login that is no text": lambda claims: forged(claims | {"sid": {}}),
    "too long": lambda claims: forged(claims | {"more": "x" * 4_096}),
    "two parts": lambda claims: "abc.def",
    "four parts": lambda claims: forged(claims) + ".x",
    "dots": lambda claims: "..",
    "not base64": lambda claims: "ä.ö.ü",
    "claims that are no object": lambda claims: jwt.PyJWS().encode(b"[]", SECRET, "HS256"),
    "no claims": lambda claims: forged({}),
}


for name in ("sub", "scopes", "iat", "exp", "jti", "iss", "aud", "typ"):
    FORGERIES[f"no {name}"] = lambda claims, left=name: forged({key: value for key, value in claims.items() if key != left})


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_are_refused_alike_when_forged_with(embedded: Service, forgery: str) -> None:
    ada = await embedded.make_user()
    _, claims = parts(embedded.tokens.issue(ada.id, [Scope.ITEMS_READ]))
    assert await is_good(embedded, forged(claims))
    token = FORGERIES[forgery](claims)
    refused = await embedded.http.post("/graphql", json={"query": ME}, headers=[(b"Authorization", f"Bearer {token}".encode())])
    message = "The token is not valid or has expired: get a new one with the mutation `token` or `refreshToken`."
    assert refused.json()["errors"] == [{"message": message, "extensions": {"code": "UNAUTHENTICATED"}}]
    assert "data" not in refused.json()
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(("exp", "iat"), [(-3, -100), (100, 3)])
async def test_are_given_a_few_seconds_for_clocks_that_differ(embedded: Service, exp: int, iat: int) -> None:
    ada, now = await embedded.make_user(), int(time.time())
    _, claims = parts(embedded.tokens.issue(ada.id, []))
    assert await is_good(embedded, forged(claims | {"exp": now + exp, "iat": now + iat}))


async def test_stop_in_the_middle_of_their_half_second_of_trust(embedded: Service) -> None:
    """The signature is not checked anew while it is remembered; the end is."""
    token = await embedded.sign_in()
    principal = await embedded.tokens.principal(token)
    known = embedded.tokens._known[token]  # pyright: ignore[reportPrivateUsage] -- instead of half an hour
    assert known.principal is principal
    known.token = replace(known.token, expires_at=utc_now() - timedelta(seconds=tokens.LEEWAY_SECONDS))
    with pytest.raises(Refused):
        await embedded.tokens.principal(token)


async def test_of_a_former_key_are_believed_as_long_as_the_key_is_kept(service: Service) -> None:
    await service.make_user()
    old = (await log_in(service))["accessToken"]
    changed = {"secret_key": OTHER_KEY, "secret_keys_old": (SECRET,)}
    async with running(service.settings.model_copy(update=changed)) as rotated:
        new = (await log_in(rotated))["accessToken"]
        assert parts(new)[0]["kid"] == tokens.key_id(OTHER_KEY.encode()) != parts(old)[0]["kid"]
        assert [await is_good(rotated, token) for token in (old, new)] == [True, True]
    assert [await is_good(service, token) for token in (old, new)] == [True, False]
    async with running(service.settings.model_copy(update={"secret_key": OTHER_KEY})) as forgetful:
        assert [await is_good(forgetful, token) for token in (old, new)] == [False, True]


def test_are_not_verified_by_a_key_that_can_be_guessed() -> None:
    with pytest.raises(BadSettings, match="SECRET_KEYS_OLD"):
        load(debug=False, secret_key=OTHER_KEY, secret_keys_old="short")
    assert load(debug=False, secret_key=OTHER_KEY, secret_keys_old=f"{SECRET}, {SECRET[::-1]}").older_keys == (
        SECRET.encode(),
        SECRET[::-1].encode(),
    )


# Who gets them


async def test_are_refused_alike_for_a_wrong_password_an_unknown_user_and_one_who_is_shut_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.make_user("ada")
    await service.make_user("eve")
    async with service.database.transaction() as work:
        await users.set_active(work, "eve", active=False)
    hashed: list[str] = []
    verify = passwords.hashing.verify_and_update

    def seen(password: bytes, kept: str) -> Any:
        hashed.append(kept.rpartition("$")[0].rpartition("$")[0])
        return verify(password, kept)

    monkeypatch.setattr(passwords.hashing, "verify_and_update", seen)
    attempts = [
        ("ada", "wrong password"),
        ("nobody", PASSWORD),
        ("eve", PASSWORD),
        ("not a name", PASSWORD),
        ("", ""),
        ("ada", "x" * 5_000),
    ]
    answers = [await log_in(service, name=name, password=password) for name, password in attempts]
    assert answers == [answers[0] | REFUSED] * len(attempts)
    # Each attempt, whoever it was for, computed one hash with the same parameters.
    assert hashed == ["$argon2id$v=19$m=19456,t=2,p=1"] * len(attempts)
    assert await service.count("logins") == [0]


async def test_take_as_long_to_refuse_for_an_unknown_user_as_for_a_wrong_password(embedded: Service) -> None:
    """Without the hash of nobody, the one would take a hundredth of the other."""
    await embedded.make_user()
    took: dict[str, list[float]] = {"ada": [], "nobody": []}
    for name in ["ada", "nobody"] * 8:
        started = time.process_time()
        await log_in(embedded, name=name, password="wrong password")
        took[name].append(time.process_time() - started)
    assert 0.5 < statistics.median(took["ada"][1:]) / statistics.median(took["nobody"][1:]) < 2


async def test_are_given_for_passwords_that_different_keyboards_compose_differently(service: Service) -> None:
    signup = 'mutation ($password: String!) { signup(input: { username: "zoe", password: $password }) { __typename } }'
    await service.ask(signup, {"password": "Zo\u00eb's password"})
    assert (await log_in(service, name="zoe", password="Zoe\u0308's password"))["__typename"] == "Token"


@pytest.mark.parametrize("character", ["x", "ü", "😀"])
async def test_are_not_given_for_a_password_that_only_begins_right(service: Service, character: str) -> None:
    """Whatever is longer than a password may be is nobody's, and is not cut."""
    longest = character * 128
    signup = 'mutation ($password: String!) { signup(input: { username: "zoe", password: $password }) { __typename } }'
    await service.ask(signup, {"password": longest})
    for same in (longest, unicodedata.normalize("NFD", longest)):
        assert (await log_in(service, name="zoe", password=same))["__typename"] == "Token"
    for more in (character, " ", "\u0301", "y" * 10_000):
        refused = await log_in(service, name="zoe", password=longest + more)
        assert refused["__typename"] == "InvalidCredentials"
    assert await service.count("logins") == [2]


async def test_bring_an_old_hash_up_to_date(service: Service) -> None:
    ada = await service.make_user()
    old: Any = CryptContext(["argon2"], argon2__type="ID", argon2__memory_cost=1024, argon2__time_cost=1, argon2__parallelism=1)
    async with service.database.transaction() as work:
        assert await users.set_password_hash(work, ada, old.hash(PASSWORD))
    assert (await log_in(service, password="wrong password"))["__typename"] == "InvalidCredentials"
    for _ in range(2):
        assert (await log_in(service))["__typename"] == "Token"
        async with service.database.reading() as session:
            kept = (await users.by_id(session, [ada.id]))[ada.id].password_hash
        assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_wait_in_a_line_that_ends(embedded: Service) -> None:
    line = passwords.HashingQueue(1, 2)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return "done"

    waiting = [asyncio.create_task(line.run(work)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await line.run(work)
    gate.set()
    assert await asyncio.gather(*waiting) == ["done", "done"]
    assert await line.run(work) == "done"


async def test_leave_the_service_free_while_passwords_are_hashed(embedded: Service) -> None:
    await embedded.make_user()
    attempts = [asyncio.create_task(log_in(embedded)) for _ in range(10)]
    answered = 0
    while not all(attempt.done() for attempt in attempts):
        await embedded.ask("{ __typename }")
        answered += 1
    assert answered > len(attempts)


# When they stop


async def test_stop_one_by_one_when_an_access_token_is_revoked(service: Service) -> None:
    await service.make_user()
    login = await log_in(service)
    other = await refresh(service, login["refreshToken"])
    await revoke(service, login["accessToken"])
    assert [await is_good(service, token["accessToken"]) for token in (login, other)] == [False, True]
    await revoke(service, login["accessToken"])
    assert await service.count("revoked_tokens") == [1]
    assert (await refresh(service, other["refreshToken"]))["__typename"] == "Token"


@pytest.mark.parametrize("which", ["newest", "used"])
async def test_stop_together_when_a_refresh_token_is_revoked(service: Service, which: str) -> None:
    await service.make_user()
    first = await log_in(service)
    second = await refresh(service, first["refreshToken"])
    assert await is_good(service, second["accessToken"])
    await revoke(service, (second if which == "newest" else first)["refreshToken"])
    assert [await is_good(service, token["accessToken"]) for token in (first, second)] == [False, False]
    assert (await refresh(service, second["refreshToken"]))["__typename"] == "InvalidCredentials"


async def test_that_nobody_knows_are_revoked_without_a_word(service: Service) -> None:
    ada = await service.make_user()
    _, claims = parts(service.tokens.issue(ada.id, []))
    for token in ("", "x", "x" * 43, forged(claims, OTHER_KEY), forged(claims | {"exp": claims["iat"] - 10})):
        await revoke(service, token)
    refused = await service.ask(REVOKE, {"token": "x" * 4_097})
    assert refused == {"revokeToken": {"__typename": "InvalidInput", "path": ["token"]}}
    assert await service.count("revoked_tokens", "audit_entries") == [0, 0]
    assert await is_good(service, forged(claims))


@pytest.mark.parametrize("change", ["revoked", "signed out", "shut out", "fewer scopes"])
async def test_stop_within_a_second_in_another_process(service: Service, change: str) -> None:
    await service.make_user()
    login, query = await log_in(service), "{ users { totalCount } }"

    async def is_refused(chosen: Service) -> bool:
        return "errors" in (await chosen.send(query, token=login["accessToken"])).json()

    async with running(service.settings) as other:
        assert [await is_refused(chosen) for chosen in (service, other)] == [False, False]
        if change == "revoked":
            await revoke(service, login["accessToken"])
        elif change == "signed out":
            await revoke(service, login["refreshToken"])
        else:
            async with service.database.transaction() as work:
                if change == "shut out":
                    await users.set_active(work, "ada", active=False)
                else:
                    await users.change_scopes(work, "ada", take=["users:read"])
        changed = time.monotonic()
        assert await is_refused(service)
        while not await is_refused(other):
            assert time.monotonic() - changed < 1 + LATE_SECONDS


@pytest.mark.parametrize("token", ["accessToken", "refreshToken"])
async def test_end_open_sockets_within_a_second(service: Service, token: str) -> None:
    await service.make_user()
    login = await log_in(service)
    async with running(service.settings) as other:
        subscription = 'subscription { echo(channel: "a", message: "hello") { text } }'
        async with listening(other, subscription, token=login["accessToken"]) as listener:
            assert await listener.next() == {"text": "echo: hello"}
            await revoke(service, login[token])
            revoked = time.monotonic()
            await listener.socket.wait_closed()
            assert (listener.socket.close_code, listener.socket.close_reason) == (4403, "Token revoked")
            assert time.monotonic() - revoked < 1 + CLOSING_SECONDS + LATE_SECONDS


async def test_cost_no_statement_while_their_standing_is_known(service: Service) -> None:
    token, looked = await service.sign_in(), 0

    def note(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        nonlocal looked
        looked += bool(context.execution_options.get("token_status"))

    engines = [engine.sync_engine for engine in service.database.engines]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    started = time.monotonic()
    principals = [await service.tokens.principal(token) for _ in range(200)]
    passed = time.monotonic() - started
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
    assert looked == len({id(principal) for principal in principals}) <= 1 + passed / tokens.STATUS_SECONDS


async def test_are_forgotten_when_nothing_can_refer_to_them(service: Service) -> None:
    ada = await service.make_user()
    old, new = await log_in(service), await log_in(service)
    async with service.database.transaction() as work:
        ended = datetime.now(UTC) - logins.RETENTION - timedelta(minutes=1)
        await work.session.execute(update(Login).where(Login.id == parts(old["accessToken"])[1]["sid"]).values(expires_at=ended))
        await logins.revoke(work, "old", user_id=ada.id, expires_at=ended)
        await logins.revoke(work, "new", user_id=ada.id, expires_at=utc_now())
        await logins.prune(work)
        assert (await work.session.get(RevokedToken, "old"), await work.session.get_one(RevokedToken, "new")) != (None, None)
    assert await service.count("logins", "refresh_tokens", "revoked_tokens") == [1, 1, 1]
    assert [await is_good(service, token["accessToken"]) for token in (old, new)] == [False, True]


async def test_of_one_user_belong_to_so_many_logins(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "LOGINS", 3)
    await service.make_user("bob")
    bobs = await log_in(service, name="bob")
    await service.make_user()
    given = [await log_in(service) for _ in range(5)]
    assert await service.count("logins", "refresh_tokens") == [4, 4]
    assert [await is_good(service, login["accessToken"]) for login in given] == [False, False, True, True, True]
    assert (await refresh(service, given[0]["refreshToken"]))["__typename"] == "InvalidCredentials"
    assert await is_good(service, bobs["accessToken"])
