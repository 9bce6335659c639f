"""An account that its user erases …"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url, select, text

from graph.kit.auth import Scope
from graph.kit.global_ids import split
from persistence import erasure, files, logins
from persistence.audit import AuditEntry
from persistence.kit.blobs.blobs import Blobs, StoredBlob
from persistence.kit.column_types import ERASED_WITH_USER
from persistence.kit.database.database import Base
from persistence.kit.errors import NotFound
from persistence.kit.limits.guess_throttle import name_key
from persistence.kit.redis.client import connect
from tests.conftest import settings_for
from tests.echo.test_echo import ECHO
from tests.support.clients.tokens import is_good, log_in, refresh
from tests.support.clients.websocket_subscriber import listening
from tests.support.service import PASSWORD, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.service import Service

ERASE = """
mutation Erase($password: String!) {
  deleteMe(password: $password) { __typename ... on DeletedUser { id username } ... on Error { code message } }
}
"""
SIGNUP = "mutation ($input: SignupInput!, $key: String) { signup(input: $input, idempotencyKey: $key) { ... on User { id } } }"
BASKET = """
mutation ($id: ID!) {
  purchaseItems(lines: [{ itemId: $id }, { itemId: $id, quantity: 3 }], idempotencyKey: "quetzal fills a basket") {
    ... on PurchaseItems { purchases { id } }
  }
}
"""
CANCEL = 'mutation ($id: ID!) { cancelPurchase(id: $id, idempotencyKey: "quetzal cancels") { ... on Purchase { status } } }'
REPORT = '{ salesReport(from: "2020-01-01T00:00:00Z", to: "2060-01-01T00:00:00Z", by: MONTH) { revenue units purchases } }'
NAME, FULL_NAME, EMAIL = "quetzal.9731", "Xochitl Quetzalcoatl", "xq9731@tenochtitlan.example"
FILE, LATER_FILE, CONTENT = "codex-zapotec-9731.txt", "codex-deleted-9731.txt", b"the feathered serpent 9731"
CLIENT = "PochtecaBrowser/9731"
NEEDLES = {
    needle.lower()
    for needle in (
        NAME,
        "quetzal",
        FULL_NAME,
        "xochitl",
        "quetzalcoatl",
        EMAIL,
        "xq9731",
        "tenochtitlan",
        FILE,
        LATER_FILE,
        CLIENT,
        CONTENT.decode(),
    )
}


async def erase(service: Service, token: str, password: str = PASSWORD) -> dict[str, Any]:
    return (await service.ask(ERASE, {"password": password}, token=token))["deleteMe"]


async def everything(service: Service) -> list[Any]:
    async with service.database.reading() as session:
        return [(await session.execute(select(table))).all() for table in Base.metadata.sorted_tables]


async def dump(service: Service) -> str:
    """All rows of all tables, those that are no entity's too, and what the search indexes hold."""
    tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if service.database.dialect == "postgresql":
        tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    async with service.database.reading() as session:
        names = (await session.scalars(text(tables))).all()
        assert len(names) > len(Base.metadata.tables)
        rows = [(await session.execute(text(f'SELECT * FROM "{name}"'))).all() for name in names]
    return repr(rows)


async def in_redis(service: Service) -> bytes:
    """Every key and value."""
    if service.settings.redis_url is None:
        return b""
    async with connect(service.settings.redis_url) as client:
        redis: Any = client
        found = [key async for key in redis.scan_iter(count=1_000)]
        return b"\n".join([part for key in found for part in (key, await redis.dump(key) or b"")])


def in_files(service: Service) -> bytes:
    """The database's file and its log, and every blob."""
    blobs = [path.read_bytes() for path in service.folder.rglob("*") if path.is_file()]
    database = make_url(service.settings.database_url).database or ""
    parts = [Path(database + suffix) for suffix in ("", "-wal", "-shm", "-journal")] if service.database.dialect == "sqlite" else []
    return b"\n".join([*blobs, *(path.read_bytes() for path in parts if path.exists())])


async def remains(service: Service) -> set[str]:
    """What of the user is found anywhere, whatever the case."""
    found = b"\n".join([(await dump(service)).encode(), await in_redis(service), in_files(service)]).lower()
    return {needle for needle in NEEDLES if needle.encode() in found}


async def upload(service: Service, token: str, name: str, content: bytes, key: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    assert (await service.http.post("/api/v2/files/upload", headers=headers, files={"file": (name, content)})).status_code == 201


async def live(service: Service, admin: str) -> dict[str, Any]:
    """A user who does everything that leaves a trace."""
    given = {"username": NAME, "password": PASSWORD, "fullName": FULL_NAME, "email": EMAIL}
    await service.ask(SIGNUP, {"input": given, "key": "sign-up"})
    grant = 'mutation ($name: String!) { grantScopes(username: $name, scopes: [FILES_WRITE, USERS_WRITE], idempotencyKey: "grant") { __typename } }'
    await service.ask(grant, {"name": NAME}, token=admin)
    await log_in(service, name=NAME, password="wrong password")
    service.http.headers["User-Agent"] = CLIENT
    first, token = await log_in(service, name=NAME), await log_in(service, name=NAME.upper())
    del service.http.headers["User-Agent"]
    access = token["accessToken"]
    renewed = await refresh(service, first["refreshToken"])
    await service.ask("mutation ($token: String!) { revokeToken(token: $token) { __typename } }", {"token": renewed["refreshToken"]})
    profile = 'mutation ($i: UpdateMeInput!) { updateMe(input: $i, idempotencyKey: "profile") { __typename } }'
    await service.ask(profile, {"i": {"fullName": FULL_NAME + " II"}}, token=access)
    await service.ask(profile.replace('"profile"', '"profile again"'), {"i": {"fullName": FULL_NAME}}, token=access)
    own = 'mutation { createItem(input: { name: "Jade", price: "3.50", inventory: 9 }, idempotencyKey: "item") { ... on Item { id } } }'
    item = (await service.ask(own, token=access))["createItem"]["id"]
    bought = 'mutation ($id: ID!) { purchaseItem(itemId: $id, quantity: 2, idempotencyKey: "quetzal buys") { ... on Purchase { id } } }'
    purchase = (await service.ask(bought, {"id": item}, token=access))["purchaseItem"]["id"]
    basket = (await service.ask(BASKET, {"id": item}, token=access))["purchaseItems"]["purchases"]
    cancelled = await service.ask(CANCEL, {"id": basket[1]["id"]}, token=access)
    assert cancelled == {"cancelPurchase": {"status": "CANCELLED"}}
    import_headers = {"Authorization": f"Bearer {access}", "Content-Type": "text/csv", "Idempotency-Key": "quetzal imports"}
    rows = b"externalId,name,price\nF-1,Feather,2\n"
    assert (await service.http.post("/api/v2/import/items?match=external-id", content=rows, headers=import_headers)).status_code == 200
    await upload(service, access, FILE, CONTENT, "upload")
    await upload(service, access, LATER_FILE, CONTENT + b" again", "upload again")
    remove = 'mutation ($name: String!) { deleteFile(filename: $name, idempotencyKey: "remove") { __typename } }'
    await service.ask(remove, {"name": LATER_FILE}, token=admin)
    seen = "{ me { id username fullName email logins { client } } items { nodes { owner { username fullName } } } }"
    me = (await service.ask(seen, token=access))["me"]
    public = await service.ask("{ items { nodes { owner { username fullName } } } }")
    assert public["items"]["nodes"] == [{"owner": {"username": NAME, "fullName": FULL_NAME}}] * 2
    looked = '{ users(search: "xochitl") { nodes { id email } } user(username: "quetzal.9731") { email } files { nodes { filename } } }'
    await service.ask(looked, token=admin)
    await service.background_done()
    number = split(me["id"])
    assert number is not None
    return {"token": access, "refresh": token["refreshToken"], "item": item, "purchase": purchase, "id": me["id"], "number": number[1]}


@pytest.fixture(params=["sqlite", "postgresql"])
async def limited(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Service]:
    """A service of its own, with everything on that keeps something: sign-ins are counted."""
    settings = await settings_for(request.param, tmp_path, rate_limits_enabled=True)
    async with running(settings) as service:
        yield service


async def test_leaves_no_byte_of_its_user_anywhere(limited: Service, capfd: pytest.CaptureFixture[str]) -> None:
    service = limited
    admin = await service.sign_in(username="admin")
    person = await live(service, admin)
    # Each secret is found now: a search that cannot find proves nothing.
    assert await remains(service) == NEEDLES
    assert (name_key(NAME).encode() in await in_redis(service)) == (service.settings.redis_url is not None)
    totals = await service.ask(REPORT, token=admin)
    assert (totals["salesReport"]["revenue"], totals["salesReport"]["units"]) == ("10.50", 3)
    capfd.readouterr()

    name = f"deleted-{person['number']}"
    assert await erase(service, person["token"]) == {"__typename": "DeletedUser", "id": person["id"], "username": name}
    assert await remains(service) == set()
    assert name_key(NAME).encode() not in await in_redis(service)
    assert await service.count("jobs", "purchases", "items", "stored_files", "logins", "refresh_tokens") == [0, 3, 2, 0, 0, 0]
    assert await service.ask(REPORT, token=admin) == totals
    assert not any(path.is_file() for path in service.folder.rglob("*"))

    assert not await is_good(service, person["token"])
    assert (await refresh(service, person["refresh"]))["__typename"] == "InvalidCredentials"
    for password in (PASSWORD, "the password of nobody"):
        assert (await log_in(service, name=name, password=password))["__typename"] == "InvalidCredentials"
    printed = "".join(capfd.readouterr()).lower()
    assert "operation" in printed
    assert [needle for needle in NEEDLES if needle in printed] == []


async def test_leaves_purchases_with_a_buyer_and_items_without_an_owner(service: Service) -> None:
    admin = await service.sign_in(username="admin")
    person = await live(service, admin)
    await erase(service, person["token"])
    query = """
    query ($ids: [ID!]!) {
      nodes(ids: $ids) {
        __typename
        ... on Item { name version inventory owner { username } }
        ... on Purchase { total buyer { id username fullName email isActive scopes items { totalCount } } }
      }
      users { nodes { username } totalCount }
      found: users(search: "quetzal") { totalCount }
      user(username: "quetzal.9731") { id }
      auditLog { nodes { action detail actor { username } } }
    }
    """
    name = f"deleted-{person['number']}"
    seen = await service.ask(query, {"ids": [person["item"], person["purchase"], person["id"]]}, token=admin)
    buyer: dict[str, Any] = {
        "id": person["id"],
        "username": name,
        "fullName": None,
        "email": None,
        "isActive": False,
        "scopes": [],
        "items": {"totalCount": 0},
    }
    assert seen["nodes"] == [
        {"__typename": "Item", "name": "Jade", "version": 1, "inventory": 6, "owner": None},
        {"__typename": "Purchase", "total": "7.00", "buyer": buyer},
        None,
    ]
    assert (seen["users"], seen["found"], seen["user"]) == ({"nodes": [{"username": "admin"}], "totalCount": 1}, {"totalCount": 0}, None)
    own = [entry["action"] for entry in seen["auditLog"]["nodes"] if entry["actor"]["username"] == name]
    assert own[0] == "user.deleted"
    assert {"user.signed_up", "user.updated", "item.created", "items.imported", "purchase.completed", "purchase.cancelled"} < set(own)
    assert not any(action.startswith(("login.", "token.")) for action in own)


async def test_gives_its_name_to_whoever_wants_it_but_not_the_one_that_it_has_now(service: Service) -> None:
    await service.make_user("bob")
    ada = await service.make_user()
    await erase(service, service.tokens.issue(ada.id, ()))
    signup = "mutation ($i: SignupInput!) { signup(input: $i) { __typename ... on User { username } ... on InvalidInput { path } } }"
    for username in (f"deleted-{ada.id}", "Deleted-1"):
        refused = await service.ask(signup, {"i": {"username": username, "password": PASSWORD}})
        assert refused["signup"] == {"__typename": "InvalidInput", "path": ["username"]}
    made = await service.ask(signup, {"i": {"username": "Ada", "password": PASSWORD}})
    assert made["signup"] == {"__typename": "User", "username": "Ada"}
    admin = await service.sign_in(username="admin")
    for mutation in ("reactivateUser", "deactivateUser"):
        answer = await service.ask(f'mutation {{ {mutation}(username: "deleted-{ada.id}") {{ __typename }} }}', token=admin)
        assert answer[mutation] == {"__typename": "NotFound"}


def test_is_forgotten_by_every_table_that_refers_to_users() -> None:
    """A new one declares that its rows go with the account, or has a line in `persistence.erasure` or a reason why its rows may stay: then it is named here."""
    columns = [key.parent for table in Base.metadata.sorted_tables for key in table.foreign_keys if key.column.table.name == "users"]
    others = {column.table.name for column in columns if column.info != ERASED_WITH_USER}
    forgotten = {"stored_files", "items"}
    without_a_name = {"purchases", "audit_entries"}
    assert others == forgotten | without_a_name, "say what an erased account leaves: mapped_column(…, info=ERASED_WITH_USER)"


async def test_takes_the_password(service: Service) -> None:
    ada = await service.make_user("ada", (Scope.ITEMS_READ,))
    token = service.tokens.issue(ada.id, ())
    before = await everything(service)
    for password in ("wrong password", "", PASSWORD + " ", "x" * 5_000):
        refused = await erase(service, token, password)
        assert (refused["__typename"], refused["code"]) == ("InvalidCredentials", "INVALID_CREDENTIALS")
    assert await service.refused(ERASE, {"password": PASSWORD}) == "UNAUTHENTICATED"
    assert await everything(service) == before


async def test_is_not_that_of_the_last_administrator(service: Service) -> None:
    await service.make_user("reader", (Scope.ITEMS_READ,))
    ada = await service.make_user("ada", (Scope.USERS_WRITE,))
    token = service.tokens.issue(ada.id, ())
    before = await everything(service)
    refused = await erase(service, token)
    assert (refused["__typename"], refused["code"]) == ("LastAdministrator", "LAST_ADMINISTRATOR")
    assert await everything(service) == before
    bob = service.tokens.issue((await service.make_user("bob", (Scope.USERS_WRITE,))).id, ())
    outcomes = [answer["__typename"] for answer in await asyncio.gather(erase(service, token), erase(service, bob))]
    assert sorted(outcomes) == ["DeletedUser", "LastAdministrator"]


async def test_ends_its_subscriptions(service: Service) -> None:
    await service.make_user("bob")
    await service.make_user()
    token = (await log_in(service))["accessToken"]
    async with listening(service, ECHO, {"channel": "room"}, token=token) as listener:
        await erase(service, token)
        async with asyncio.timeout(30):
            await listener.socket.wait_closed()
        assert (listener.socket.close_code, listener.socket.close_reason) == (4403, "Token revoked")


async def test_is_erased_once_when_that_is_asked_twice_at_once(service: Service) -> None:
    ada = await service.make_user()
    await service.make_user("admin")
    token = service.tokens.issue(ada.id, ())
    answers = [(await answer).json() for answer in [service.send(ERASE, {"password": PASSWORD}, token=token) for _ in range(2)]]
    assert [answer["data"]["deleteMe"]["__typename"] for answer in answers if "data" in answer] == ["DeletedUser"]
    gathered = await service.make_user("bob")
    token = service.tokens.issue(gathered.id, ())
    both = await asyncio.gather(*(service.send(ERASE, {"password": PASSWORD}, token=token) for _ in range(2)))
    found = sorted(answer.json()["data"]["deleteMe"]["__typename"] if "data" in answer.json() else "refused" for answer in both)
    assert found in (["DeletedUser", "InvalidCredentials"], ["DeletedUser", "refused"])
    async with service.database.reading() as session:
        deleted = (await session.scalars(select(AuditEntry.subject_id).where(AuditEntry.action == "user.deleted"))).all()
    assert set(deleted) == {ada.id, gathered.id}
    assert len(deleted) == 2


async def test_gets_neither_a_login_nor_a_file_by_what_began_before(service: Service) -> None:
    ada = await service.make_user()
    await service.make_user("admin")
    verified = await logins.authenticate(service.database, "ada", PASSWORD)
    await erase(service, service.tokens.issue(ada.id, ()))
    before = await everything(service)
    with pytest.raises(logins.InvalidCredentials):
        async with service.database.transaction() as work:
            await logins.begin(work, verified, scopes=None)
    with pytest.raises(NotFound):
        async with service.database.transaction() as work:
            await files.add(work, "late.txt", StoredBlob("0" * 32, 1, "0" * 64, b"x"), owner_id=ada.id)
    assert await everything(service) == before


async def test_is_removed_later_from_a_store_that_is_away(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is gone at once; what could not be deleted is deleted when it can be."""
    monkeypatch.setattr(erasure, "WAIT_SECONDS", 0.0)
    await service.make_user("admin")
    token = service.tokens.issue((await service.make_user()).id, tuple(Scope))
    await upload(service, token, "plan.txt", b"a plan", "k")
    blobs: Blobs = service.services.ports[Blobs]
    delete, failures = blobs.delete, list[str]()

    async def failing(key: str) -> None:
        if not failures:
            failures.append(key)
            raise TimeoutError
        await delete(key)

    monkeypatch.setattr(blobs, "delete", failing)
    assert (await erase(service, token))["__typename"] == "DeletedUser"
    assert not await is_good(service, token)
    await service.background_done()
    assert len(failures) == 1
    assert not any(path.is_file() for path in service.folder.rglob("*"))
